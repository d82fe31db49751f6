// Puts the example on the page, and takes links in hand.

import { byId, count } from "./dom.js";
import { itemsOf, showDraft, showLinks } from "./links.js";
import { drawMarks } from "./marks.js";
import { page, trail } from "./page.js";
import * as text from "./text.js";

/** Show the example as it is now. */
export function render() {
  page.items = itemsOf(page.example);
  page.active = Math.max(0, Math.min(page.active, page.items.length - 1));
  byId("name").firstElementChild.textContent = page.example.id;
  byId("reviewed").hidden = !page.example.reviewed;
  byId("done").setAttribute("aria-pressed", String(page.example.done));
  byId("undo").disabled = !page.example.can_undo && !trail().undo.length;
  byId("redo").disabled = !page.example.can_redo && !trail().redo.length;
  byId("accept-all").disabled = !page.example.links.some(({ status }) => status !== "accepted");
  const metadata = byId("metadata");
  metadata.hidden = !Object.keys(page.example.metadata).length;
  metadata.querySelector("pre").textContent = JSON.stringify(page.example.metadata, null, 2);
  byId("links-pane").classList.toggle("drafting", page.draft !== null);
  showDraft(page.draft, page.actOnDraft);
  showLinks(page.items, page.active, page.act);
  showPosition();
  draw();
}

/** Draw the links in the text again. */
export function draw() {
  if (!page.example) return;
  const shown = page.hovered ?? page.active;
  const marks = page.items.flatMap((item, place) => {
    const here = place === shown && !page.draft;
    if (!item.link || (item.kind === "rejected" && !here) || (page.draft && item.kind === "link" && item.index === page.draft.link)) return [];
    return [{ ...item.link, place, number: item.number, className: `${item.className} ${item.kind === "link" ? item.link.status : ""}`, active: here, dim: !here }];
  });
  if (page.draft) {
    const spans = page.draft.effect ? [] : page.draft.causes.slice(0, 1);
    marks.push({ effect: page.draft.effect ?? spans[0], causes: page.draft.causes, className: page.draft.effect ? "drafted" : "drafted open", active: true });
  }
  drawMarks(marks.filter(({ effect }) => effect));
}

/** Take another link in hand. */
export function moveTo(place, focus = byId("links").contains(document.activeElement)) {
  if (!page.items.length) return;
  page.active = Math.max(0, Math.min(page.items.length - 1, place));
  page.hovered = null;
  render();
  revealActive(focus);
}

/** Bring the link in hand into view, in the list and in the text. */
export function revealActive(focus) {
  const element = byId("links").querySelector(`[data-place="${page.active}"]`);
  element?.scrollIntoView({ block: "nearest" });
  if (focus) element?.focus({ preventScroll: true });
  const link = page.items[page.active]?.link;
  if (link) text.reveal(text.rangeOf(link.effect));
}

/** Where the example stands in what was found. */
export function showPosition() {
  const place = page.list.placeOf(page.example?.index);
  byId("position").textContent = place < 0 ? "–" : `${count(place + 1)} / ${count(page.list.order.length)}`;
}
