// A picture as large as fits, with what lies over it: a veil with the box that is meant, dots, and the cropper.

import { h, overBox } from "./dom.js";
import { Cropper } from "./cropper.js";

export class Stage {
  // onMove(box) and onSettle(box) are the cropper's.
  constructor({ onMove, onSettle }) {
    this.image = h("img", { alt: "", draggable: "false" });
    this.hover = h("div", { class: "box hover", hidden: true });
    this.dots = h("div", { class: "dots" });
    this.node = h("div", { class: "stage" });
    this.cropper = new Cropper(this.node, { onMove, onSettle });
    const veil = h("div", { class: "veil" }, this.cropper.shade, this.hover);
    this.node.append(this.image, veil, this.cropper.node, this.dots);
    this.dots.addEventListener("click", (event) => this.meant(event), true);
  }

  // Dots that are close to each other overlap: a click belongs to the one whose centre it is nearest to.
  meant(event) {
    if (event.detail === 0) return; // not by a pointer
    const away = (dot) => {
      const { left, top, width, height } = dot.getBoundingClientRect();
      return Math.hypot(left + width / 2 - event.clientX, top + height / 2 - event.clientY);
    };
    const [nearest] = [...this.dots.children].sort((one, other) => away(one) - away(other));
    if (nearest === event.target.closest(".dot")) return;
    event.stopPropagation();
    nearest.focus({ preventScroll: true });
    nearest.click();
  }

  // Shows a picture in its aspect (width over height).
  picture(source, aspect, alt) {
    this.node.style.setProperty("--aspect", (aspect || 1).toFixed(4));
    this.image.alt = alt;
    if (this.image.getAttribute("src") !== source) this.image.src = source;
  }

  // Draws another box than the cropper's, while a pointer or the focus is on its dot.
  mark(box) {
    this.hover.hidden = box === null;
    if (box) overBox(this.hover, box);
  }
}
