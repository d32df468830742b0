// Results as pictures: each with the box that matched, and why it is there. Pictures that stay are not loaded anew.

import * as api from "./api.js";
import { h, overBox, said } from "./dom.js";
import { count, frame, share, webLink } from "./format.js";
import { reports } from "./reports.js";
import { pinAt } from "./route.js";

const SEEN_SHARE = 0.5;

export class Scenes {
  constructor() {
    this.node = h("ul", { class: "results" });
    this.images = new Map(); // pin_id -> img
    this.seeing = new IntersectionObserver((entries) => entries.forEach((entry) => this.saw(entry)), { threshold: SEEN_SHARE });
    this.sources = new Map(); // node -> { pinId, source }: results that were not seen yet
  }

  // `badgeOf` says of a result what stands on its picture: { text, title, kind }; `subject` is what the results answer
  // (reports.js), null where that is no pin.
  show(results, badgeOf = buyable, subject = null) {
    const before = this.images;
    this.images = new Map(results.map(({ pin_id: id }) => [id, before.get(id) ?? image(id)]));
    this.node.hidden = !results.length;
    this.seeing.disconnect();
    this.sources.clear();
    this.node.replaceChildren(...results.map((result, position) => this.scene(result, badgeOf(result), subject && { ...subject, position })));
  }

  // Takes out a pin that was deleted. Returns how many are left.
  remove(id) {
    this.node.querySelector(`[data-pin="${CSS.escape(id)}"]`)?.remove();
    this.images.delete(id);
    this.node.hidden = !this.images.size;
    return this.images.size;
  }

  saw({ isIntersecting, target }) {
    const seen = this.sources.get(target);
    if (!isIntersecting || !seen) return;
    this.sources.delete(target);
    this.seeing.unobserve(target);
    reports.note("impression", seen.pinId, seen.source);
  }

  scene(result, badge, source) {
    const whole = result.object_index === undefined;
    const framed = frame(result.image_width, result.image_height);
    const title = result.title || result.pin_id;
    const what = result.label ?? (result.box ? "whole picture" : null);
    const alike = result.similarity === undefined ? null : share(result.similarity);
    const measure = result.shared_boards ? count(result.shared_boards, "board") : (alike ?? "");
    const rest = (result.shared_boards ? ["shared", alike && `${alike} similar`] : [alike && "similar"]).concat(what === title ? null : what);
    const why = rest.filter(Boolean).join(", ");
    const copies = result.duplicates?.length ? `+${count(result.duplicates.length, "near-copy", "near-copies")}` : null;
    const node = h(
      "li",
      { class: "result", "data-pin": result.pin_id, vars: { "--aspect": framed.aspect } },
      h(
        "a",
        {
          href: pinAt(result.pin_id, whole ? null : { object: result.object_index }),
          onclick: () => reports.chosen(result.pin_id, source),
        },
        h("div", { class: "scene" }, this.images.get(result.pin_id), whole ? null : overBox(h("div", { class: "box" }), framed.box(result.box))),
        h("div", { class: "caption" }, h("b", {}, title), h("span", { title: `${measure} ${why}` }, measure), said(why)),
        copies ? h("span", { class: "copies" }, copies) : null,
        badge ? h("span", { class: badge.kind ? `badge ${badge.kind}` : "badge", title: badge.title }, badge.text) : null,
      ),
      shopLink(result, title, source),
    );
    if (source) {
      this.sources.set(node, { pinId: result.pin_id, source });
      this.seeing.observe(node);
    }
    return node;
  }
}

const buyable = (result) => (result.buyable ? { text: "Buyable", title: "can be bought" } : null);

function shopLink(result, title, source) {
  const href = result.buyable ? webLink(result.link) : null;
  if (!href) return null;
  const followed = () => reports.followed(result.pin_id, source);
  return h(
    "a",
    { class: "shop-link", href, target: "_blank", rel: "noopener noreferrer nofollow", onclick: followed, "aria-label": `Shop: ${title}, opens another site` },
    "Shop",
    h("span", { "aria-hidden": "true" }, " ↗"),
  );
}

const image = (id) => h("img", { src: api.picture(id, 480), alt: "", loading: "lazy", decoding: "async" });
