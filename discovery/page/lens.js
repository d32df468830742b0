// Lens: a photograph by upload, drop, paste or camera; what was understood of it; and pins that mean the same.

import { Camera, hasCamera } from "./camera.js";
import { at, h } from "./dom.js";
import { share } from "./format.js";
import { pictureOf, prepared } from "./photo.js";
import { Results } from "./results.js";
import { Sheet } from "./sheet.js";
import { Stage } from "./stage.js";
import { understood } from "./understood.js";

const TYPES = "image/jpeg,image/png,image/webp";

export class LensView {
  // onLeave() when a person closed it.
  constructor(dialog, { onLeave }) {
    this.photo = null;
    this.taken = null; // the newest file that was given
    this.results = new Results({ modes: ["lens", "similar", "scenes", "looks", "shop"], onAnswer: (answer) => this.tell(answer), onMode: (mode) => this.mode(mode) });
    this.stage = new Stage({ onMove: (box) => this.look(box, "part", true), onSettle: (box) => this.look(box, "part") });
    this.camera = new Camera({ onTaken: (blob) => this.take(blob), onCancel: () => this.ask(), onRefused: (text) => this.ask(text) });
    this.about = h("div", { class: "about" });
    this.left = h("div", { class: "stage-band" });
    this.sheet = new Sheet(dialog, {
      left: [this.left, this.about],
      right: [this.results.node],
      onClose: () => {
        this.camera.stop();
        this.results.cancel();
      },
      onLeave,
    });
    this.ask();
  }

  open() {
    this.sheet.open();
    this.sheet.focus();
  }

  close() {
    this.sheet.close();
  }

  forget(id) {
    this.results.forget(id);
  }

  // Asks for a picture; `trouble` is why another way has to be found.
  ask(trouble = null) {
    this.taken = null;
    this.camera.stop();
    this.zone(trouble);
    this.head([h("p", { class: "pin-meta" }, "Tells what is in a picture, and finds pins that mean the same.")]);
    this.results.hint(["Nothing to show yet", "Results appear here as soon as there is a picture."]);
  }

  zone(trouble = null) {
    const input = h("input", { type: "file", accept: TYPES, class: "hidden", id: "lens-file", onchange: (event) => this.take(pictureOf(event.target.files) ?? event.target.files[0]) });
    const camera = () => {
      this.left.replaceChildren(this.camera.node);
      this.camera.start();
    };
    this.left.replaceChildren(
      h(
        "div",
        { class: "drop" },
        h("p", { class: "drop-title" }, "Show Lens a picture"),
        h("p", { class: "drop-how" }, "Drop it here, paste it, or"),
        h(
          "div",
          { class: "actions" },
          input,
          h("label", { class: "button primary", for: "lens-file" }, "Choose a picture"),
          hasCamera() ? h("button", { type: "button", class: "button", onclick: camera }, "Use the camera") : null,
        ),
        trouble ? h("p", { class: "trouble", role: "alert" }, trouble) : null,
      ),
    );
  }

  async take(file) {
    if (!file) return;
    this.camera.stop();
    this.taken = file;
    const photo = await prepared(file);
    if (this.taken !== file) {
      // A newer one was given while this was read.
      if (photo.url) URL.revokeObjectURL(photo.url);
      return;
    }
    if (this.photo?.url) URL.revokeObjectURL(this.photo.url);
    this.photo = photo;
    this.stage.cropper.hide();
    this.stage.dots.replaceChildren();
    this.stage.picture(photo.url ?? "", photo.aspect, "Your picture");
    if (photo.url) this.left.replaceChildren(this.stage.node);
    else this.zone();
    this.head();
    this.results.choose("lens");
    this.results.search({ picture: photo.blob }, "picture");
    this.sheet.top();
  }

  head(facts = []) {
    const another = h("button", { type: "button", class: "button", onclick: () => this.ask() }, "Another picture");
    this.about.replaceChildren(h("h2", { id: "lens-title" }, "Lens"), ...(this.photo && this.left.firstChild === this.stage.node ? [h("div", { class: "actions" }, another)] : []), ...facts);
  }

  // The answer says what the picture holds; a search by box says only what is like the box.
  tell(answer) {
    if (!answer.understanding) return;
    const choose = (box, label) => this.look(box, label.toLowerCase());
    this.head(understood(answer, choose));
    this.stage.dots.replaceChildren(...answer.understanding.objects.map((one) => dot(one, choose)));
  }

  // Looks for what is like a part of the picture; `name` is what the part is said to be.
  look(box, name, moving = false) {
    if (!moving) this.stage.cropper.show(box);
    if (this.results.mode === "lens") this.results.choose("similar");
    this.results.search({ picture: this.photo.blob, box }, name, { moving });
    if (!moving) this.sheet.reveal(this.results.node);
  }

  mode(key) {
    if (key !== "lens") return false;
    this.stage.cropper.hide();
    this.results.search({ picture: this.photo.blob }, "picture");
    return true;
  }
}

function dot({ box, label, score }, choose) {
  const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  const kind = ["dot", y > 0.85 && "low", x < 0.12 && "left", x > 0.88 && "right"].filter(Boolean).join(" ");
  const button = h("button", { type: "button", class: kind, "aria-label": `${label}, ${share(score)} certain: search for it`, onclick: () => choose(box, label) }, h("span", { class: "dot-name", "aria-hidden": "true" }, label));
  return at(button, x, y);
}

// Pictures that are dropped or pasted anywhere on the page go to `take`; `over(yes)` while one is held above it.
export function watchDrops(take, over) {
  const holds = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    over(true);
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) over(false);
  });
  addEventListener("drop", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    over(false);
    const file = event.dataTransfer.files[0];
    if (file) take(file);
  });
  addEventListener("paste", (event) => {
    const file = pictureOf(event.clipboardData?.files);
    if (file) take(file);
  });
}
