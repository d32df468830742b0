// The pins that were saved in this browser, and the button that saves one. The board itself is the API's.

import { h } from "./dom.js";
import { recall, remember } from "./memory.js";
import { advice } from "./problems.js";
import { keep, reports } from "./reports.js";

const KEPT = "dotstream.kept";
const MOST = 500;

const all = () => JSON.parse(recall(KEPT) ?? "[]");

function note(pinId, kept) {
  const others = all().filter((one) => one !== pinId);
  remember(KEPT, JSON.stringify(kept ? [...others, pinId].slice(-MOST) : others));
}

// `source` is the answer that the pin was opened out of.
export function saveButton(pinId, source) {
  const button = h("button", { type: "button", class: "button save", onclick: () => toggle() });
  const trouble = h("span", { class: "save-trouble", role: "status" });
  const draw = () => {
    const kept = all().includes(pinId);
    button.setAttribute("aria-pressed", String(kept));
    button.textContent = kept ? "Saved" : "Save";
  };
  async function toggle() {
    const kept = !all().includes(pinId);
    try {
      await keep(pinId, kept);
    } catch (error) {
      trouble.textContent = `Not ${kept ? "saved" : "changed"}: ${advice(error).title}`;
      return;
    }
    trouble.textContent = "";
    note(pinId, kept);
    if (kept) reports.note("save", pinId, source);
    draw();
  }
  draw();
  return [button, trouble];
}
