// Keys: which does what, and the page that lists them.

import { byId, make } from "./dom.js";

export const KEYS = [
  ["Examples", [
    [["j"], "next", "next example"], [["k"], "previous", "previous example"], [["n"], "unreviewed", "next one that is not reviewed"],
    [["d"], "done", "done: nothing left to do here, or take that back"],
  ]],
  ["Links", [
    [["ArrowDown"], "down", "next link"], [["ArrowUp"], "up", "previous link"],
    [["a"], "accept", "accept; a rejected link comes back accepted"], [["x"], "reject", "reject; a rejected link comes back as it was"],
    [["A"], "accept-all", "accept all of this example"], [["r"], "change", "correct: then e, c and Enter as below"],
  ]],
  ["New link", [
    [["ArrowRight", "ArrowLeft"], "word", "select a word; with Shift more of them, with Alt and Shift by characters"],
    [["e"], "effect", "the selection is the effect"], [["c"], "cause", "the selection is a cause; once more: it is none"],
    [["Enter"], "commit", "keep the link"], [["Escape"], "cancel", "leave it"],
  ]],
  ["File", [
    [["u", "Ctrl+z"], "undo", "undo my last edit; leave a link that is half made"], [["U", "Ctrl+Z"], "redo", "redo"],
    [["s", "Ctrl+s"], "save", "save"], [["f"], "filter", "filter"], [["/"], "search", "search"], [["?"], "help", "these keys"],
  ]],
];

const NAMES = { ArrowDown: "↓", ArrowUp: "↑", ArrowRight: "→", ArrowLeft: "←", Escape: "Esc", A: "Shift a", U: "Shift u", "Ctrl+z": "Ctrl z", "Ctrl+s": "Ctrl s" };
const ACTIONS = new Map(KEYS.flatMap(([, group]) => group.flatMap(([keys, action]) => keys.map((key) => [key, action]))));

/** Call `act(action, event)` for keys that mean one; true from it, or nothing, means that the key is used up. */
export function listen(act) {
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (document.querySelector("dialog[open]")) return;
    const typing = target.matches("input:not([type=checkbox]):not([type=radio]), select, textarea");
    const pressing = target.matches("button, summary, input") && ["Enter", " "].includes(key);
    const control = event.ctrlKey || event.metaKey;
    if (typing && key === "Escape") { target.blur(); return; }
    if ((typing && !(control && key === "s")) || pressing) return;
    if (target.type === "radio" && key.startsWith("Arrow")) return;
    if (event.altKey && !key.startsWith("Arrow")) return;
    const action = ACTIONS.get(control ? `Ctrl+${key}` : key);
    if (action && act(action, event) !== false) event.preventDefault();
  });
}

export function fillHelp() {
  byId("keys-list").replaceChildren(...KEYS.map(([title, group]) => make("section", {}, make("h3", {}, title),
    make("dl", {}, ...group.flatMap(([keys, , words]) => [
      make("dt", {}, ...keys.filter((key) => key !== "Ctrl+Z").flatMap((key, place) => [place ? " " : "", make("kbd", {}, NAMES[key] ?? key)])), make("dd", {}, words)])))));
}
