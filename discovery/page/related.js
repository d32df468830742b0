// Pins that belong with the open one: kept on the same boards, or alike where none of those is left.

import * as api from "./api.js";
import { h } from "./dom.js";
import { advice } from "./problems.js";
import { Latest } from "./latest.js";
import { newId } from "./reports.js";
import { Scenes } from "./scenes.js";

const SOURCES = {
  co_occurrence: "People keep these on the same boards",
  visual: "No pin that is still here was kept together with it; these look alike",
};

export class Related {
  constructor() {
    this.latest = new Latest();
    this.note = h("p", { class: "results-note", role: "status" });
    this.scenes = new Scenes();
    this.node = h("section", { class: "related", "aria-labelledby": "related-title", hidden: true }, h("h3", { id: "related-title" }, "Related pins"), this.note, this.scenes.node);
  }

  show(id) {
    this.scenes.show([]);
    this.node.hidden = true;
    this.latest.ask(async (signal) => {
      try {
        this.tell(await api.related(id, signal));
      } catch (error) {
        if (signal.aborted) return;
        const { title, text } = advice(error);
        this.note.textContent = `${title}. ${text}`;
        this.node.hidden = false;
      }
    });
  }

  cancel() {
    this.latest.cancel();
  }

  // A pin that was deleted is not shown any more.
  forget(id) {
    if (!this.scenes.remove(id)) this.node.hidden = true;
  }

  tell({ pin_id: id, source, results, degraded, synthetic_model: synthetic }) {
    const parts = [SOURCES[source], degraded ? "boards could not be asked" : null, synthetic ? "ordered by a model that was trained on a made-up log" : null];
    this.note.textContent = `${parts.filter(Boolean).join("; ")}.`;
    this.scenes.show(results, undefined, { request_id: newId(), query_pin_id: id });
    this.node.hidden = !results.length;
  }
}
