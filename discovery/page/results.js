// What is like the thing that is meant: looked for in three ways, narrowed down by annotations, live while a box moves.

import * as api from "./api.js";
import { h } from "./dom.js";
import { count } from "./format.js";
import { Latest } from "./latest.js";
import { advice } from "./problems.js";
import { subjectOf } from "./reports.js";
import { Scenes } from "./scenes.js";
import { sourceName } from "./understood.js";

const MODES = {
  lens: { name: "Lens", route: "/lens", extra: {}, one: "result", order: "blended so that they differ", whole: true, empty: "As more pins arrive, some will mean the same." },
  similar: { name: "Similar", route: "/search/flashlight", extra: {}, one: "result", empty: "As more pins arrive, similar ones will be found." },
  looks: { name: "Looks", route: "/search/flashlight", extra: { preset: "similar_looks" }, one: "look", empty: "No other pin shows fashion like it so far." },
  scenes: { name: "Scenes", route: "/search/objects", extra: {}, one: "scene", empty: "No other picture holds an object like it so far." },
  shop: { name: "Shop", route: "/search/flashlight", extra: { preset: "shop_the_look" }, one: "product", empty: "None of the pins that can be bought looks like it." },
};
const curated = { text: "Curated", kind: "curated", title: "an expert chose this product for the look" };
const BADGES = {
  shop: (result) => (result.curated ? curated : { text: "Visual", title: "found because it looks alike" }),
  lens: (result) => ({ text: sourceName(result.source), title: "why it is here" }),
};
const SIZES = [24, 60, 100];
const MOVING_MS = 120;
const PARTIAL = {
  "source-missing": "a source was away or too late, so some may be missing",
  "time-limit": "the search ran out of time, so some may be missing",
  "candidate-limit": "only the nearest were looked through, so some may be missing",
};

export class Results {
  // `modes` can be chosen from, the first is chosen; onAnswer(answer) after each; onMode(mode) when a person chose
  // one; it answers whether it has asked already.
  constructor({ modes = ["similar", "scenes", "looks", "shop"], onAnswer = () => {}, onMode = () => false } = {}) {
    Object.assign(this, { onAnswer, onMode });
    this.latest = new Latest();
    this.mode = modes[0];
    this.retry = null;
    this.title = h("h3", {});
    this.note = h("p", { class: "results-note", role: "status" });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Narrow down by annotation" });
    this.scenes = new Scenes();
    this.message = h("div", { class: "hint" });
    this.more = h("button", { type: "button", class: "button", onclick: () => this.grow() }, "More results");
    this.head = h("div", { class: "results-head" }, this.title, this.modes(modes));
    this.node = h(
      "section",
      { class: "results-panel", "aria-label": "Search results" },
      this.head, this.note, this.chips, this.scenes.node, h("p", { class: "more" }, this.more), this.message,
    );
    this.hint(["", ""]);
  }

  modes(keys) {
    const group = `modes-${keys[0]}`;
    const change = (key) => {
      this.choose(key);
      if (!this.onMode(key)) this.ask(0);
    };
    const option = (key) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name: group, value: key, checked: key === this.mode, onchange: () => change(key) }),
        h("span", {}, MODES[key].name),
      );
    return h("div", { class: "modes", role: "radiogroup", "aria-label": "What to look for" }, keys.map(option));
  }

  // Looks in this way from the next question on.
  choose(key) {
    this.mode = key;
    this.head.querySelector(`input[value="${key}"]`).checked = true;
    this.begin();
  }

  // Forgets what belonged to the search before: chosen annotations, how many are wanted.
  begin() {
    this.chosen = [];
    this.size = SIZES[0];
  }

  // Stops, and says what could be done instead.
  hint([title, text]) {
    this.cancel();
    this.subject = this.answer = null;
    this.begin();
    this.tell(title, text);
    this.head.hidden = true;
  }

  cancel() {
    this.latest.cancel();
    clearTimeout(this.retry);
    this.busy(false);
  }

  // Looks for what is like `subject`: what of a search's body says it (pin_id or picture, object_index, box). `name` is
  // what people call it. While a box moves the chosen annotations stay.
  search(subject, name, { moving = false } = {}) {
    const same = this.subject !== null && subject.pin_id === this.subject.pin_id && subject.picture === this.subject.picture;
    const boxes = same && subject.box && this.subject.box;
    if (boxes && String(subject.box) === String(this.subject.box) && this.state !== "failed") return;
    if (!boxes) this.begin();
    this.subject = subject;
    this.name = name;
    this.ask(moving ? MOVING_MS : 0);
  }

  ask(wait) {
    if (!this.subject) return;
    clearTimeout(this.retry);
    const { route, extra, whole } = MODES[this.mode];
    const narrowed = this.chosen.length ? { annotations: this.chosen } : {};
    const question = { ...this.subject, ...extra, ...narrowed, k: this.size };
    if (whole) delete question.box;
    this.state = "asking";
    this.busy(true);
    this.latest.ask((signal) => this.send(route, question, signal), wait);
  }

  async send(route, question, signal) {
    try {
      const answer = await api.search(route, question, signal);
      if (signal.aborted) return;
      this.answer = answer;
      this.about = subjectOf(answer);
      this.state = "shown";
      this.show();
      this.onAnswer(answer);
    } catch (error) {
      if (signal.aborted) return;
      this.fail(error);
    }
    this.busy(this.latest.next !== null);
  }

  fail(error) {
    const { title, text, again } = advice(error);
    this.state = "failed";
    this.tell(title, text);
    if (again === null) return;
    this.message.append(h("button", { type: "button", class: "button", onclick: () => this.ask(0) }, "Try now"));
    this.retry = setTimeout(() => this.ask(0), again * 1000);
  }

  busy(yes) {
    this.node.classList.toggle("working", yes);
    if (yes) this.node.setAttribute("aria-busy", "true");
    else this.node.removeAttribute("aria-busy");
  }

  tell(title, text) {
    this.scenes.show([]);
    this.head.hidden = false;
    this.title.textContent = this.name ? `Like this ${this.name}` : "Results";
    this.note.textContent = "";
    this.chips.replaceChildren(...this.chosen.map((one) => this.chip(one, true)));
    this.more.hidden = true;
    this.message.hidden = false;
    this.message.replaceChildren(h("p", { role: "status" }, h("b", {}, title), text));
  }

  show() {
    const { results, partial, annotations = this.answer.understanding.annotations } = this.answer;
    const mode = MODES[this.mode];
    if (!results.length) {
      const narrowed = this.chosen.length > 0;
      this.tell(`Nothing ${this.mode === "shop" ? "to buy" : ""} like this ${this.name}`.replace("  ", " "), narrowed ? "Take an annotation away to see more." : mode.empty);
      return;
    }
    this.message.hidden = true;
    this.head.hidden = false;
    this.title.textContent = `Like this ${this.name}`;
    const full = results.length >= this.size;
    const parts = [
      `${count(results.length, mode.one)}${this.chosen.length ? ` with “${this.chosen.join("”, “")}”` : ""}, ${mode.order ?? "best first"}`,
      PARTIAL[partial],
    ];
    this.note.textContent = parts.filter(Boolean).join("; ");
    this.showChips(annotations);
    this.scenes.show(results, BADGES[this.mode], this.about);
    this.more.hidden = !full || this.size === SIZES.at(-1);
  }

  showChips(annotations) {
    const focused = document.activeElement?.closest?.(".chip")?.dataset.annotation;
    const given = annotations.filter(({ annotation }) => !this.chosen.includes(annotation));
    this.chips.replaceChildren(...this.chosen.map((one) => this.chip(one, true)), ...given.map((one) => this.chip(one.annotation, false, one.score)));
    this.chips.querySelector(`[data-annotation="${CSS.escape(focused ?? "")}"]`)?.focus({ preventScroll: true });
  }

  chip(annotation, chosen, score) {
    return h(
      "button",
      {
        type: "button", class: "chip", "aria-pressed": String(chosen), "data-annotation": annotation,
        title: score === undefined ? null : `tf-idf ${score.toFixed(2)}`,
        onclick: () => {
          this.chosen = chosen ? this.chosen.filter((one) => one !== annotation) : [...this.chosen, annotation];
          this.size = SIZES[0];
          this.ask(0);
        },
      },
      annotation,
    );
  }

  // A pin that was deleted is not shown any more.
  forget(id) {
    const results = this.answer?.results;
    if (!results?.some((one) => one.pin_id === id || one.duplicates.includes(id))) return;
    const kept = results.filter((one) => one.pin_id !== id).map((one) => ({ ...one, duplicates: one.duplicates.filter((other) => other !== id) }));
    this.answer = { ...this.answer, results: kept };
    if (this.state === "shown") this.show();
  }

  grow() {
    this.size = SIZES[Math.min(SIZES.indexOf(this.size) + 1, SIZES.length - 1)];
    this.ask(0);
  }
}
