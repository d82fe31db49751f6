// Python and the file count Unicode code points, the browser UTF-16 units. All positions are converted here.

/** Converters for one text; quick for many positions, as only characters beyond U+FFFF are counted. */
export function counter(text) {
  const wide = []; // where, in code points, the characters of two units stand
  if (/[\ud800-\udbff]/.test(text)) {
    let point = 0;
    for (let unit = 0; unit < text.length; unit++, point++) {
      if (isPair(text, unit)) { wide.push(point); unit++; }
    }
  }
  const before = (limit, ahead) => { // how many k have wide[k] + (ahead ? k : 0) < limit
    let low = 0, high = wide.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (wide[middle] + (ahead ? middle : 0) < limit) low = middle + 1; else high = middle;
    }
    return low;
  };
  return {
    /** Code points to UTF-16 units. */
    units: (points) => points + before(points, false),
    /** UTF-16 units to code points; a position inside a character counts as its start. */
    points: (units) => units - before(units, true),
  };
}

/** The same [start, end) in units, widened where it would cut a character in two, without white space at its ends. */
export function tidy(text, start, end) {
  if (start > 0 && isPair(text, start - 1)) start--;
  if (end > 0 && isPair(text, end - 1)) end++;
  const inside = text.slice(start, end);
  start += inside.length - inside.trimStart().length;
  end -= inside.length - inside.trimEnd().length;
  return { start, end: Math.max(start, end) };
}

function isPair(text, unit) {
  const first = text.charCodeAt(unit), second = text.charCodeAt(unit + 1);
  return first >= 0xd800 && first < 0xdc00 && second >= 0xdc00 && second < 0xe000;
}
