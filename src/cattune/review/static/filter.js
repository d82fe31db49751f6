// The filter: a search field, and groups of choices with how many examples each would give.

import { byId, count, make } from "./dom.js";

const GROUPS = [
  ["statuses", "Links", {
    proposed: "proposed", accepted: "accepted", rejected: "rejected in review", outvoted: "outvoted",
    refused: "not found in the text", none: "no links",
  }],
  ["sources", "Source", null],
  ["methods", "Found by", { exact: "exact match", loose: "loose match", fuzzy: "fuzzy match" }],
];
const KEPT = "filter";

export class Filter {
  constructor(changed) {
    this.form = byId("filter");
    this.search = byId("search");
    this.changed = changed;
    this.labels = {};
    this.value = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
    this.search.value = this.value.text ?? "";
    this.search.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.read(), 120);
    });
    this.form.addEventListener("change", () => this.read());
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.read(); });
    byId("toggle-filter").addEventListener("click", () => this.toggle());
  }

  /** Lay the form out; the sources are those of the file. */
  build(sources) {
    const groups = GROUPS.map(([name, title, labels]) => {
      const choices = labels ?? Object.fromEntries(sources.map((source) => [source, source]));
      return make("fieldset", {}, make("legend", {}, title),
        ...Object.entries(choices).map(([value, label]) => this.choice("checkbox", name, value, label)));
    });
    this.form.replaceChildren(
      make("fieldset", {}, make("legend", {}, "Review"),
        this.choice("radio", "reviewed", "", "all"),
        this.choice("radio", "reviewed", "no", "not reviewed"),
        this.choice("radio", "reviewed", "yes", "reviewed")),
      ...groups,
      make("fieldset", {}, make("legend", {}, "Annotators"), this.choice("checkbox", "disagreement", "yes", "disagree")),
      make("fieldset", { className: "scores" }, make("legend", {}, "Lowest score"),
        this.number("low", "from", "0"), this.number("high", "to", "1")),
      make("fieldset", { className: "order" }, make("legend", {}, "Order"),
        make("select", { name: "order", "aria-label": "Order" },
          make("option", { value: "file" }, "as in the file"),
          make("option", { value: "score" }, "lowest score first"),
          make("option", { value: "weight" }, "lowest weight first"))),
      this.clearing = make("button", { type: "button", className: "quiet clear", onclick: () => this.clear() }, "Clear all"));
    this.write();
  }

  choice(type, name, value, label) {
    const number = make("span", { className: "number" });
    this.labels[`${name}\n${value}`] = number;
    return make("label", {}, make("input", { type, name, value }), make("bdi", {}, label), number);
  }

  number(name, label, usual) {
    return make("label", {}, label, make("input", { type: "number", name, min: 0, max: 1, step: "any", placeholder: usual }));
  }

  /** What the server is asked for. */
  query() {
    return Object.fromEntries(Object.entries(this.value).filter(([, value]) => value && value !== "file"));
  }

  toggle(open = this.form.hidden) {
    this.form.hidden = !open;
    byId("toggle-filter").setAttribute("aria-expanded", String(open));
    if (open) this.form.querySelector("input, select")?.focus();
    else if (this.form.contains(document.activeElement)) byId("toggle-filter").focus();
  }

  showCounts(counts) {
    for (const [group, numbers] of Object.entries(counts)) {
      const keys = { reviewed: { reviewed: "yes", unreviewed: "no" }, disagreement: { disagreement: "yes" } }[group];
      for (const [name, number] of Object.entries(numbers)) {
        const label = this.labels[`${group}\n${keys ? keys[name] : name}`];
        if (label) label.textContent = count(number);
      }
    }
  }

  clear() {
    this.search.value = "";
    this.value = {};
    this.write();
    this.read();
  }

  write() {
    for (const input of this.form.elements) {
      if (!input.name) continue;
      const value = this.value[input.name] ?? "";
      if (input.type === "checkbox") input.checked = value.split("\n").includes(input.value);
      else if (input.type === "radio") input.checked = value === input.value;
      else input.value = value || (input.name === "order" ? "file" : "");
    }
    this.mark();
  }

  read() {
    const value = { text: this.search.value };
    for (const input of this.form.elements) {
      if (!input.name || (["checkbox", "radio"].includes(input.type) && !input.checked)) continue;
      value[input.name] = value[input.name] ? `${value[input.name]}\n${input.value}` : input.value;
    }
    this.value = value;
    sessionStorage.setItem(KEPT, JSON.stringify(value));
    this.mark();
    this.changed();
  }

  mark() {
    const active = Object.keys(this.query()).some((key) => key !== "text");
    byId("toggle-filter").classList.toggle("on", active);
  }
}
