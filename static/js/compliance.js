// Entry of the compliance page: the share of sites that run their standard, over time.

import uPlot from "../vendor/uplot.mjs";

import { ratioText, timeText } from "./format.js";
import { Throttle } from "./link.js";
import { columns, hasAny } from "./series.js";

const HEIGHT_PX = 168;
const REFRESH_MS = 10_000;
const SERIES = { ratio: "proven" };

const box = document.querySelector("[data-share]");
const out = document.querySelector("[data-share-reading]");
let plot = null;
let samples = null;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    line: value("--chart-1"),
    text: value("--ink-3"),
    grid: value("--chart-grid"),
    font: `10.5px ${value("--tblr-font-sans-serif")}`,
  };
}

/** What stands beside the title: the moment under the cursor, else the newest. */
function read() {
  const at = plot?.cursor.idx ?? samples.t.length - 1;
  const ratio = samples.ratio[at];
  if (ratio === null || ratio === undefined) {
    out.textContent = "";
    return;
  }
  const moment = plot?.cursor.idx === null || plot?.cursor.idx === undefined ? "" : `${timeText(samples.t[at] * 1000, samples.to * 1000)} · `;
  const counts = `${samples.conform[at]} conform, ${samples.drift[at]} drift, ${samples.unknown[at]} unknown`;
  out.textContent = `${moment}${ratioText(ratio)} · ${counts}`;
}

function options(colour) {
  const shared = { stroke: colour.text, font: colour.font, grid: { stroke: colour.grid, width: 1 }, ticks: { show: false } };
  return {
    width: box.clientWidth,
    height: HEIGHT_PX,
    legend: { show: false },
    padding: [6, 6, 0, 0],
    cursor: { points: { size: 6 }, drag: { x: true, y: false, uni: 20 } },
    scales: { x: { time: true, range: (u, least, most) => [least ?? samples.from, most ?? samples.to] }, y: { range: [0, 1] } },
    axes: [
      { ...shared, size: 22, gap: 4, values: (u, splits) => splits.map((at) => timeText(at * 1000, samples.to * 1000)), space: 90 },
      { ...shared, size: 52, gap: 4, values: (u, splits) => splits.map((value) => ratioText(value)), space: 28 },
    ],
    series: [{}, { stroke: colour.line, width: 1.5, points: { show: samples.ratio.filter((value) => value !== null).length < 3 }, spanGaps: false }],
    hooks: { setCursor: [read] },
  };
}

function draw() {
  plot?.destroy();
  plot = null;
  const names = Object.keys(SERIES);
  const some = hasAny(samples, names);
  document.querySelector("[data-share-empty]").hidden = some;
  box.hidden = !some;
  if (some) plot = new uPlot(options(colours()), columns(samples, names), box);
  read();
}

/** The filters and the span are the page's, from its address. */
async function load() {
  const answer = await fetch(`${box.dataset.share}${location.search}`, { headers: { Accept: "application/json" } });
  if (!answer.ok || answer.redirected) return;
  samples = await answer.json();
  box.setAttribute("aria-busy", "false");
  draw();
}

function onSpan(event) {
  const link = event.target.closest("[data-span]");
  if (!link) return;
  event.preventDefault();
  const query = new URLSearchParams(location.search);
  query.set("span", link.dataset.span);
  document.querySelectorAll("[data-span]").forEach((other) => other.setAttribute("aria-current", String(other === link)));
  history.replaceState(null, "", `?${query}`);
  load();
}

const later = new Throttle(() => (document.hidden ? null : load()), REFRESH_MS);

document.addEventListener("click", onSpan);
document.addEventListener("theme:change", () => samples && draw());
document.addEventListener("htmx:pushedIntoHistory", load);
box.addEventListener("live", () => later.call());
document.addEventListener("visibilitychange", () => later.call());
new ResizeObserver(() => plot?.setSize({ width: box.clientWidth, height: HEIGHT_PX })).observe(box);
load();
