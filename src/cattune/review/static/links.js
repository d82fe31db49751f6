// The links of an example as a list: what the text shows in colours, in words, with what can be done.

import { byId, make, phrase } from "./dom.js";
import { colour } from "./marks.js";

/** Show the links and what was refused. `items` come from `itemsOf`; `act` does what a button says. */
export function showLinks(items, active, act) {
  const cards = items.map((item, place) => card(item, place, place === active, act));
  const links = cards.filter((_, place) => items[place].kind === "link");
  const rejected = cards.filter((_, place) => items[place].kind === "rejected");
  const unused = cards.filter((_, place) => items[place].kind === "unused");
  byId("links").replaceChildren(
    make("h3", {}, `Links`, make("span", {}, ` ${links.length}`)),
    ...(links.length ? links : [make("p", { className: "muted empty" }, "None. Select the effect in the text and choose Effect ", make("kbd", {}, "e"), ", then its causes and Cause ", make("kbd", {}, "c"), ".")]),
    ...(rejected.length ? [make("h3", {}, "Rejected or outvoted", make("span", {}, ` ${rejected.length}`)), ...rejected] : []),
    ...(unused.length ? [make("h3", {}, "Could not be used", make("span", {}, ` ${unused.length}`)), ...unused] : []));
}

/** Links first, then those that can be brought back, then phrases without a place in the text. */
export function itemsOf(example) {
  const links = example.links.map((link, index) => ({ kind: "link", index, link, className: colour(index), number: index + 1 }));
  const refused = example.refused.map((refusal, index) => refusal.link
    ? { kind: "rejected", index, link: refusal.link, reason: refusal.reason, className: "gone" }
    : { kind: "unused", index, refusal, reason: refusal.reason });
  return [...links, ...refused.filter(({ kind }) => kind === "rejected"), ...refused.filter(({ kind }) => kind === "unused")];
}

function card(item, place, active, act) {
  const { link, refusal } = item;
  const words = link
    ? [phrase(link.effect.text, "effect"), arrow(), ...between(link.causes.map(({ text }) => phrase(text, "cause")))]
    : [phrase(refusal.effect, "plain"), ...(refusal.cause === null ? [] : [arrow(), phrase(refusal.cause, "plain")])];
  const element = make("article", {
    className: ["card", item.kind, item.className ?? "", link?.status ?? "", active ? "active" : ""].join(" "),
    tabIndex: active ? 0 : -1, "data-place": place, "aria-current": active ? "true" : undefined, "aria-label": spoken(item),
  }, make("div", { className: "badge", "aria-hidden": "true" }, item.number ? String(item.number) : "✕"),
  make("div", { className: "card-body" },
    make("p", { className: "words" }, ...words),
    make("p", { className: "facts" }, ...facts(item)),
    make("div", { className: "buttons" }, ...buttons(item, act))));
  return element;
}

const arrow = () => make("span", { className: "arrow", "aria-label": "depends on" }, "←");

const between = (phrases) => phrases.flatMap((element, place) => (place ? [" ", element] : [element]));

function facts({ kind, link, reason }) {
  if (kind === "unused") return [reason];
  const state = kind === "rejected" ? make("b", { className: "state" }, reason)
    : make("b", { className: `state ${link.status}` }, link.status === "accepted" ? "✓ accepted" : "○ proposed");
  const found = link.method === "exact" && link.score === 1 ? "" : ` · ${link.method} ${link.score.toFixed(2)}`;
  const weight = link.weight === 1 ? "" : ` · weight ${Number(link.weight.toPrecision(3))}`;
  return [state, " · ", make("bdi", {}, link.source), found, weight];
}

function buttons({ kind, link }, act) {
  const button = (name, label, key, main) =>
    make("button", { type: "button", className: main ? "main" : "", "data-act": name, onclick: () => act(name) }, `${label} `, make("kbd", {}, key));
  if (kind === "unused") return [];
  if (kind === "rejected") return [button("accept", "Bring back and accept", "a"), button("reject", "Bring back", "x")];
  return [
    ...(link.status === "accepted" ? [] : [button("accept", "Accept", "a", true)]),
    button("reject", "Reject", "x"), button("change", "Correct", "r"),
  ];
}

function spoken({ kind, link, refusal, reason, number }) {
  if (kind === "unused") return `Not used: ${refusal.effect}${refusal.cause === null ? "" : ` from ${refusal.cause}`}: ${reason}`;
  const words = `${link.effect.text} depends on ${link.causes.map(({ text }) => text).join(", ")}`;
  return kind === "link" ? `Link ${number}, ${link.status}: ${words}` : `${reason}: ${words}`;
}

/** The link that is being made or corrected. */
export function showDraft(draft, act) {
  const box = byId("draft");
  box.hidden = !draft;
  if (!draft) return;
  const effect = draft.effect ? [phrase(draft.effect.text, "effect")] : [hint("select it, then Effect ", "e")];
  const causes = draft.causes.map((cause, place) => make("span", { className: "chip" }, phrase(cause.text, "cause"),
    make("button", { type: "button", className: "remove", "aria-label": `Remove the cause ${cause.text.slice(0, 80)}`, onclick: () => act("remove", place) }, "×")));
  box.replaceChildren(
    make("h3", {}, draft.link === null ? "New link" : `Correct link ${draft.link + 1}`),
    make("dl", {},
      make("dt", {}, "Effect"), make("dd", {}, ...effect),
      make("dt", {}, "Causes"), make("dd", {}, ...causes, hint(draft.causes.length ? "another, then Cause " : "select one, then Cause ", "c"))),
    make("p", { className: "error", role: "alert" }, draft.problem ?? ""),
    make("div", { className: "row" },
      make("button", { type: "button", className: "quiet", onclick: () => act("cancel") }, "Cancel ", make("kbd", {}, "Esc")),
      make("button", { type: "button", className: "main", "data-act": "commit", onclick: () => act("commit") }, "Keep link ", make("kbd", {}, "Enter"))));
}

const hint = (words, key) => make("span", { className: "muted hint" }, words, make("kbd", {}, key));
