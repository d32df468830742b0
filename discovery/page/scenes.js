// Results as pictures: each with the box that matched, and why it is there. Pictures that stay are not loaded anew.

import * as api from "./api.js";
import { h, overBox } from "./dom.js";
import { count, frame, share, webLink } from "./format.js";
import { pinAt } from "./route.js";

export class Scenes {
  constructor() {
    this.node = h("ul", { class: "results" });
    this.images = new Map(); // pin_id -> img
  }

  show(results, { shop = false } = {}) {
    const before = this.images;
    this.images = new Map(results.map(({ pin_id: id }) => [id, before.get(id) ?? image(id)]));
    this.node.hidden = !results.length;
    this.node.replaceChildren(...results.map((result) => this.scene(result, shop)));
  }

  scene(result, shop) {
    const whole = result.object_index === undefined;
    const framed = frame(result.image_width, result.image_height);
    const what = whole ? "whole picture" : result.label;
    const title = result.title || result.pin_id;
    const kind = result.curated ? "Curated" : shop ? "Visual" : result.buyable ? "Buyable" : null;
    const why = [what === title ? null : what, `${share(result.similarity)} similar`].filter(Boolean);
    const copies = result.duplicates?.length ? `+${count(result.duplicates.length, "near-copy", "near-copies")}` : null;
    const target = pinAt(result.pin_id, whole ? null : { object: result.object_index });
    const link = webLink(result.link);
    return h(
      "li",
      { class: "result", vars: { "--aspect": framed.aspect } },
      h(
        "a",
        { href: target, "aria-label": [title, [kind, ...why, copies].filter(Boolean).join(", ")].join(": ") },
        h(
          "div",
          { class: "scene" },
          this.images.get(result.pin_id),
          whole ? null : overBox(h("div", { class: "box" }), framed.box(result.box)),
          kind ? h("span", { class: result.curated ? "badge curated" : "badge", title: BADGES[kind] }, kind) : null,
        ),
        h("div", { class: "caption" }, h("b", {}, title), h("span", { title: why.join(", ") }, share(result.similarity))),
        copies ? h("span", { class: "copies" }, copies) : null,
      ),
      result.buyable && link
        ? h("a", { class: "shop-link", href: link, target: "_blank", rel: "noopener noreferrer nofollow", "aria-label": `Shop: ${title}, opens another site` }, "Shop ↗")
        : null,
    );
  }
}

const BADGES = {
  Curated: "an expert chose this product for the look",
  Visual: "found because it looks alike",
  Buyable: "can be bought",
};

const image = (id) => h("img", { src: api.picture(id, 320), alt: "", loading: "lazy", decoding: "async" });
