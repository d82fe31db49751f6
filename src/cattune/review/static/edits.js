// Edits of an example: the server makes them, or says why not.

import { post } from "./api.js";
import { show, take } from "./examples.js";
import { showFile } from "./file.js";
import { page, setTrail, trail } from "./page.js";
import { run, say } from "./run.js";
import { moveTo } from "./show.js";

/** Make an edit of the example that is open, and then something else. */
export function edit(wanted, done) {
  const index = page.example.index;
  return run(async () => {
    if (page.example.index !== index) return;
    await send(wanted, index);
    setTrail({ undo: [...trail().undo, index], redo: [] });
    done?.();
  });
}

/** The same, within `run`: ask the server, and show what it answers. */
export async function send(wanted, index) {
  let answer;
  try {
    answer = await post(`/api/examples/${index}`, { version: page.example.version, edit: wanted });
  } catch (problem) {
    if (problem.kind === "stale") {
      take(problem.body.example);
      page.list.forget();
      page.list.draw();
    }
    throw problem;
  }
  take(answer.example);
  page.list.setRow(answer.row);
  showFile(answer.document);
}

/** Undo or redo this tab's newest edit, wherever it was; with none left, that of the example on show. */
export function goBack(kind) {
  return run(async () => {
    const stack = trail()[kind], other = kind === "undo" ? "redo" : "undo";
    const index = stack.pop() ?? page.example.index;
    setTrail({ ...trail(), [kind]: stack });
    await show(index, true);
    await send(kind, index);
    setTrail({ ...trail(), [other]: [...trail()[other], index] });
    say(kind === "undo" ? "Undone." : "Made again.");
  });
}

/** Accept or reject the link in hand, or bring it back. */
export function decide(name) {
  const item = page.items[page.active];
  if (!item || item.kind === "unused") return say("Choose a link first.");
  if (item.kind === "rejected") return edit({ kind: "restore", refused: item.index, accepted: name === "accept" });
  if (name === "accept" && item.link.status === "accepted") return moveTo(page.active + 1);
  return edit({ kind: name, link: item.index }, () => afterDecision(name));
}

/** On to the next link that waits for a decision, if there is one. */
function afterDecision(name) {
  const waits = ({ kind, link }) => kind === "link" && link.status === "proposed";
  const from = name === "reject" ? page.active : page.active + 1;
  const next = page.items.findIndex((item, place) => place >= from && waits(item));
  const any = next >= 0 ? next : page.items.findIndex(waits);
  moveTo(any >= 0 ? any : Math.min(page.active, page.items.length - 1));
}
