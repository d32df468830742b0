// What Lens understood of a picture, and why its results come from where they come.

import { h } from "./dom.js";
import { share } from "./format.js";

const SOURCES = { visual: "Looks alike", semantic: "Same annotations", scenes: "Same object" };
const STATES = { skipped: "left out", empty: "nothing found", late: "too late", failed: "away" };

export const sourceName = (source) => SOURCES[source] ?? source;

// `onObject(box, label)` when a person chooses one of the objects.
export function understood({ understanding, sources }, onObject) {
  const { objects, annotations, colours, categories } = understanding;
  return [
    part("Objects", objects.map((one) => object(one, onObject)), "Nothing was detected.", "facts-row"),
    part("Annotations", annotations.map(annotation), "No near pins to learn them from.", "meters"),
    part("Colours", colours.filter((one) => one.share >= 0.01).map(colour), "None stands out.", "facts-row"),
    part("Categories", Object.entries(categories).map(category), null, "facts-row"),
    part("Where results come from", sources.map(sourceOf), null, "sources"),
  ];
}

function part(title, items, none, kind) {
  if (!items.length && !none) return "";
  return h("section", { class: "fact" }, h("h3", {}, title), items.length ? h("ul", { class: kind }, items) : h("p", { class: "pin-meta" }, none));
}

const object = ({ box, label, score }, onObject) =>
  h("li", {}, h("button", { type: "button", class: "chip", "aria-label": `${label} ${share(score)} certain: search for it`, onclick: () => onObject(box, label) }, `${label} ${share(score)}`));

const annotation = ({ annotation: word, confidence }) =>
  h(
    "li",
    {},
    h("span", {}, word),
    h("span", { class: "meter", "aria-hidden": "true", vars: { "--share": share(confidence) } }),
    h("span", { class: "measure" }, share(confidence)),
  );

const colour = ({ rgb, share: part_ }) => h("li", { class: "swatch" }, h("span", { class: "paint", "aria-hidden": "true", vars: { "--paint": rgb } }), `${rgb} ${share(part_)}`);

const category = ([name, weight]) => h("li", { class: "word" }, `${name.replaceAll("_", " ")} ${share(weight)}`);

const sourceOf = ({ source, state, ratio, reason }) =>
  h(
    "li",
    { class: state === "used" ? "source" : "source unused" },
    h("b", {}, sourceName(source)),
    h("span", { class: "measure" }, state === "used" ? share(ratio) : (STATES[state] ?? state)),
    h("span", { class: "why" }, reason),
  );
