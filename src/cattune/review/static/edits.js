// Edits of an example: the server makes them, or says why not.

import { post } from "./api.js";
import { show, take } from "./examples.js";
import { catchUp, showFile } from "./file.js";
import { addToTrail, page, setTrail, trail } from "./page.js";
import { run, say } from "./run.js";
import { moveTo, render } from "./show.js";

/** Make an edit of the example that is open, and then something else. */
export function edit(wanted, done) {
  const index = page.example.index;
  return run(async () => {
    if (page.example.index !== index) return;
    await send(wanted, index);
    addToTrail();
    done?.();
  });
}

/** The same, within `run`: ask the server, and show what it answers. */
export async function send(wanted, index) {
  let answer;
  try {
    answer = await post(`/api/examples/${index}`, { version: page.example.version, edit: wanted });
  } catch (problem) {
    if (problem.kind === "stale") await catchUp();
    throw problem;
  }
  showFile(answer.document);
  take(answer.example);
  page.list.setRow(answer.row);
}

/**
 * Undo or redo this tab's newest edit, wherever it was; with none left, that of the example on show. A link that is half
 * made is newer than any edit: undo leaves it.
 */
export function goBack(kind) {
  return run(async () => {
    if (page.draft && kind === "undo") {
      page.draft = null;
      render();
      return say("The link that was being made is left.");
    }
    const stack = trail()[kind], other = kind === "undo" ? "redo" : "undo";
    const mine = stack.pop(), index = mine ?? page.example.index;
    setTrail({ ...trail(), [kind]: stack });
    await show(index, true);
    if (mine !== undefined && page.example.version !== trail().versions[index]) {
      return say("This example was changed elsewhere since; it is shown as it is now, and your edit of it stays as it is.", true);
    }
    await send(kind, index);
    const { versions } = trail();
    setTrail({ ...trail(), [other]: [...trail()[other], index], versions: { ...versions, [index]: page.example.version } });
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
