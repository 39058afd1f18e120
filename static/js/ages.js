// Times in the viewer's zone with the site's zone on hover, and ages that tick.
//
// <time datetime="..." data-age> shows an age, <time datetime="..." data-at> a time; data-zone names the site's zone.

import { ageText, fullTimeText, timeText } from "./format.js";
import { serverNow_ms } from "./live.js";

const TICK_MS = 1000;

function title(at_ms, zone) {
  const here = fullTimeText(at_ms);
  if (!zone) return here;
  return `${here}\n${fullTimeText(at_ms, zone)}`;
}

function paint(element, now_ms) {
  const at_ms = Date.parse(element.dateTime);
  if (Number.isNaN(at_ms)) return;
  if (!element.dataset.titled) {
    element.title = title(at_ms, element.dataset.zone);
    element.dataset.titled = "1";
  }
  const text = "age" in element.dataset ? ageText((now_ms - at_ms) / 1000) : timeText(at_ms, now_ms);
  // Writing only what changed keeps a table of hundreds of ages cheap.
  if (element.textContent !== text) element.textContent = text;
}

/** Paints every time below `root`. */
export function paintTimes(root = document) {
  const now_ms = serverNow_ms();
  root.querySelectorAll("time[data-age], time[data-at]").forEach((element) => paint(element, now_ms));
}

/** Paints now, after each htmx swap, and each second. */
export function startAges() {
  paintTimes();
  document.addEventListener("htmx:afterSwap", (event) => paintTimes(event.detail.target.parentElement ?? document));
  setInterval(() => document.hidden || paintTimes(), TICK_MS);
}
