// Requests one after another, and short messages.

import { byId } from "./dom.js";

let queue = Promise.resolve();
let report = (problem) => { throw problem; };

/** Who is told what goes wrong in `run`. */
export const reportTo = (reporter) => { report = reporter; };

/** Do things one after another; what goes wrong is reported. */
export function run(work) {
  const done = queue.then(work).catch(report);
  queue = done.catch(() => {}); // a failure of the reporter must not stop what comes after it
  return done;
}

let silence;

/** A few words at the foot of the page, for a while. */
export function say(words, wrong = false) {
  const box = byId("message");
  box.textContent = words;
  box.classList.toggle("wrong", wrong);
  box.hidden = false;
  clearTimeout(silence);
  silence = setTimeout(() => { box.hidden = true; }, wrong ? 7000 : 2200);
}
