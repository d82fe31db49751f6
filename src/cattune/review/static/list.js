// The list of examples: only the rows in view exist, so that a hundred thousand cost no more than twenty.

import { byId, count, make } from "./dom.js";
import { get } from "./api.js";

const ROW = 62; // pixels; style.css has the same
const TALLEST = 8_000_000; // browsers do not draw taller boxes
const CHUNK = 60;

export class List {
  constructor(open) {
    this.box = byId("list");
    this.inner = make("div", { className: "rows" });
    this.box.replaceChildren(this.inner);
    this.order = [];
    this.rows = new Map(); // by the example's index
    this.asked = new Set();
    this.current = null;
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.box.addEventListener("click", (event) => {
      const row = event.target.closest("[data-index]");
      if (row) open(Number(row.dataset.index));
    });
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** Show these examples, in this order; rows are asked for anew. */
  setOrder(order) {
    this.order = order;
    this.places = null;
    this.forget();
    this.inner.style.height = `${this.height()}px`;
    this.box.scrollTop = 0;
    this.reveal();
    this.draw();
  }

  forget() {
    this.rows.clear();
    this.asked.clear();
  }

  /** Take a row's news. */
  setRow(row) {
    this.rows.set(row.index, row);
    this.draw();
  }

  select(index) {
    this.current = index;
    this.reveal();
    this.draw();
  }

  /** The place of an example in the order, or -1. */
  placeOf(index) {
    this.places ??= new Map(this.order.map((example, place) => [example, place]));
    return this.places.get(index) ?? -1;
  }

  height() { return Math.min(TALLEST, this.order.length * ROW); }

  /** Pixels of the whole list for one pixel of the scroll bar: 1, but for very long lists. */
  stretch() {
    const view = this.box.clientHeight, height = this.height();
    return height > view ? (this.order.length * ROW - view) / (height - view) : 1;
  }

  reveal() {
    const place = this.placeOf(this.current);
    if (place < 0) return;
    const stretch = this.stretch(), view = this.box.clientHeight;
    const top = this.box.scrollTop * stretch, row = place * ROW;
    if (row < top) this.box.scrollTop = row / stretch;
    else if (row + ROW > top + view) this.box.scrollTop = (row + ROW - view) / stretch;
  }

  draw() {
    const scrolled = this.box.scrollTop, top = scrolled * this.stretch();
    const first = Math.max(0, Math.floor(top / ROW) - 3);
    const last = Math.min(this.order.length, Math.ceil((top + this.box.clientHeight) / ROW) + 3);
    const shown = [];
    for (let place = first; place < last; place++) {
      const element = this.row(this.order[place], place);
      element.style.transform = `translateY(${scrolled + place * ROW - top}px)`;
      shown.push(element);
    }
    this.inner.replaceChildren(...shown);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(first, last), 25); // not for rows that only fly past
  }

  row(index, place) {
    const row = this.rows.get(index), chosen = index === this.current;
    const element = make("div", {
      className: row ? "item" : "item waiting", role: "option", id: `row-${index}`, "data-index": index,
      "aria-selected": String(chosen), "aria-posinset": place + 1, "aria-setsize": this.order.length,
    });
    if (chosen) this.box.setAttribute("aria-activedescendant", element.id);
    if (!row) return element;
    element.append(
      make("div", { className: "item-head" },
        make("bdi", { className: "item-id", title: row.id }, shortened(row.id)),
        row.unsaved ? make("span", { className: "dot", title: "not saved yet" }) : "",
        state(row)),
      make("div", { className: "item-text" },
        make("span", { className: "item-prompt", dir: "auto" }, row.text), make("span", { "aria-hidden": "true" }, "→"),
        make("span", { className: "item-answer", dir: "auto" }, row.completion)));
    return element;
  }

  async ask(first, last) {
    const wanted = this.order.slice(Math.max(0, first - CHUNK / 3), last + CHUNK / 3)
      .filter((index) => !this.rows.has(index) && !this.asked.has(index));
    if (!wanted.length) return;
    const asked = this.asked;
    for (const index of wanted) asked.add(index);
    try {
      const { rows } = await get("/api/rows", { of: wanted.join(",") });
      for (const row of rows) if (!this.rows.has(row.index)) this.rows.set(row.index, row);
      this.draw();
    } catch {
      for (const index of wanted) asked.delete(index); // asked for again when the list next moves
    }
  }
}

/** An id without its middle: what tells one from the next is at its ends. */
function shortened(id) {
  const points = [...id];
  return points.length <= 26 ? id : `${points.slice(0, 8).join("")}…${points.slice(-16).join("")}`;
}

/** A few words on a row's links, in shape as well as in colour. */
function state(row) {
  const parts = [];
  if (row.proposed) parts.push(make("span", { className: "proposed", title: `${count(row.proposed)} proposed` }, `○ ${count(row.proposed)}`));
  if (row.accepted) parts.push(make("span", { className: "accepted", title: `${count(row.accepted)} accepted` }, `✓ ${count(row.accepted)}`));
  if (row.refused) parts.push(make("span", { className: "refused", title: `${count(row.refused)} rejected or refused` }, `✕ ${count(row.refused)}`));
  if (row.score !== null && row.score < 1) parts.push(make("span", { title: "lowest score" }, row.score.toFixed(2)));
  if (!parts.length) parts.push("no links");
  return make("span", { className: row.reviewed ? "item-state reviewed" : "item-state" }, ...parts);
}
