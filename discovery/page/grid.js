// The grid of newest pins. Arrivals are put in together, a few times a second; while a person reads further down, new
// pins wait behind a button, so that nothing moves under the eyes.

import { cardNode } from "./card.js";
import { eventToDot, median } from "./format.js";

const KEPT = 1000;
const FLUSH_MS = 150;

const older = (one, other) => Number(one.pin.version) < Number(other.pin.version);

// A card with the dots that are known already, when it has none of its own and they are of its version.
function merged(card, known) {
  return card.dots || !known || known.pin.version !== card.pin.version ? card : { ...card, dots: known.dots };
}

export class Grid {
  // onChange() after cards came, went or changed; onHeld(n) when n new pins wait; onMissed() when too many waited.
  constructor(list, { onChange, onHeld, onMissed }) {
    Object.assign(this, { list, onChange, onHeld, onMissed, atTop: true, missed: false });
    this.cards = new Map(); // pin_id -> { card, node }
    this.waiting = new Map(); // pin_id -> card: arrived, not yet in the grid
    this.questions = new Set(); // of each question under way: pin_id -> { card, arrived } of what came meanwhile, null where it went
    this.timer = null;
    this.trimmed = false; // whether cards at the end were let go, so that what follows the last one is not known
  }

  get size() {
    return this.cards.size;
  }

  get(id) {
    return this.waiting.get(id) ?? this.cards.get(id)?.card;
  }

  get last() {
    return this.cards.get(this.list.lastElementChild?.dataset.pin)?.card ?? null;
  }

  // A pin arrived, or one that is here changed.
  arrive(card) {
    this.note(card.pin.pin_id, { card, arrived: true });
    this.put(card);
  }

  // A pin changed that may not be here.
  change(card) {
    this.note(card.pin.pin_id, { card, arrived: false });
    if (this.get(card.pin.pin_id)) this.put(card);
  }

  // Something was missed: all is asked for again, once new pins appear where the reader is.
  miss() {
    this.missed = true;
    if (this.atTop) this.onMissed();
  }

  put(card) {
    const id = card.pin.pin_id;
    const known = this.get(id);
    if (known && older(card, known)) return;
    this.waiting.delete(id);
    this.waiting.set(id, merged(card, known));
    if (this.waiting.size > KEPT) {
      this.waiting.delete(this.waiting.keys().next().value);
      this.missed = true;
    }
    this.timer ??= setTimeout(() => this.flush(), FLUSH_MS);
  }

  // Puts in what arrived. Pins that are in the grid already are changed in place.
  flush() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.missed && this.atTop) {
      this.onMissed();
      return;
    }
    const front = document.createDocumentFragment();
    for (const [id, card] of this.waiting) {
      const known = this.cards.get(id);
      if (!known && !this.atTop) continue;
      this.waiting.delete(id);
      const node = this.keep(card, true);
      if (!known) front.prepend(node);
    }
    if (front.firstChild) this.list.prepend(front);
    if (this.atTop) this.trim();
    this.onHeld(this.waiting.size);
    this.onChange();
  }

  // Says whether the reader is where new pins appear.
  reading(atTop) {
    this.atTop = atTop;
    if (atTop && (this.waiting.size || this.missed)) this.flush();
  }

  // Asks for the newest pins and brings the grid up to them; `anew` forgets what is behind them.
  async renew(ask, anew) {
    const meanwhile = new Map();
    this.questions.add(meanwhile);
    try {
      const page = await ask();
      if (anew) this.clear();
      this.sync(page.pins, page.next === undefined, meanwhile);
      return page;
    } finally {
      this.questions.delete(meanwhile);
    }
  }

  note(id, news) {
    for (const meanwhile of this.questions) {
      const before = meanwhile.get(id);
      meanwhile.delete(id);
      meanwhile.set(id, news && { ...news, arrived: news.arrived || Boolean(before?.arrived) });
      if (meanwhile.size > KEPT) meanwhile.delete(meanwhile.keys().next().value);
    }
  }

  // The newest pins, newest first: puts each in its place, and takes out what is no longer among them. What came or
  // went meanwhile is newer than they may be.
  sync(pins, complete, meanwhile) {
    this.waiting.clear();
    const cards = pins.filter((card) => meanwhile.get(card.pin.pin_id) !== null);
    const names = new Set(cards.map((card) => card.pin.pin_id));
    for (const [id, news] of meanwhile) if (news?.arrived) names.add(id);
    const end = Number(pins.at(-1)?.pin.recorded_at ?? 0);
    for (const [id, { card }] of this.cards) {
      if (!names.has(id) && (complete || Number(card.pin.recorded_at) >= end)) this.take(id);
    }
    let place = this.list.firstElementChild;
    for (const card of cards) {
      const node = this.keep(card, false);
      if (node === place) place = place.nextElementSibling;
      else this.list.insertBefore(node, place);
    }
    for (const [id, news] of meanwhile) if (news && (news.arrived || this.get(id))) this.put(news.card);
    this.onHeld(0);
    this.onChange();
  }

  // Older pins, behind the last one; those that are here already stay where they are.
  append(cards) {
    const added = cards.filter((card) => !this.get(card.pin.pin_id));
    this.list.append(...added.map((card) => this.keep(card, false)));
    this.onChange();
  }

  // A pin was deleted.
  remove(id) {
    this.note(id, null);
    this.take(id);
  }

  take(id) {
    this.waiting.delete(id);
    this.cards.get(id)?.node.remove();
    this.cards.delete(id);
  }

  clear() {
    this.cards.clear();
    this.waiting.clear();
    this.list.replaceChildren();
    this.trimmed = this.missed = false;
  }

  // Remembers a card and gives its node, at its place in the list when it has one.
  keep(card, fresh) {
    const id = card.pin.pin_id;
    const known = this.cards.get(id);
    if (known && (older(card, known.card) || same(card, known.card))) return known.node;
    const whole = merged(card, known?.card);
    const focused = known?.node.contains(document.activeElement);
    const node = cardNode(whole, fresh);
    known?.node.replaceWith(node);
    if (focused) node.querySelector("a").focus({ preventScroll: true });
    this.cards.set(id, { card: whole, node });
    return node;
  }

  trim() {
    while (this.cards.size > KEPT) {
      const { lastElementChild: last } = this.list;
      this.cards.delete(last.dataset.pin);
      last.remove();
      this.trimmed = true;
    }
  }

  focus(id) {
    this.cards.get(id)?.node.querySelector("a").focus();
  }

  freshness() {
    return median([...this.cards.values()].map(({ card }) => eventToDot(card)).filter((ms) => ms !== null));
  }
}

function same(one, other) {
  const { pin: a, dots: d } = one;
  const { pin: b, dots: e } = other;
  return a.version === b.version && a.revision === b.revision && d?.decision === e?.decision && d?.epoch === e?.epoch && d?.version === e?.version;
}
