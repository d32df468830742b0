// Puts the page together: the newest pins, what arrives, and the address that says which pin and dot are open.

import * as api from "./api.js";
import { duration } from "./format.js";
import { Grid } from "./grid.js";
import { follow } from "./live.js";
import { PinView } from "./pin.js";

const PAGE = 60;
const $ = (id) => document.getElementById(id);
const grid = new Grid($("grid"));
let total = 0;
let next = null;

const view = new PinView($("pin"), {
  onClose: () => {
    const id = route()?.id;
    if (id) history.pushState(null, "", "#/");
    if (id) grid.focus(id);
  },
  onChoose: (id, object) => {
    const target = `#/pin/${encodeURIComponent(id)}/${object}`;
    if (location.hash === target) view.choose(object);
    else location.hash = target;
  },
});

// The address: #/pin/ID or #/pin/ID/OBJECT.
function route() {
  const found = /^#\/pin\/([^/]+)(?:\/(\d+))?$/.exec(location.hash);
  if (!found) return null;
  try {
    return { id: decodeURIComponent(found[1]), object: found[2] === undefined ? null : Number(found[2]) };
  } catch {
    return null;
  }
}

async function go() {
  const place = route();
  if (!place) {
    view.close();
    return;
  }
  try {
    const card = grid.get(place.id) ?? (await api.card(place.id));
    if (route()?.id === place.id) view.open(card, place.object);
  } catch (error) {
    view.close();
    tell(error.status === 410 ? "This pin was deleted." : error.message);
    history.replaceState(null, "", "#/");
  }
}

function tell(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text ?? "";
}

function count() {
  $("count").textContent = total.toLocaleString("en");
  const median = grid.freshness();
  $("freshness").textContent = median === null ? "–" : duration(median);
  $("empty").hidden = grid.size > 0;
}

async function load(before) {
  try {
    const page = await api.newest(PAGE, before);
    if (!before) grid.clear();
    for (const card of page.pins) grid.put(card, { end: true });
    next = page.next ?? null;
    $("more").hidden = next === null;
    tell(null);
  } catch (error) {
    tell(`The pins could not be loaded: ${error.message}`);
    if (!before) setTimeout(load, 2000);
  }
  count();
}

const STATES = { live: "Live", waiting: "Reconnecting" };

follow({
  onState: (state) => {
    $("live").dataset.state = state;
    $("live-text").textContent = STATES[state];
  },
  onHello: ({ pins }) => {
    total = pins;
    // What arrived between loading the page and listening, or while the connection was away.
    load();
  },
  onCard: (card) => {
    if (grid.put(card, { fresh: true })) total += 1;
    total = Math.max(total, grid.size);
    view.update(card);
    count();
  },
  onDeleted: (id) => {
    if (grid.remove(id)) total -= 1;
    if (view.id === id) {
      view.close();
      tell("The pin that was open was deleted.");
    }
    count();
  },
  onReset: () => load(),
});

$("more").addEventListener("click", () => load(next));
addEventListener("hashchange", go);
await load();
go();
