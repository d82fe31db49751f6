// The head of the page: progress, saving, and what to do when the file has changed on the disk.

import { byId, count, make } from "./dom.js";
import { get, post } from "./api.js";
import { filter, forget, refresh, search, show } from "./examples.js";
import { page } from "./page.js";
import { run, say } from "./run.js";

/** Take what the server says of the file. */
export function showFile(state) {
  const sources = page.file.sources?.join("\n") !== state.sources.join("\n");
  page.file = state;
  document.title = `${state.unsaved ? "• " : ""}${state.file} · cattune review`;
  byId("file").textContent = state.file;
  byId("file").title = state.path;
  byId("progress").max = state.examples;
  byId("progress").value = state.reviewed;
  byId("progress-text").textContent = `${count(state.reviewed)} of ${count(state.examples)} reviewed`;
  const aside = state.set_aside ? `${count(state.set_aside)} set aside` : "";
  byId("unsaved").textContent = [state.unsaved ? `${count(state.unsaved)} unsaved` : aside ? "" : "all saved", aside].filter(Boolean).join(", ");
  byId("save").disabled = !state.unsaved;
  if (sources) filter.build(state.sources);
  if (state.changed_on_disk) showBanner(true, `${state.file} was changed, moved or deleted by another program. It will not be overwritten.`);
  else if (byId("banner").dataset.disk) byId("banner").hidden = true;
}

/** Words that stay until they are dealt with; `disk`: the file has changed, with the two ways on. */
export function showBanner(disk, words) {
  const banner = byId("banner");
  banner.dataset.disk = disk ? "yes" : "";
  banner.replaceChildren(make("span", {}, words));
  const choices = disk
    ? [["Reload and keep my edits", reload], ["Save under another name…", askName]]
    : [["Close", () => { banner.hidden = true; }]];
  banner.append(...choices.map(([label, onclick]) => make("button", { type: "button", onclick }, label)));
  banner.hidden = false;
}

export function save() {
  return run(async () => {
    if (!page.file.unsaved) return say("Nothing to save.");
    await afterSaving(await post("/api/save"));
  });
}

async function afterSaving({ saved, document: state }) {
  byId("banner").hidden = true;
  showFile(state);
  say(`Saved ${examples(saved)} to ${state.file}.`);
  await refresh();
}

function reload() {
  return run(async () => {
    const { document: state } = await post("/api/reload");
    byId("banner").hidden = true;
    await showAnew(state);
  });
}

/** Show a file that was read anew: an index may mean another example now. */
async function showAnew(state) {
  forget();
  showFile(state);
  sayCarried(state);
  await search();
  await show(Math.min(page.example?.index ?? 0, state.examples - 1), true);
}

/** Show what other tabs, or other people, have done in the meantime. */
export async function catchUp() {
  const state = await get("/api/document");
  if (state.reading !== page.file.reading) return showAnew(state);
  showFile(state);
  return refresh();
}

/** Say what became of edits that were not saved. */
export function sayCarried({ carried_over: carried }) {
  const torn = carried.torn ? "The last edit in the journal was cut short, as by a crash while it was written, and is left out. " : "";
  const aside = carried.set_aside ? `${examples(carried.set_aside)} (${carried.names}) changed in the file since: your versions are in ${carried.path}.` : "";
  if (torn || aside) showBanner(false, `${torn}${carried.applied ? `The unsaved edits of ${examples(carried.applied)} are in force again. ` : ""}${aside}`);
  else if (carried.applied) say(`The unsaved edits of ${examples(carried.applied)} are in force again.`);
}

const examples = (number) => `${count(number)} ${number === 1 ? "example" : "examples"}`;

function askName() {
  const dialog = byId("save-as"), form = dialog.querySelector("form");
  form.elements.name.value = page.file.file.replace(/(\.jsonl)?$/, "-reviewed.jsonl");
  form.querySelector(".error").textContent = "";
  dialog.showModal();
}

/** Let the dialog for another name save. */
export function listenToSaveAs() {
  const dialog = byId("save-as");
  dialog.querySelector("[value=cancel]").addEventListener("click", () => dialog.close());
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    run(async () => {
      try {
        const answer = await post("/api/save-as", { name: event.target.elements.name.value });
        dialog.close();
        await afterSaving(answer);
      } catch (problem) {
        dialog.querySelector(".error").textContent = problem.message;
      }
    });
  });
}
