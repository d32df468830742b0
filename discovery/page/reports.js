// What the person here does with pins, told to the API (POST /engagements, /saves): that is how known good results rise,
// boxes that many crop become dots, and pins on one board become related. Nothing is told unless the API takes it.
//
// An answer's results carry what they answer: { request_id, query_pin_id, query_object_index, box }. A pin that is opened
// out of an answer keeps that, so that what is done with it there counts for the answer.

import { asked } from "./api.js";
import { recall, remember } from "./memory.js";

const SEND_MS = 1500;
const MOST = 100;
const LONG_MS = 30_000;
const VISITOR = "dotstream.visitor";

export const newId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// A name for this browser, so that one person counts once. It is made here and says nothing about anybody.
export function visitor() {
  if (!recall(VISITOR)) remember(VISITOR, newId());
  return recall(VISITOR);
}

// What a search's answer was asked about, as its results tell it; null for a picture that is no pin.
export function subjectOf({ query }) {
  if (!query?.pin_id) return null;
  const object = query.object_index ?? query.on_object;
  const drawn = query.object_index === undefined && query.box;
  return { request_id: newId(), query_pin_id: query.pin_id, ...(object === undefined ? {} : { query_object_index: object }), ...(drawn ? { box: query.box } : {}) };
}

class Reports {
  constructor() {
    Object.assign(this, { takes: null, waiting: [], timer: null, left: null, opening: null });
    addEventListener("visibilitychange", () => (document.hidden ? this.send() : this.returned()));
    addEventListener("pagehide", () => this.send());
  }

  // The API has said whether it takes reports; what was noted before is sent or dropped.
  allow(takes) {
    this.takes = takes;
    if (!takes) this.waiting = [];
    else if (this.waiting.length) this.send();
  }

  // Notes one thing that was done with a pin; `source` is where in which answer it stood, if it did.
  note(kind, pinId, source = null, more = {}) {
    if (this.takes === false) return;
    this.waiting.push({ kind, pin_id: pinId, user_id: visitor(), ...source, ...more });
    if (this.waiting.length >= MOST) this.send();
    else this.timer ??= setTimeout(() => this.send(), SEND_MS);
  }

  // A result was chosen; the pin that opens next came out of this answer.
  chosen(pinId, source) {
    this.opening = { pinId, source };
  }

  // Where the pin that opens now came from.
  opened(pinId) {
    const source = this.opening?.pinId === pinId ? this.opening.source : null;
    this.opening = null;
    this.note("closeup", pinId, source);
    return source;
  }

  // A link to another site was followed; whoever stays there for long liked it.
  followed(pinId, source) {
    this.note("click", pinId, source);
    clearTimeout(this.left);
    this.left = setTimeout(() => document.hidden && this.note("long_click", pinId, source), LONG_MS);
  }

  returned() {
    clearTimeout(this.left);
    this.left = null;
  }

  async send() {
    clearTimeout(this.timer);
    this.timer = null;
    if (!this.takes || !this.waiting.length) return;
    const events = this.waiting.splice(0, MOST);
    await post("/engagements", events).catch((error) => {
      if (error.status === 403) this.allow(false);
      // What could not be told is not told later: it would be of a time that is over.
    });
    if (this.waiting.length) this.timer ??= setTimeout(() => this.send(), SEND_MS);
  }
}

const post = (path, events) =>
  asked(path, { method: "POST", keepalive: true, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ events }) });

export const reports = new Reports();

// Puts a pin on this browser's board, or takes it from it.
export const keep = (pinId, kept) => post("/saves", [{ pin_id: pinId, board_id: `visitor-${visitor()}`, kind: kept ? "saved" : "unsaved" }]);
