// A dialog over the page with two parts, side by side or one below the other, that locks what lies behind it.

import { h } from "./dom.js";

export class Sheet {
  // onClose() when it was closed; onLeave() after that when a person closed it, and not the page.
  constructor(dialog, { left, right, onClose, onLeave }) {
    this.dialog = dialog;
    this.onClose = onClose;
    this.closing = 0; // by the page; the dialog tells of it later, when something else may be open already
    this.parts = [h("div", { class: "sheet-left" }, left), h("div", { class: "sheet-right" }, right)];
    dialog.append(...this.parts, h("button", { type: "button", class: "sheet-close", "aria-label": "Close", onclick: () => dialog.close() }, "✕"));
    dialog.addEventListener("close", () => {
      if (this.closing) {
        this.closing -= 1;
        return;
      }
      this.closed();
      onLeave();
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }

  open() {
    if (this.dialog.open) return;
    this.dialog.showModal();
    document.body.classList.add("locked");
  }

  close() {
    if (!this.dialog.open) return;
    this.closing += 1;
    this.dialog.close();
    this.closed();
  }

  closed() {
    document.body.classList.toggle("locked", document.querySelector("dialog[open]") !== null);
    this.onClose();
  }

  focus() {
    this.dialog.focus({ preventScroll: true });
  }

  top() {
    for (const part of [this.dialog, ...this.parts]) part.scrollTo(0, 0);
  }

  // Where the parts lie one below the other, brings one of their nodes into view.
  reveal(node) {
    if (matchMedia("(max-width: 860px)").matches) node.scrollIntoView({ block: "nearest" });
  }
}
