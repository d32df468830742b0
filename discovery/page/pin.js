// One pin, opened: its picture with dots and a cropper, why dots are shown or not, and what is like the part that is meant.

import * as api from "./api.js";
import { DEFAULT_BOX } from "./boxes.js";
import { at, h } from "./dom.js";
import { count, decidedAgain, duration, eventToDot, hasDots, name, reason, webLink } from "./format.js";
import { saveButton } from "./kept.js";
import { reasonsOf } from "./reasons.js";
import { Related } from "./related.js";
import { reports } from "./reports.js";
import { Results } from "./results.js";
import { Sheet } from "./sheet.js";
import { Stage } from "./stage.js";

export class PinView {
  // onLeave() when a person closed it; onSubject(id, subject) when a person chose a dot or moved the box.
  constructor(dialog, { onLeave, onSubject }) {
    this.onSubject = onSubject;
    this.card = null;
    this.subject = null;
    this.showSuppressed = false;
    this.source = null; // the answer that it was opened out of
    this.keeps = false;
    this.results = new Results();
    this.related = new Related();
    this.stage = new Stage({
      onMove: (box) => this.look({ box }, true),
      onSettle: (box) => {
        reports.note("crop", this.id, null, { box });
        this.onSubject(this.id, { box });
      },
    });
    this.about = h("div", { class: "about" });
    this.sheet = new Sheet(dialog, {
      left: [h("div", { class: "stage-band" }, this.stage.node), this.about],
      right: [this.results.node, this.related.node],
      onClose: () => {
        this.results.cancel();
        this.related.cancel();
        this.card = this.subject = null;
      },
      onLeave,
    });
  }

  get id() {
    return this.card?.pin.pin_id ?? null;
  }

  // Shows a card, with the subject that the address names.
  open(card, subject) {
    const same = this.id === card.pin.pin_id;
    this.card = card;
    if (!same) {
      this.stage.cropper.hide();
      this.source = reports.opened(this.id);
    }
    this.build();
    this.sheet.open();
    if (!same) {
      this.sheet.top();
      this.related.show(this.id);
    }
    if (subject) this.choose(subject);
    else if (!same || this.subject) this.rest();
    if (!same) this.sheet.focus();
  }

  // The pin or its dots came or changed while it is open.
  update(card) {
    if (this.id !== card.pin.pin_id) return;
    const focused = document.activeElement?.dataset?.object;
    const undecided = !hasDots(this.card);
    this.card = card.dots || card.pin.version !== this.card.pin.version ? card : { ...card, dots: this.card.dots };
    this.build(true);
    if (focused !== undefined) this.stage.dots.querySelector(`[data-object="${Number(focused)}"]`)?.focus({ preventScroll: true });
    if (this.subject === null && (undecided || !this.stage.cropper.shown)) this.rest();
  }

  close() {
    this.sheet.close();
  }

  // Whether pins can be saved here.
  saves(yes) {
    if (this.keeps === yes) return;
    this.keeps = yes;
    if (this.card) this.build();
  }

  // A pin that was deleted is in no list any more.
  forget(id) {
    this.results.forget(id);
    this.related.forget(id);
  }

  build(fresh = false) {
    const { pin } = this.card;
    this.stage.picture(api.picture(pin.pin_id, 960), pin.image_width / pin.image_height, name(pin));
    this.stage.mark(null);
    const visible = this.dots().filter((dot) => dot.shown || this.showSuppressed);
    this.stage.dots.replaceChildren(...visible.map((dot) => this.dotButton(dot, fresh)));
    this.about.replaceChildren(...this.head(), ...(this.showSuppressed && this.dots().length ? [reasonsOf(this.dots())] : []));
  }

  dots() {
    return hasDots(this.card) ? this.card.dots.dots : [];
  }

  object(index) {
    return this.card.pin.objects.find((one) => one.index === index) ?? null;
  }

  // Nothing is chosen: a hint, or a default box where no object is certain enough for a dot.
  rest() {
    this.subject = null;
    this.press();
    this.stage.cropper.hide();
    const decided = hasDots(this.card);
    if (!decided) this.results.hint(["Waiting for dots", "They appear here as soon as they are decided."]);
    else if (this.dots().some((dot) => dot.shown)) this.results.hint(["Choose a dot", "or search any part of the picture with a box."]);
    else {
      this.stage.cropper.show(DEFAULT_BOX);
      this.look({ box: DEFAULT_BOX });
    }
  }

  choose(subject) {
    const object = subject.box ? null : this.object(subject.object);
    this.subject = subject;
    this.press();
    const box = subject.box ?? object?.box;
    if (box) this.stage.cropper.show(box);
    else this.stage.cropper.hide();
    this.look(subject);
    this.sheet.reveal(this.results.node);
  }

  look(subject, moving = false) {
    const label = subject.box ? "part" : (this.object(subject.object)?.label ?? "object").toLowerCase();
    const question = subject.box ? { box: subject.box } : { object_index: subject.object };
    if (moving) {
      this.subject = subject;
      this.press();
    }
    this.results.search({ pin_id: this.id, ...question }, label, { moving });
  }

  press() {
    for (const button of this.stage.dots.children) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.object) === this.subject?.object));
    }
  }

  dotButton(dot, fresh) {
    const suppressed = dot.shown ? "" : `, suppressed, ${dot.reasons.map(reason).join(", ")}`;
    const kind = ["dot", !dot.shown && "suppressed", fresh && "fresh", dot.y > 0.85 && "low", dot.x < 0.12 && "left", dot.x > 0.88 && "right"].filter(Boolean).join(" ");
    const mark = () => this.subject?.object !== dot.object_index && this.stage.mark(this.object(dot.object_index)?.box ?? null);
    const unmark = () => this.stage.mark(null);
    const button = h(
      "button",
      {
        type: "button", class: kind, "data-object": dot.object_index, "aria-label": `${dot.label}${suppressed}: show similar objects`,
        "aria-pressed": String(dot.object_index === this.subject?.object),
        onclick: () => {
          unmark();
          this.onSubject(this.id, { object: dot.object_index });
        },
        onmouseenter: mark, onmouseleave: unmark, onfocus: mark, onblur: unmark,
      },
      h("span", { class: "dot-name", "aria-hidden": "true" }, dot.label),
    );
    return at(button, dot.x, dot.y);
  }

  head() {
    const { pin } = this.card;
    const dots = this.dots();
    const shown = dots.filter((dot) => dot.shown).length;
    const after = eventToDot(this.card);
    const facts = [
      hasDots(this.card) ? count(shown, "dot") + (dots.length > shown ? ` of ${dots.length}` : "") : "waiting for dots",
      after === null ? null : `${duration(after)} after the event`,
      decidedAgain(this.card) ? "decided again since" : null,
      pin.board_id ? `board ${pin.board_id}` : null,
      pin.annotations.slice(0, 6).join(", ") || null,
    ].filter(Boolean);
    const link = webLink(pin.link);
    return [
      h("h2", { id: "pin-title" }, name(pin)),
      h("p", { class: "pin-meta" }, facts.join(" · ")),
      link ? h("p", { class: "pin-link" }, h("a", { href: link, target: "_blank", rel: "noopener noreferrer nofollow", onclick: () => reports.followed(pin.pin_id, this.source) }, `${pin.buyable ? "Shop at" : "Found at"} ${new URL(link).hostname} ↗`)) : null,
      h("div", { class: "actions" }, this.cropButton(), ...(this.keeps ? saveButton(pin.pin_id, this.source) : []), dots.length ? this.switch(dots.length - shown) : null),
    ].filter(Boolean);
  }

  cropButton() {
    const crop = () => {
      const { cropper } = this.stage;
      if (!cropper.shown) {
        cropper.show(DEFAULT_BOX);
        this.onSubject(this.id, { box: DEFAULT_BOX });
      }
      cropper.focus();
    };
    return h("button", { type: "button", class: "button crop-button", onclick: crop }, "Search a part");
  }

  switch(hidden) {
    const input = h("input", {
      type: "checkbox", role: "switch", id: "suppressed", checked: this.showSuppressed,
      onchange: (event) => {
        this.showSuppressed = event.target.checked;
        this.build();
        this.about.querySelector("#suppressed").focus({ preventScroll: true });
      },
    });
    return h("label", { class: "switch" }, input, `Suppressed dots and reasons (${hidden})`);
  }
}
