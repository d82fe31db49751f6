// Which examples are found, and which of them is open.

import { byId, count } from "./dom.js";
import { get } from "./api.js";
import { Filter } from "./filter.js";
import { itemsOf } from "./links.js";
import { page } from "./page.js";
import { run, say } from "./run.js";
import { render, revealActive, showPosition } from "./show.js";
import * as text from "./text.js";

const cache = new Map(); // the examples beside the one that is open
export const filter = new Filter(() => find());

/** Ask which examples the filter lets through, and list them. */
export async function search() {
  const query = filter.query();
  const { order, counts } = await get("/api/examples", query);
  page.list.setOrder(order);
  filter.showCounts(counts);
  byId("found").textContent = order.length === page.file.examples ? `${count(order.length)} examples` : `${count(order.length)} of ${count(page.file.examples)} examples`;
  showPosition();
}

/** Search, and open the first one found unless the open one is among them. */
export function find() {
  return run(async () => {
    await search();
    if (page.list.order.length && page.list.placeOf(page.example?.index) < 0) await show(page.list.order[0]);
  });
}

function fetchExample(index, fresh) {
  if (fresh || !cache.has(index)) {
    cache.set(index, get(`/api/examples/${index}`).then((body) => body.example));
    cache.get(index).catch(() => cache.delete(index));
    if (cache.size > 12) cache.delete(cache.keys().next().value);
  }
  return cache.get(index);
}

/** Open an example; `fresh`: ask for it even if it is held already. */
export async function show(index, fresh = false) {
  put(await fetchExample(index, fresh));
  for (const by of [1, -1]) {
    const beside = page.list.order[page.list.placeOf(index) + by];
    if (beside !== undefined && page.list.placeOf(index) >= 0) fetchExample(beside).catch(() => {});
  }
}

/** Show an example, whichever was open. */
function put(found) {
  const old = page.example, same = old && old.index === found.index && old.id === found.id && JSON.stringify(found.fields) === JSON.stringify(old.fields);
  if (!same) page.hovered = null;
  // A link that is being corrected is known by its number, which another edit may have given to another link.
  if (page.draft && !(same && (page.draft.link === null || found.version === old.version))) {
    page.draft = null;
    say("The link that was being made is left.");
  }
  page.example = found;
  history.replaceState(null, "", `/#${found.index}`);
  if (!same) {
    text.showFields(page.example);
    byId("text").scrollTop = byId("links-pane").scrollTop = 0;
    page.active = Math.max(0, itemsOf(page.example).findIndex(({ link, kind }) => kind === "link" && link.status === "proposed"));
  }
  page.list.select(found.index);
  render();
  if (!same) revealActive(false);
}

/** Take what the server says of the example that is open, after an edit of it. */
export function take(example) {
  cache.set(example.index, Promise.resolve(example));
  if (page.draft) page.example.version = example.version; // the edit is the draft's own
  put(example);
}

/** Forget the examples that are held: the file was read again, and they may have changed. */
export const forget = () => cache.clear();

/** Ask for what is shown anew, as another tab may have edited it. */
export async function refresh() {
  forget();
  page.list.forget();
  page.list.draw();
  if (page.example) await show(page.example.index, true);
}

export function open(index) {
  byId("list-pane").classList.remove("open");
  return run(() => show(index));
}

export function step(by) {
  return run(async () => {
    const place = page.list.placeOf(page.example?.index), next = page.list.order[place < 0 ? 0 : place + by];
    if (next === undefined) say(by > 0 ? "This is the last one found." : "This is the first one found.");
    else await show(next);
  });
}

export function nextUnreviewed() {
  return run(async () => {
    const { next } = await get("/api/next", { ...filter.query(), after: page.example?.index ?? 0 });
    if (next === null) return say("No other example here is left to review.");
    if (page.list.placeOf(next) < 0) await search();
    await show(next);
  });
}
