// What is similar to the chosen object: scenes with the matched box drawn, and annotation chips that narrow them down.

import * as api from "./api.js";
import { h, overBox } from "./dom.js";
import { count, frame, share } from "./format.js";

export class Results {
  constructor() {
    this.node = h("section", { class: "results-panel", "aria-label": "Similar objects" });
    this.aborter = null;
    this.answer = null;
    this.chip = null;
  }

  cancel() {
    this.aborter?.abort();
  }

  hint([title, text]) {
    this.cancel();
    this.answer = null;
    this.node.classList.remove("working");
    this.node.replaceChildren(h("div", { class: "hint" }, h("p", {}, h("b", {}, title), text)));
  }

  async search(question, label) {
    this.cancel();
    const aborter = new AbortController();
    this.aborter = aborter;
    this.node.classList.add("working");
    this.node.setAttribute("aria-busy", "true");
    try {
      this.answer = await api.similar("objects", question, aborter.signal);
      this.label = label;
      this.chip = null;
      this.show();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.hint(["The search did not work", error.message]);
    } finally {
      if (this.aborter === aborter) {
        this.node.classList.remove("working");
        this.node.removeAttribute("aria-busy");
      }
    }
  }

  show() {
    const { results, annotations } = this.answer;
    if (!results.length) {
      this.hint([`Nothing like this ${this.label} yet`, "As more pins arrive, similar objects will be found."]);
      return;
    }
    const kept = this.chip === null ? results : results.filter((result) => result.annotations.includes(this.chip));
    const note = `${count(kept.length, "scene")}${this.chip === null ? "" : ` with “${this.chip}”`}, nearest first`;
    this.node.replaceChildren(
      h("div", { class: "results-head" }, h("h3", {}, `Like this ${this.label}`)),
      h("p", { class: "results-note", role: "status" }, note),
      annotations.length ? h("div", { class: "chips", role: "group", "aria-label": "Narrow down by annotation" }, annotations.map((one) => this.chipOf(one))) : "",
      h("ul", { class: "results" }, kept.map(scene)),
    );
  }

  chipOf({ annotation, score }) {
    return h(
      "button",
      {
        type: "button", class: "chip", "aria-pressed": String(this.chip === annotation), title: `tf-idf ${score.toFixed(2)}`,
        onclick: () => {
          this.chip = this.chip === annotation ? null : annotation;
          this.show();
          [...this.node.querySelectorAll(".chip")].find((chip) => chip.textContent === annotation)?.focus();
        },
      },
      annotation,
    );
  }
}

function scene(result) {
  const whole = result.object_index === undefined;
  const framed = frame(result.image_width, result.image_height);
  const what = whole ? "whole picture" : result.label;
  const title = result.title || result.pin_id;
  const target = `#/pin/${encodeURIComponent(result.pin_id)}${whole ? "" : `/${result.object_index}`}`;
  return h(
    "li",
    { class: "result", vars: { "--aspect": framed.aspect } },
    h(
      "a",
      { href: target, "aria-label": `${title}: ${what}, ${share(result.similarity)} similar` },
      h(
        "div",
        { class: "scene" },
        h("img", { src: api.picture(result.pin_id, 320), alt: "", loading: "lazy", decoding: "async" }),
        whole ? null : overBox(h("div", { class: "box" }), framed.box(result.box)),
      ),
      h("div", { class: "caption" }, h("b", {}, title), h("span", {}, `${what === title ? "" : `${what} · `}${share(result.similarity)}`)),
    ),
  );
}
