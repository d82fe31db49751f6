// The fields of an example. Each is one text node, so that a selection's offsets are offsets in the field; the colours
// are drawn behind it (marks.js) and split nothing.

import { byId, make } from "./dom.js";
import { counter, tidy } from "./units.js";

let fields = []; // {name, text, node, counter}
let words = []; // {field, start, end} in units, over all fields
let cursor = null; // {anchor, focus}: indices into words

export function showFields(example) {
  cursor = words = null;
  fields = example.fields.map(({ name, label, text }, place) => {
    const node = document.createTextNode(text);
    const last = place === example.fields.length - 1;
    const box = make("div", { className: last ? "field completion" : "field" },
      make("div", { className: "label" }, last && label !== "completion" ? `${label} · completion` : label),
      make("div", { className: "body", dir: "auto" }, node));
    return { name, text, node, box, counter: counter(text) };
  });
  byId("fields").replaceChildren(...fields.map((field) => field.box));
}

/** The DOM range of a span of the file. */
export function rangeOf(span) {
  const field = fields.find(({ name }) => name === span.field);
  const range = document.createRange();
  range.setStart(field.node, field.counter.units(span.start));
  range.setEnd(field.node, field.counter.units(span.end));
  return range;
}

/** What is selected: {span}, or {problem} in words, or {} where nothing of the text is. */
export function selected() {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return {};
  const range = selection.getRangeAt(0);
  const parts = fields.map((field) => part(field, range)).filter(Boolean);
  if (!parts.length) return {};
  if (parts.length > 1) return { problem: "A span lies within one field; the selection runs over several." };
  const [{ field, start, end }] = parts;
  return { span: { field: field.name, start: field.counter.points(start), end: field.counter.points(end), text: field.text.slice(start, end) } };
}

function part(field, range) {
  const { node, text } = field;
  if (!range.intersectsNode(node)) return null;
  const { start, end } = tidy(text,
    range.startContainer === node ? range.startOffset : 0,
    range.endContainer === node ? range.endOffset : endBeyond(range, node) ? text.length : 0);
  return start < end ? { field, start, end } : null;
}

const endBeyond = (range, node) => range.comparePoint(node, node.length) <= 0;

/** Move the word cursor by words, or stretch the selection; `by` is in the direction of reading. */
export function moveCursor(by, stretch) {
  words ??= segmented();
  if (!words.length) return;
  const last = words.length - 1;
  if (!cursor) {
    cursor = startingWord(by);
  } else if (stretch) {
    const next = Math.min(last, Math.max(0, cursor.focus + by));
    if (words[next].field === words[cursor.anchor].field) cursor.focus = next;
  } else {
    const next = Math.min(last, Math.max(0, cursor.focus + by));
    cursor = { anchor: next, focus: next };
  }
  const [from, to] = [Math.min(cursor.anchor, cursor.focus), Math.max(cursor.anchor, cursor.focus)];
  const range = document.createRange();
  range.setStart(words[from].field.node, words[from].start);
  range.setEnd(words[to].field.node, words[to].end);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
  reveal(range);
}

/** Shorten or lengthen the selection by one character at its end. */
export function stretchByCharacter(by) {
  if (getSelection().isCollapsed) return moveCursor(by, false);
  getSelection().modify("extend", by > 0 ? "forward" : "backward", "character");
}

/** Forget where the word cursor is: the next step starts at what is selected. */
export const dropCursor = () => { cursor = null; };

/** Whether the text at the selection, or else the first field, reads from right to left. */
export function readsLeftwards() {
  const at = getSelection().anchorNode;
  const field = fields.find(({ node }) => node === at) ?? fields[0];
  return getComputedStyle(field.node.parentElement).direction === "rtl";
}

/** Scroll a range of the text into view, if it is not. */
export function reveal(range) {
  const frame = byId("text"), box = range.getBoundingClientRect(), view = frame.getBoundingClientRect();
  const top = Math.max(view.top, 0) + 30, bottom = Math.min(view.bottom, innerHeight) - 30;
  if (box.top < top) frame.scrollBy({ top: box.top - top });
  else if (box.bottom > bottom) frame.scrollBy({ top: Math.min(box.bottom - bottom, box.top - top) });
}

function startingWord(by) {
  const selection = getSelection();
  const at = words.findIndex(({ field, start, end }) =>
    field.node === selection.anchorNode && end > selection.anchorOffset && start <= selection.anchorOffset);
  const first = at >= 0 ? at : by > 0 ? 0 : words.length - 1;
  return { anchor: first, focus: first };
}

function segmented() {
  const segmenter = globalThis.Intl?.Segmenter && new Intl.Segmenter(undefined, { granularity: "word" });
  const found = [];
  for (const field of fields) {
    const pieces = segmenter && field.text.length < 200_000
      ? Array.from(segmenter.segment(field.text), ({ segment, index }) => [segment, index])
      : Array.from(field.text.matchAll(/\S+/gu), (match) => [match[0], match.index]);
    for (const [piece, start] of pieces) {
      if (piece.trim() && !/^\p{P}+$/u.test(piece)) found.push({ field, start, end: start + piece.length });
    }
  }
  return found;
}
