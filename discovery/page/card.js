// A pin in the grid: its picture with its shown dots, its name, and the time from its event to its dots.

import { picture } from "./api.js";
import { at, h, said } from "./dom.js";
import { count, duration, eventToDot, frame, hasDots, name } from "./format.js";
import { pinAt } from "./route.js";

export function cardNode(card, fresh) {
  const { pin } = card;
  const shown = hasDots(card) ? card.dots.dots.filter((dot) => dot.shown) : [];
  const framed = frame(pin.image_width, pin.image_height);
  const after = eventToDot(card);
  const state = hasDots(card) ? `with ${count(shown.length, "dot")}${after === null ? "" : ","}` : "waiting for dots";
  const dots = shown.map((dot) => at(h("span", { class: "card-dot", "aria-hidden": "true" }), framed.x(dot.x), framed.y(dot.y)));
  return h(
    "li",
    { class: fresh ? "card fresh" : "card", "data-pin": pin.pin_id, vars: { "--aspect": framed.aspect } },
    h(
      "a",
      { href: pinAt(pin.pin_id) },
      h("div", { class: "scene" }, h("img", { src: picture(pin.pin_id, 480), alt: "", loading: "lazy", decoding: "async" }), dots),
      h(
        "div",
        { class: "caption" },
        h("b", {}, name(pin)),
        said(state),
        after === null ? h("span", { "aria-hidden": "true" }, hasDots(card) ? "" : "…") : h("span", { title: "from the pin's event to its dots" }, duration(after)),
        after === null ? null : said("after the event"),
      ),
    ),
  );
}
