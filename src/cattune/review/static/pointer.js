// The pointer: over a link its words light up; a click takes it in hand; a selection offers what it can become.

import { byId } from "./dom.js";
import { useSelection } from "./draft.js";
import { linkAt } from "./marks.js";
import { page } from "./page.js";
import { draw, moveTo } from "./show.js";
import * as text from "./text.js";

const links = byId("links");
links.addEventListener("pointerover", (event) => hover(placeOf(event.target)));
links.addEventListener("pointerleave", () => hover(null));
links.addEventListener("pointerdown", choose);
links.addEventListener("focusin", choose);

function placeOf(target) {
  const place = target.closest?.("[data-place]")?.dataset.place;
  return place === undefined ? null : Number(place);
}

function choose({ target }) {
  const place = placeOf(target);
  if (place === null || place === page.active) return;
  page.active = place;
  for (const card of links.querySelectorAll("[data-place]")) {
    const here = Number(card.dataset.place) === place;
    card.classList.toggle("active", here);
    card.tabIndex = here ? 0 : -1;
  }
  draw();
  const { link } = page.items[place];
  if (link) text.reveal(text.rangeOf(link.effect));
}

function hover(place) {
  if (place === page.hovered) return;
  page.hovered = place;
  draw();
}

const chooser = byId("chooser");
const canvas = byId("canvas");
canvas.addEventListener("pointermove", ({ clientX, clientY, buttons }) => {
  if (!buttons) hover(linkAt(clientX, clientY)?.place ?? null);
});
canvas.addEventListener("pointerleave", () => hover(null));
canvas.addEventListener("click", ({ clientX, clientY }) => {
  const place = linkAt(clientX, clientY)?.place;
  if (place !== undefined && getSelection().isCollapsed && !page.draft) moveTo(place, false);
});
canvas.addEventListener("pointerdown", () => text.dropCursor());
document.addEventListener("selectionchange", () => {
  const { span } = text.selected();
  chooser.hidden = !span;
  if (!span) return;
  const box = getSelection().getRangeAt(0).getBoundingClientRect();
  chooser.style.left = `${Math.max(8, Math.min(innerWidth - chooser.offsetWidth - 8, (box.left + box.right - chooser.offsetWidth) / 2))}px`;
  const below = Math.min(box.bottom + 8, innerHeight - chooser.offsetHeight - 8);
  chooser.style.top = `${below}px`;
});
chooser.addEventListener("pointerdown", (event) => event.preventDefault()); // or the selection would be gone
chooser.addEventListener("click", ({ target }) => {
  const { role } = target.closest("button").dataset;
  useSelection(role);
});
byId("text").addEventListener("scroll", () => { chooser.hidden = true; }, { passive: true });
