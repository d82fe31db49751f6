// What the page shows now. `main.js` fills in what a click on a link does.

export const page = {
  file: {}, // what the server says of the file
  example: null,
  items: [], // the links of the example and what was refused, as shown
  active: 0, // which of them is in hand
  hovered: null,
  draft: null, // {link: number or null, effect, causes, problem}
  list: null,
  act: null,
  actOnDraft: null,
};

const TRAIL = "trail";

/**
 * This tab's edits, oldest first, by the examples' indices, and the version that each example had after the newest of
 * them: {undo, redo, versions}. It is empty after the file was read anew, where an index may mean another example.
 */
export function trail() {
  const kept = JSON.parse(sessionStorage.getItem(TRAIL) ?? "{}");
  return kept.reading === page.file.reading ? kept : { undo: [], redo: [], versions: {} };
}

export function setTrail({ undo, redo, versions }) {
  sessionStorage.setItem(TRAIL, JSON.stringify({ reading: page.file.reading, undo: undo.slice(-1000), redo, versions }));
}

/** Note this tab's newest edit, of the example that is open. */
export function addToTrail() {
  const { undo, versions } = trail(), { index, version } = page.example;
  setTrail({ undo: [...undo, index], redo: [], versions: { ...versions, [index]: version } });
}
