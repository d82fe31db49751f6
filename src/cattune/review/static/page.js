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

/** This tab's edits, oldest first, by the examples' indices: {undo, redo}. */
export const trail = () => JSON.parse(sessionStorage.getItem(TRAIL) ?? '{"undo":[],"redo":[]}');

export const setTrail = ({ undo, redo }) => sessionStorage.setItem(TRAIL, JSON.stringify({ undo: undo.slice(-1000), redo }));
