// The grid of newest pins: one card for each, its shown dots over its picture.

import { picture } from "./api.js";
import { at, h } from "./dom.js";
import { count, duration, eventToDot, frame, hasDots, median, name } from "./format.js";

const KEPT = 400;

export class Grid {
  constructor(list) {
    this.list = list;
    this.cards = new Map(); // pin_id -> { card, node }
  }

  get size() {
    return this.cards.size;
  }

  get(id) {
    return this.cards.get(id)?.card;
  }

  // Puts a card at the front, or in its place when the pin is there already. Returns whether it is new.
  put(card, { fresh = false, end = false } = {}) {
    const id = card.pin.pin_id;
    const known = this.cards.get(id);
    if (known && Number(known.card.pin.version) > Number(card.pin.version)) return false;
    const merged = card.dots || !known || known.card.pin.version !== card.pin.version ? card : { ...card, dots: known.card.dots };
    const node = render(merged, fresh);
    if (known) known.node.replaceWith(node);
    else if (end) this.list.append(node);
    else this.list.prepend(node);
    this.cards.delete(id);
    this.cards.set(id, { card: merged, node });
    if (!end) this.trim();
    return !known;
  }

  remove(id) {
    this.cards.get(id)?.node.remove();
    return this.cards.delete(id);
  }

  clear() {
    this.cards.clear();
    this.list.replaceChildren();
  }

  trim() {
    while (this.cards.size > KEPT && this.list.lastElementChild) {
      this.cards.delete(this.list.lastElementChild.dataset.pin);
      this.list.lastElementChild.remove();
    }
  }

  focus(id) {
    this.cards.get(id)?.node.querySelector("a").focus();
  }

  freshness() {
    return median([...this.cards.values()].map(({ card }) => eventToDot(card)).filter((ms) => ms !== null));
  }
}

function render(card, fresh) {
  const { pin } = card;
  const shown = hasDots(card) ? card.dots.dots.filter((dot) => dot.shown) : [];
  const framed = frame(pin.image_width, pin.image_height);
  const state = hasDots(card) ? count(shown.length, "dot") : "waiting for dots";
  const after = eventToDot(card);
  return h(
    "li",
    { class: fresh ? "card fresh" : "card", "data-pin": pin.pin_id, vars: { "--aspect": framed.aspect } },
    h(
      "a",
      { href: `#/pin/${encodeURIComponent(pin.pin_id)}`, "aria-label": `${name(pin)}, ${state}` },
      h(
        "div",
        { class: "scene" },
        h("img", { src: picture(pin.pin_id, 480), alt: "", loading: "lazy", decoding: "async" }),
        shown.map((dot) => at(h("span", { class: "card-dot", "aria-hidden": "true" }), framed.x(dot.x), framed.y(dot.y))),
      ),
      h(
        "div",
        { class: "caption" },
        h("b", {}, name(pin)),
        h("span", { title: "from the pin's event to its dots" }, after === null ? (hasDots(card) ? "" : "…") : duration(after)),
      ),
    ),
  );
}
