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

  // `badgeOf` says of a result what stands on its picture: { text, title, kind }.
  show(results, badgeOf = buyable) {
    const before = this.images;
    this.images = new Map(results.map(({ pin_id: id }) => [id, before.get(id) ?? image(id)]));
    this.node.hidden = !results.length;
    this.node.replaceChildren(...results.map((result) => this.scene(result, badgeOf(result))));
  }

  scene(result, badge) {
    const whole = result.object_index === undefined;
    const framed = frame(result.image_width, result.image_height);
    const title = result.title || result.pin_id;
    const what = result.label ?? (result.box ? "whole picture" : null);
    const why = [
      what === title ? null : what,
      result.similarity === undefined ? null : `${share(result.similarity)} similar`,
      result.shared_boards ? `on ${count(result.shared_boards, "board")} with it` : null,
    ].filter(Boolean);
    const copies = result.duplicates?.length ? `+${count(result.duplicates.length, "near-copy", "near-copies")}` : null;
    const measure = result.shared_boards ? count(result.shared_boards, "board") : result.similarity === undefined ? "" : share(result.similarity);
    return h(
      "li",
      { class: "result", vars: { "--aspect": framed.aspect } },
      h(
        "a",
        {
          href: pinAt(result.pin_id, whole ? null : { object: result.object_index }),
          "aria-label": [title, [badge?.text, ...why, copies].filter(Boolean).join(", ")].join(": "),
        },
        h(
          "div",
          { class: "scene" },
          this.images.get(result.pin_id),
          whole ? null : overBox(h("div", { class: "box" }), framed.box(result.box)),
          badge ? h("span", { class: badge.kind ? `badge ${badge.kind}` : "badge", title: badge.title }, badge.text) : null,
        ),
        h("div", { class: "caption" }, h("b", {}, title), h("span", { title: why.join(", ") }, measure)),
        copies ? h("span", { class: "copies" }, copies) : null,
      ),
      shopLink(result, title),
    );
  }
}

const buyable = (result) => (result.buyable ? { text: "Buyable", title: "can be bought" } : null);

function shopLink(result, title) {
  const href = result.buyable ? webLink(result.link) : null;
  if (!href) return null;
  return h("a", { class: "shop-link", href, target: "_blank", rel: "noopener noreferrer nofollow", "aria-label": `Shop: ${title}, opens another site` }, "Shop ↗");
}

const image = (id) => h("img", { src: api.picture(id, 480), alt: "", loading: "lazy", decoding: "async" });
