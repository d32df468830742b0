// A box over a picture that mouse, touch and keyboard move and resize. A drag on the bare picture draws a new one.
//
// Keys: arrows move, shift and arrows resize. By touch a drag beside the box scrolls the page, as anywhere.

import * as boxes from "./boxes.js";
import { h, overBox } from "./dom.js";

const GRIPS = ["nw", "ne", "sw", "se", "n", "e", "s", "w"];
const STEP = 0.01;
const SLOP_PX = 5;
const IDLE_MS = 350;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Cropper {
  // `stage` is the element that the picture fills; onMove(box) is called while it moves, onSettle(box) once it rests.
  constructor(stage, { onMove, onSettle }) {
    Object.assign(this, { stage, onMove, onSettle, box: null, drag: null, idle: null, dragged: false });
    this.shade = overBox(h("div", { class: "box spot" }), boxes.DEFAULT_BOX);
    this.node = h(
      "div",
      { class: "cropper", tabindex: 0, role: "application", "aria-roledescription": "crop box", onkeydown: (event) => this.key(event) },
      GRIPS.map((grip) => h("span", { class: `grip ${grip}`, "data-grip": grip, "aria-hidden": "true" })),
    );
    this.hide();
    stage.addEventListener("pointerdown", (event) => this.down(event));
    // A selection or the picture itself must not be dragged in its place.
    stage.addEventListener("dragstart", (event) => event.preventDefault());
    stage.addEventListener("click", (event) => this.click(event), { capture: true });
  }

  get shown() {
    return this.box !== null;
  }

  // Puts the box there without telling anyone.
  show(box) {
    this.box = box;
    this.node.hidden = this.shade.hidden = false;
    this.draw();
  }

  hide() {
    clearTimeout(this.idle);
    this.drag?.end();
    this.box = this.drag = null;
    this.node.hidden = this.shade.hidden = true;
  }

  focus() {
    this.node.focus({ preventScroll: true });
  }

  draw() {
    overBox(this.node, this.box);
    overBox(this.shade, this.box);
    this.node.setAttribute("aria-label", `Crop box, ${boxes.spoken(this.box)}. Arrow keys move it, shift and arrow keys resize it.`);
  }

  change(box) {
    this.show(box);
    this.onMove(boxes.rounded(box));
  }

  settle() {
    clearTimeout(this.idle);
    if (this.shown) this.onSettle(boxes.rounded(this.box));
  }

  key(event) {
    const arrow = ARROWS[event.key];
    if (!arrow || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const [dx, dy] = arrow.map((step) => step * STEP);
    this.change(event.shiftKey ? boxes.grown(this.box, dx, dy) : boxes.moved(this.box, dx, dy));
    clearTimeout(this.idle);
    this.idle = setTimeout(() => this.settle(), IDLE_MS);
  }

  down(event) {
    if (event.button !== 0 || !event.isPrimary || this.drag) return;
    const frame = this.stage.getBoundingClientRect();
    const from = [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
    const kind = this.kindOf(event, from);
    if (!kind) return;
    this.drag = { id: event.pointerId, kind, from, frame, box: this.box, at: [event.clientX, event.clientY], begun: false };
    const ended = new AbortController();
    this.drag.end = () => ended.abort();
    const { signal } = ended;
    addEventListener("pointermove", (moved) => this.move(moved), { signal });
    addEventListener("pointerup", (up) => this.up(up), { signal });
    addEventListener("pointercancel", (lost) => this.rest(lost), { signal });
  }

  kindOf(event, from) {
    if (event.target.dataset.grip) return event.target.dataset.grip;
    if (this.shown && boxes.contains(this.box, from)) return "move";
    return event.pointerType === "touch" || event.target.closest("button") ? null : "new";
  }

  move(event) {
    const { drag } = this;
    if (!drag || event.pointerId !== drag.id) return;
    const [px, py] = [event.clientX - drag.at[0], event.clientY - drag.at[1]];
    if (!drag.begun && Math.hypot(px, py) < SLOP_PX) return;
    if (!drag.begun) {
      drag.begun = true;
      // From here on the pointer is ours: a dot that the drag began on is not clicked.
      this.stage.setPointerCapture(drag.id);
    }
    const [dx, dy] = [px / drag.frame.width, py / drag.frame.height];
    if (drag.kind === "new") this.change(boxes.drawn(drag.from, [drag.from[0] + dx, drag.from[1] + dy]));
    else if (drag.kind === "move") this.change(boxes.moved(drag.box, dx, dy));
    else this.change(boxes.resized(drag.box, drag.kind, dx, dy));
  }

  up(event) {
    this.move(event);
    this.rest(event);
  }

  rest(event) {
    const { drag } = this;
    if (!drag || event.pointerId !== drag.id) return;
    drag.end();
    this.drag = null;
    if (!drag.begun) return;
    this.dragged = true;
    setTimeout(() => (this.dragged = false));
    this.focus();
    this.settle();
  }

  click(event) {
    if (!this.dragged) return;
    this.dragged = false;
    event.stopPropagation();
    event.preventDefault();
  }
}
