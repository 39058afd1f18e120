// Entry of the wall: the map goes round the regions by itself, for days; nothing here grows with time.

import { predicate, parseFilters } from "./filters.js";
import { Fleet } from "./fleet.js";
import { Throttle } from "./link.js";
import { serverNow_ms } from "./live.js";
import { LABELS, rankOf } from "./states.js";
import { stops, nextStop } from "./tour.js";

const SECOND_MS = 1000;
const RESYNC_MS = 2000;
const page = document.querySelector("[data-wall]");
const mapElement = document.querySelector("[data-map]");
const clock = document.querySelector("[data-wall-clock]");
const fleet = new Fleet();
const everyone = predicate(parseFilters(""));

let map = null;
let stop = null;
let stays_until_ms = 0;
let paused = false;

async function fetchSnapshot() {
  const answer = await fetch(page.dataset.snapshotUrl, { headers: { Accept: "application/json" } });
  if (!answer.ok || answer.redirected) throw new Error(`snapshot: ${answer.status}`);
  return answer.json();
}

function inStop(site) {
  return stop === null || stop.region === null || site.region === stop.region;
}

function paint() {
  const counts = fleet.counts(inStop);
  for (const chip of document.querySelectorAll("[data-figure]")) {
    const count = counts[chip.dataset.figure];
    chip.querySelector("b").textContent = count.toLocaleString("en-GB");
    chip.classList.toggle("some", count > 0);
  }
  document.querySelector("[data-wall-region]").textContent = stop?.region ?? "All regions";
}

function goOn() {
  stop = nextStop(stops([...fleet.sites.values()]), stop);
  stays_until_ms = performance.now() + stop.stay_s * SECOND_MS;
  map.fit(fleet.bounds(inStop), { duration: 1800, maxZoom: 8 });
  paint();
}

function tick() {
  const now = new Date(serverNow_ms());
  clock.textContent = now.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  if (!paused && performance.now() >= stays_until_ms) goOn();
}

function onDeltas(event) {
  const changed = fleet.apply(event.detail);
  if (!page.hasAttribute("data-ready")) return;
  map.change(changed);
  paint();
  const worse = changed.filter((site) => rankOf(site.kind) <= rankOf("unreachable"));
  if (worse.length > 0) say(worse);
  if (fleet.lacks(event.detail)) snapshots.call();
}

/** The wall's own headline: what just broke, in large type, until the next one. */
function say(sites) {
  const [first] = sites;
  const more = sites.length > 1 ? ` and ${sites.length - 1} more` : "";
  document.querySelector("[data-wall-news]").textContent = `${first.name} is ${LABELS[first.kind].toLowerCase()}${more}`;
}

async function takeSnapshot() {
  try {
    await fleet.take(fetchSnapshot());
    map.draw(everyone);
    paint();
  } catch {
    // Shown by the stale banner; the next connection tries again.
  }
}

function onPause(event) {
  const button = event.target.closest("[data-wall-pause]");
  if (!button) return;
  paused = !paused;
  button.setAttribute("aria-pressed", String(paused));
}

const snapshots = new Throttle(takeSnapshot, RESYNC_MS);

async function start() {
  document.addEventListener("live:deltas", onDeltas);
  const [{ FleetMap }] = await Promise.all([import("./map.js"), fleet.take(fetchSnapshot())]);
  map = new FleetMap(mapElement, fleet);
  mapElement.fleetMap = map;
  await map.ready;
  map.draw(everyone);
  document.addEventListener("live:resync", () => snapshots.call());
  page.addEventListener("live", () => snapshots.call());
  document.addEventListener("click", onPause);
  // What was hinted at before this page listened is healed by asking once more.
  snapshots.call();
  goOn();
  setInterval(tick, SECOND_MS);
  page.setAttribute("data-ready", "");
}

start();
