// Making a link out of selections, and correcting one.

import { send } from "./edits.js";
import { addToTrail, page } from "./page.js";
import { run, say } from "./run.js";
import { moveTo, render } from "./show.js";
import * as text from "./text.js";

/** Correct the link in hand. */
export function startDraft() {
  const item = page.items[page.active];
  if (item?.kind !== "link") return say(item?.kind === "rejected" ? "Bring the link back first." : "Choose a link first.");
  page.draft = { link: item.index, effect: item.link.effect, causes: [...item.link.causes] };
  render();
}

const sameSpan = (a, b) => a.field === b.field && a.start === b.start && a.end === b.end;

/** The selection becomes the effect or a cause of the link that is being made. */
export function useSelection(role) {
  const { span, problem } = text.selected();
  if (!span) return say(problem ?? `Select words of the text first, then ${role === "effect" ? "Effect (e)" : "Cause (c)"}.`, true);
  page.draft ??= { link: null, effect: null, causes: [] };
  page.draft.problem = "";
  if (role === "effect") page.draft.effect = span;
  else if (page.draft.causes.some((cause) => sameSpan(cause, span))) page.draft.causes = page.draft.causes.filter((cause) => !sameSpan(cause, span));
  else page.draft.causes = [...page.draft.causes, span];
  getSelection().collapseToEnd();
  render();
}

/** Keep or leave the link that is being made, or take a cause out of it. */
export function actOnDraft(name, place) {
  if (!page.draft) return false;
  if (name === "remove") page.draft.causes = page.draft.causes.filter((_, other) => other !== place);
  if (name === "cancel") page.draft = null;
  if (name === "commit") return commit();
  render();
  return true;
}

function commit() {
  const { link, effect, causes } = page.draft, index = page.example.index;
  return run(async () => {
    if (page.example.index !== index || !page.draft) return;
    try {
      await send({ kind: link === null ? "add" : "change", link: link ?? undefined, effect, causes }, index);
    } catch (problem) {
      if (problem.kind === "refused") {
        page.draft.problem = problem.message;
        return render();
      }
      throw problem; // `take` has left the draft if its link may be another one by now
    }
    addToTrail();
    page.draft = null;
    render();
    moveTo(link ?? page.example.links.length - 1);
  });
}
