// Puts the page together: the newest pins, what arrives, and the address that says what is open.

import * as api from "./api.js";
import { duration } from "./format.js";
import { Grid } from "./grid.js";
import { LensView, watchDrops } from "./lens.js";
import { follow } from "./live.js";
import { Pages } from "./pages.js";
import { PinView } from "./pin.js";
import { advice } from "./problems.js";
import { reports } from "./reports.js";
import * as route from "./route.js";

const AWAY_AFTER_MS = 1500;
const AWAY = "The API cannot be reached. What you see stays; the page goes on as soon as it is back.";
const $ = (id) => document.getElementById(id);
let total = 0;

const grid = new Grid($("grid"), { onChange: count, onHeld: held, onMissed: () => look(true) });
const pages = new Pages(grid);

const view = new PinView($("pin"), {
  onLeave: leavePin,
  onSubject: (id, subject) => {
    const target = route.pinAt(id, subject);
    const before = route.read(location.hash);
    if (location.hash === target) view.choose(subject);
    else if (subject.box && before.subject?.box) {
      // One step back leaves the box, however often it was moved.
      history.replaceState(null, "", target);
      view.choose(subject);
    } else location.hash = target;
  },
});

function leavePin() {
  const place = route.read(location.hash);
  if (place.view !== "pin") return;
  history.pushState(null, "", "#/");
  grid.focus(place.id);
}

const lens = new LensView($("lens"), {
  onLeave: () => {
    if (route.read(location.hash).view !== "lens") return;
    history.pushState(null, "", "#/");
    $("lens-link").focus();
  },
});

watchDrops(
  (file) => {
    location.hash = "#/lens";
    lens.take(file);
  },
  (yes) => document.body.classList.toggle("dropping", yes),
);

async function go() {
  const place = route.read(location.hash);
  if (place.view !== "pin") view.close();
  if (place.view === "lens") lens.open();
  else lens.close();
  if (place.view !== "pin") return;
  try {
    const card = grid.get(place.id) ?? (await api.card(place.id));
    if (route.read(location.hash).id === place.id) view.open(card, place.subject);
  } catch (error) {
    view.close();
    const { title, text } = advice(error);
    tell("pin", error.status === 410 ? "This pin was deleted." : `${title}. ${text}`);
    history.replaceState(null, "", "#/");
  }
}

// What the page has to say, by what it is about; the gravest is shown.
const said = new Map();

function tell(about, text) {
  if (text) said.set(about, text);
  else said.delete(about);
  const shown = said.get("away") ?? said.get("pins") ?? said.get("pin") ?? "";
  $("notice").hidden = !shown;
  $("notice-text").textContent = shown;
  $("notice-close").hidden = !said.has("pin");
}

function count() {
  $("count").textContent = Math.max(total, grid.size).toLocaleString("en");
  const median = grid.freshness();
  $("freshness").textContent = median === null ? "–" : duration(median);
  $("empty").hidden = grid.size > 0 || said.size > 0;
  $("more").hidden = !pages.more;
}

function held(n) {
  const waits = n > 0 && !grid.atTop;
  $("held").hidden = !waits;
  if (waits) $("held").textContent = n === 1 ? "1 new pin" : `${n.toLocaleString("en")} new pins`;
}

// Looks at the newest pins, again and again while the API is away.
let looking = null;

async function look(anew = false) {
  clearTimeout(looking);
  try {
    await pages.newest(anew);
    tell("pins", "");
  } catch (error) {
    const { title, text, again } = advice(error);
    tell("pins", `The pins could not be loaded. ${title} ${text}`);
    looking = setTimeout(look, 1000 * (again ?? 5), anew);
  }
  count();
}

async function older() {
  try {
    await pages.older();
    tell("pins", "");
    // Asks at once for the next page when the end is still near.
    end.unobserve($("more"));
    end.observe($("more"));
  } catch (error) {
    tell("pins", `Older pins could not be loaded. ${advice(error).text}`);
  }
  count();
}

// The end of the grid asks for more before it is reached; its beginning is where new pins appear.
const near = (margin, seen) => new IntersectionObserver((entries) => seen(entries.at(-1).isIntersecting), { rootMargin: margin });
const end = near("1200px", (seen) => seen && older());
end.observe($("more"));
near("160px", (seen) => grid.reading(seen)).observe($("top"));

const STATES = { live: "Live", waiting: "Reconnecting" };
let away = null;

follow({
  onState: (state) => {
    $("live").dataset.state = state;
    $("live-text").textContent = STATES[state];
    if (state === "live") {
      clearTimeout(away);
      away = null;
      tell("away", "");
    } else away ??= setTimeout(() => tell("away", AWAY), AWAY_AFTER_MS);
  },
  onHello: ({ pins, takes_reports: takes }, anew) => {
    total = pins;
    reports.allow(takes);
    view.saves(takes);
    // What arrived between loading the page and listening, or while the connection was away.
    look(anew);
  },
  onPin: (card) => {
    if (pages.reach(card)) grid.arrive(card);
    view.update(card);
  },
  onDots: (card) => {
    grid.change(card);
    view.update(card);
  },
  onSize: (pins) => {
    total = pins;
    count();
  },
  onDeleted: (id) => {
    grid.remove(id);
    view.forget(id);
    lens.forget(id);
    if (view.id === id) {
      view.close();
      leavePin();
      tell("pin", "The pin that was open was deleted.");
    }
    count();
  },
  onReset: () => grid.miss(),
});

$("more").addEventListener("click", older);
$("held").addEventListener("click", () => {
  scrollTo({ top: 0 });
  grid.reading(true);
});
$("notice-close").addEventListener("click", () => tell("pin", ""));
addEventListener("hashchange", go);
await look();
go();
