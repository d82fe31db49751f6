// Colours behind the words of a link, and curves from its causes to its effect, drawn from where the browser has put
// the words: line breaks, directions and fonts need no thought here.

import { byId, shape } from "./dom.js";
import { rangeOf } from "./text.js";

const COLOURS = 6;
const GUTTER = 6; // pixels from the text to the first lane of curves, and from there to the next
const LANES = 3;
const CORNER = 5;
const MOST_CURVES = 8; // with more links than these, only the one in hand has curves
let boxes = []; // {link, left, top, right, bottom}, to find the link under the pointer

export const colour = (index) => `link-${index % COLOURS}`;

/** Draw links: [{effect, causes, className, active, dim, number}], the active one last, on top of the others. */
export function drawMarks(links) {
  const canvas = byId("canvas"), origin = canvas.getBoundingClientRect();
  const behind = byId("marks"), above = byId("curves");
  const size = { width: canvas.offsetWidth, height: canvas.offsetHeight };
  for (const layer of [behind, above]) {
    layer.replaceChildren();
    for (const [name, value] of Object.entries(size)) layer.setAttribute(name, value);
  }
  boxes = [];
  const taken = new Map(); // how many numbers stand at one place
  const drawn = new Set(); // boxes of links that are not in hand: several on one place would add up to a dark one
  const crowded = links.length > MOST_CURVES;
  const text = byId("fields").querySelector(".body")?.getBoundingClientRect() ?? origin;
  const edges = { left: text.left - origin.left, right: text.right - origin.left };
  for (const link of [...links].sort((a, b) => Number(a.active) - Number(b.active))) {
    const group = shape("g", { class: classes(link) }, behind);
    const effect = rectangles(link.effect, origin);
    const causes = link.causes.map((cause) => rectangles(cause, origin));
    for (const rects of causes) for (const rect of rects) drawSpan(group, "cause", rect, link, drawn);
    for (const rect of effect) drawSpan(group, "effect", rect, link, drawn);
    if (!effect.length) continue;
    if (!crowded || link.active) { // behind the letters
      for (const rects of causes) if (rects.length) drawCurve(group, rects, effect[0], lanes(edges, link));
    }
    if (link.number) drawNumber(shape("g", { class: classes(link) }, above), effect[0], link, taken);
  }
}

/** The link that is drawn at a point of the window, or undefined; of several, the one with the smallest box. */
export function linkAt(x, y) {
  const origin = byId("canvas").getBoundingClientRect();
  const [left, top] = [x - origin.left, y - origin.top];
  const hits = boxes.filter((box) => box.left <= left && left <= box.right && box.top <= top && top <= box.bottom);
  return hits.sort((a, b) => a.right - a.left - (b.right - b.left))[0]?.link;
}

const classes = (link) => ["mark", link.className, link.active ? "active" : "", link.dim ? "dim" : ""].join(" ");

/** The boxes of a span, one a line and direction, relative to the canvas. */
function rectangles(span, origin) {
  const found = [];
  for (const rect of rangeOf(span).getClientRects()) {
    if (rect.width < 0.5) continue;
    const box = { left: rect.left - origin.left, right: rect.right - origin.left, top: rect.top - origin.top, bottom: rect.bottom - origin.top };
    const last = found.at(-1);
    if (last && Math.abs(last.top - box.top) < 2 && box.left - last.right < 1.5 && last.left - box.right < 1.5) {
      last.left = Math.min(last.left, box.left);
      last.right = Math.max(last.right, box.right);
    } else {
      found.push(box);
    }
  }
  return found;
}

function drawSpan(group, role, rect, link, drawn) {
  boxes.push({ link, left: rect.left - 3, right: rect.right + 3, top: rect.top - 3, bottom: rect.bottom + 4 });
  const key = `${role} ${Math.round(rect.left)} ${Math.round(rect.right)} ${Math.round(rect.top)}`;
  if (link.dim && drawn.has(key)) return;
  drawn.add(key);
  const pad = role === "cause" ? 2 : 3;
  shape("rect", { class: role, x: rect.left - pad, y: rect.top - 1, width: rect.right - rect.left + 2 * pad, height: rect.bottom - rect.top + 3, rx: 4 }, group);
  if (role === "cause") shape("path", { class: "under", d: `M${rect.left - 1} ${rect.bottom + 2.5}H${rect.right + 1}` }, group);
}

/** Where a link's curves run beside the text: [left, right]. */
function lanes({ left, right }, { number = 0 }) {
  const away = GUTTER * (1 + (number % LANES));
  return [left - away, right + away];
}

/** From the middle of the cause's box that is nearest to the effect, into the effect, between the lines of the text. */
function drawCurve(group, rects, effect, sides) {
  const cause = rects.reduce((best, rect) => (far(rect, effect) < far(best, effect) ? rect : best));
  const from = (cause.left + cause.right) / 2, to = (effect.left + effect.right) / 2;
  const level = Math.abs(cause.top - effect.top) < (effect.bottom - effect.top) / 2;
  let path, end;
  if (level) {
    const rise = Math.min(10, 4 + Math.abs(to - from) * 0.03); // no higher than the gap above the line
    end = effect.top - 3;
    path = `M${from} ${cause.top - 2}C${from} ${cause.top - rise - 6} ${to} ${end - rise - 6} ${to} ${end}`;
  } else {
    const down = cause.top < effect.top;
    const begin = down ? cause.bottom + 3 : cause.top - 3;
    end = down ? effect.top - 3 : effect.bottom + 3;
    const bend = (end - begin) * 0.55, [near, far] = [...sides].sort((a, b) => detour(from, to, a) - detour(from, to, b));
    const between = Math.abs(end - begin) > effect.bottom - effect.top; // lines that a curve would cross
    path = between ? aside(from, begin, to, end, near ?? far) : `M${from} ${begin}C${from} ${begin + bend} ${to} ${end - bend} ${to} ${end}`;
  }
  const point = level || cause.top < effect.top ? -5 : 5;
  shape("path", { class: "curve", d: path }, group);
  shape("path", { class: "point", d: `M${to - 4} ${end + point}L${to} ${end + (point < 0 ? 0.5 : -0.5)}L${to + 4} ${end + point}` }, group);
}

const detour = (from, to, side) => Math.abs(from - side) + Math.abs(to - side);

/** Past other lines: through the gap between two lines, along the margin, and through another gap, not over the words. */
function aside(from, begin, to, end, margin) {
  const down = Math.sign(end - begin), out = Math.sign(margin - from) * CORNER, back = Math.sign(to - margin) * CORNER;
  const first = begin + 3 * down, last = end - 8 * down;
  return `M${from} ${begin}Q${from} ${first} ${from + out} ${first}H${margin - out}Q${margin} ${first} ${margin} ${first + CORNER * down}`
    + `V${last - CORNER * down}Q${margin} ${last} ${margin + back} ${last}H${to - back}Q${to} ${last} ${to} ${end}`;
}

const far = (rect, other) => Math.abs(rect.top - other.top) * 3 + Math.abs(rect.left - other.left);

function drawNumber(group, rect, link, taken) {
  const key = `${Math.round(rect.right)},${Math.round(rect.top)}`;
  const place = taken.get(key) ?? 0;
  taken.set(key, place + 1);
  const x = rect.right + 4 + 14 * place, y = rect.top - 3; // in the gap above the line
  shape("circle", { class: "number", cx: x, cy: y, r: 7 }, group);
  shape("text", { class: "number-text", x, y: y + 3.4, "text-anchor": "middle" }, group).textContent = link.number;
}
