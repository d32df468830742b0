// One pin, opened: its picture with clickable dots, why they are shown or not, and what is similar to the chosen one.

import * as api from "./api.js";
import { at, h, overBox } from "./dom.js";
import { count, duration, eventToDot, hasDots, name, reason, share } from "./format.js";
import { Results } from "./results.js";

export class PinView {
  constructor(dialog, { onClose, onChoose }) {
    this.dialog = dialog;
    this.onChoose = onChoose;
    this.results = new Results();
    this.showSuppressed = false;
    this.card = null;
    this.chosen = null;
    dialog.addEventListener("close", () => {
      document.body.classList.remove("locked");
      this.card = null;
      this.results.cancel();
      onClose();
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }

  get id() {
    return this.card?.pin.pin_id ?? null;
  }

  // Shows a card; `object` is the index of the chosen object, or null.
  open(card, object) {
    const same = this.id === card.pin.pin_id;
    this.card = card;
    this.build();
    if (!this.dialog.open) {
      this.dialog.showModal();
      document.body.classList.add("locked");
    }
    if (!same) {
      this.dialog.querySelectorAll(".pin-left, .pin-right").forEach((part) => part.scrollTo(0, 0));
      this.dialog.scrollTo(0, 0);
      this.chosen = null;
      this.results.hint(this.hintText());
    }
    if (object !== null) this.choose(object);
    else if (!same) this.dialog.focus({ preventScroll: true });
  }

  // The pin's dots came or changed while it is open.
  update(card) {
    if (this.id !== card.pin.pin_id) return;
    const focused = document.activeElement?.dataset?.object;
    this.card = card.dots || card.pin.version !== this.card.pin.version ? card : { ...card, dots: this.card.dots };
    this.build(true);
    if (focused !== undefined) this.dot(focused)?.focus({ preventScroll: true });
    if (this.chosen === null) this.results.hint(this.hintText());
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  build(fresh = false) {
    const { pin } = this.card;
    const dots = this.dots();
    this.boxLayer = h("div", { class: "veil" });
    const aspect = pin.image_width / pin.image_height || 1;
    const stage = h(
      "div",
      { class: "stage", vars: { "--aspect": aspect.toFixed(4) } },
      h("img", { src: api.picture(pin.pin_id, 960), alt: name(pin) }),
      this.boxLayer,
      dots.filter((dot) => dot.shown || this.showSuppressed).map((dot) => this.dotButton(dot, fresh)),
    );
    const left = h("div", { class: "pin-left" }, stage, this.head(dots), this.reasonsOf(dots));
    const right = h("div", { class: "pin-right" }, this.results.node);
    const close = h("button", { type: "button", class: "pin-close", "aria-label": "Close", onclick: () => this.dialog.close() }, "✕");
    const before = this.dialog.querySelector(".pin-left")?.scrollTop ?? 0;
    this.dialog.replaceChildren(left, right, close);
    left.scrollTop = before;
    this.mark(this.chosen);
  }

  dots() {
    return hasDots(this.card) ? this.card.dots.dots : [];
  }

  dot(object) {
    return this.dialog.querySelector(`.dot[data-object="${Number(object)}"]`);
  }

  dotButton(dot, fresh) {
    const label = dot.shown
      ? `${dot.label}: show similar objects`
      : `${dot.label}, suppressed, ${dot.reasons.map(reason).join(", ")}: show similar objects`;
    const kind = [dot.shown ? "dot" : "dot suppressed", fresh && "fresh", dot.y > 0.85 && "low", dot.x < 0.12 && "left", dot.x > 0.88 && "right"].filter(Boolean).join(" ");
    const button = h(
      "button",
      {
        type: "button", class: kind, "data-object": dot.object_index, "aria-label": label, "aria-pressed": String(dot.object_index === this.chosen),
        onclick: () => this.onChoose(this.id, dot.object_index),
        onmouseenter: () => this.mark(dot.object_index),
        onmouseleave: () => this.mark(this.chosen),
        onfocus: () => this.mark(dot.object_index),
        onblur: () => this.mark(this.chosen),
      },
      h("span", { class: "dot-name", "aria-hidden": "true" }, dot.label),
    );
    return at(button, dot.x, dot.y);
  }

  head(dots) {
    const { pin } = this.card;
    const shown = dots.filter((dot) => dot.shown).length;
    const after = eventToDot(this.card);
    const facts = [
      hasDots(this.card) ? count(shown, "dot") + (dots.length > shown ? ` of ${dots.length}` : "") : "waiting for dots",
      after === null ? null : `${duration(after)} after the event`,
      pin.board_id ? `board ${pin.board_id}` : null,
      pin.annotations.slice(0, 6).join(", ") || null,
    ].filter(Boolean);
    const hidden = dots.length - shown;
    return h(
      "div",
      { class: "pin-head" },
      h("h2", { id: "pin-title" }, name(pin)),
      h("p", { class: "pin-meta" }, facts.join(" · ")),
      dots.length
        ? h(
            "label",
            { class: "switch" },
            h("input", {
              type: "checkbox", role: "switch", id: "suppressed", checked: this.showSuppressed,
              onchange: (event) => {
                this.showSuppressed = event.target.checked;
                this.build();
                this.dialog.querySelector("#suppressed").focus({ preventScroll: true });
              },
            }),
            `Suppressed dots and reasons (${hidden})`,
          )
        : null,
    );
  }

  reasonsOf(dots) {
    if (!this.showSuppressed || !dots.length) return null;
    return h("ul", { class: "reasons", "aria-label": "Why each dot is shown or suppressed" }, dots.map((dot) => this.reasonOf(dot)));
  }

  reasonOf(dot) {
    const failed = (slug) => (dot.reasons.includes(slug) ? { class: "failed" } : {});
    return h(
      "li",
      { class: "reason" },
      h(
        "div",
        { class: "reason-head" },
        h("span", {}, dot.label),
        h("span", { class: dot.shown ? "verdict is-shown" : "verdict" }, `${dot.shown ? "Shown" : "Suppressed"}: ${dot.reasons.map(reason).join(", ") || "–"}`),
      ),
      h(
        "ul",
        {},
        dot.score === undefined ? null : h("li", failed("low_score"), `score ${dot.score.toFixed(2)}`),
        h("li", failed("low_similarity"), `similarity ${dot.similarity.toFixed(3)}`),
        h("li", failed("low_annotation"), `annotation score ${dot.annotation_score.toFixed(1)}`),
        h("li", failed("low_conformity"), `category conformity ${share(dot.category_conformity)}`),
      ),
    );
  }

  // Draws the box of an object and dims what lies around it; null draws none.
  mark(object) {
    const found = this.card?.pin.objects.find((one) => one.index === object);
    this.boxLayer.replaceChildren(...(found ? [overBox(h("div", { class: "box spot" }), found.box)] : []));
  }

  choose(object) {
    this.chosen = object;
    for (const button of this.dialog.querySelectorAll(".dot")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.object) === object));
    }
    this.mark(object);
    const found = this.card.pin.objects.find((one) => one.index === object);
    this.results.search({ pin_id: this.id, object_index: object, k: 24 }, (found?.label ?? "object").toLowerCase());
    if (matchMedia("(max-width: 860px)").matches) this.results.node.scrollIntoView({ block: "nearest" });
  }

  hintText() {
    if (!hasDots(this.card)) return ["Waiting for dots", "They appear here as soon as they are decided."];
    if (this.dots().some((dot) => dot.shown)) return ["Choose a dot", "to see the most similar objects and the scenes they are in."];
    return ["No dots to choose", this.dots().length ? "All of them are suppressed; the switch shows why." : "Nothing was detected in this picture."];
  }
}
