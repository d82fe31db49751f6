// Ties the page together: which key or button does what, and the start.

import "./pointer.js";
import { byId } from "./dom.js";
import { get, Problem } from "./api.js";
import { actOnDraft, startDraft, useSelection } from "./draft.js";
import { decide, edit, goBack } from "./edits.js";
import { filter, nextUnreviewed, open, search, show, step } from "./examples.js";
import { catchUp, listenToSaveAs, save, sayCarried, showBanner, showFile } from "./file.js";
import { fillHelp, listen } from "./keys.js";
import { List } from "./list.js";
import { page } from "./page.js";
import { reportTo, run, say } from "./run.js";
import { draw, moveTo } from "./show.js";
import * as text from "./text.js";

const actions = {
  next: () => step(1), previous: () => step(-1), unreviewed: nextUnreviewed,
  done: () => edit({ kind: "done", done: !page.example.done }),
  down: () => moveTo(page.active + 1), up: () => moveTo(page.active - 1),
  accept: () => decide("accept"), reject: () => decide("reject"), change: startDraft,
  "accept-all": () => edit({ kind: "accept_all" }),
  effect: () => useSelection("effect"), cause: () => useSelection("cause"),
  commit: () => (page.draft ? actOnDraft("commit") : false),
  cancel: () => { byId("list-pane").classList.remove("open"); getSelection().removeAllRanges(); actOnDraft("cancel"); },
  undo: () => goBack("undo"), redo: () => goBack("redo"), save,
  filter: () => { byId("list-pane").classList.add("open"); filter.toggle(); },
  search: () => { byId("list-pane").classList.add("open"); byId("search").select(); },
  help: () => byId("keys").showModal(),
  word: (event) => {
    const by = (event.key === "ArrowRight" ? 1 : -1) * (text.readsLeftwards() ? -1 : 1);
    if (event.altKey && event.shiftKey) text.stretchByCharacter(by);
    else if (event.altKey || event.ctrlKey || event.metaKey) return false;
    else text.moveCursor(by, event.shiftKey);
    return true;
  },
};
const ALWAYS = new Set(["filter", "search", "help", "save", "cancel"]);
const NOT_WHILE_DRAFTING = new Set(["done", "accept", "reject", "accept-all", "change", "redo"]);

function perform(name, event) {
  if (!page.example && !ALWAYS.has(name)) return false;
  if (page.draft && NOT_WHILE_DRAFTING.has(name)) return say("Finish the link first: keep it (Enter) or leave it (Esc).", true);
  return actions[name](event);
}

page.list = new List(open);
page.act = (name) => perform(name);
page.actOnDraft = actOnDraft;
reportTo((problem) => {
  if (!(problem instanceof Problem)) throw problem;
  if (problem.kind === "changed" || problem.kind === "gone") showBanner(problem.kind === "changed", problem.message);
  else say(problem.message, true);
});
listen(perform);
fillHelp();
listenToSaveAs();
for (const name of ["previous", "next", "unreviewed", "done", "undo", "redo", "save", "help", "accept-all"]) {
  byId(name).addEventListener("click", (event) => perform(name, event));
}
byId("toggle-list").addEventListener("click", () => {
  const opened = byId("list-pane").classList.toggle("open");
  byId("toggle-list").setAttribute("aria-expanded", String(opened));
});

new ResizeObserver(draw).observe(byId("canvas"));
document.fonts.ready.then(draw);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && page.example) run(catchUp);
});

run(async () => {
  const wanted = Number(/^#(\d+)$/.exec(location.hash)?.[1] ?? -1);
  history.replaceState(null, "", `/${location.hash}`); // the token has been exchanged for a cookie
  showFile(await get("/api/document"));
  sayCarried(page.file);
  await search();
  await show(wanted >= 0 && wanted < page.file.examples ? wanted : page.list.order[0] ?? 0);
});
