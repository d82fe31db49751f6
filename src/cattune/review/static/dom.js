// Small helpers. Text from the file only ever enters the page through textContent.

export const byId = (id) => document.getElementById(id);

/** An element with properties, `data-*` and `aria-*` attributes among them, and children (elements or text). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function shape(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

/** A phrase of the file, isolated so that its direction does not spill over, and shortened. */
export function phrase(text, className = "phrase") {
  const short = [...text.slice(0, 400)];
  return make("bdi", { className, title: text.length > 120 ? text.slice(0, 2000) : undefined },
    short.length > 120 ? `${short.slice(0, 119).join("")}…` : text);
}

export const count = (number) => number.toLocaleString("en");
