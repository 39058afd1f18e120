// Entry of the site page's charts: one cursor over all of them, zoom by dragging, gaps and outages visible.

import uPlot from "../vendor/uplot.mjs";

import { bytesText, ratioText, timeText } from "./format.js";
import { Throttle } from "./link.js";
import { bandsWithin, columns, hasAny } from "./series.js";

const HEIGHT_PX = 128;
const REFRESH_MS = 10_000;

const rate = (value) => `${bytesText(value)}/s`;
const ratioRange = (u, low, high) => [0, high > 1 ? high : 1];

/** What each chart shows: names of its series with their words, how a value reads, and the range of its axis. */
const CHARTS = {
  cpu: { title: "CPU", series: { cpu: "used" }, text: ratioText, range: ratioRange },
  memory: { title: "Memory", series: { mem: "used" }, text: ratioText, range: ratioRange },
  disk: { title: "Disk", series: { disk: "used" }, text: ratioText, range: ratioRange },
  network: { title: "Network", series: { rx: "in", tx: "out" }, text: rate, range: [0, null] },
  temperature: { title: "Temperature", series: { temp: "" }, text: (value) => `${value.toFixed(1)} °C`, range: [null, null] },
  power: { title: "Power", series: { power: "" }, text: (value) => `${Math.round(value)} W`, range: [0, null] },
  latency: { title: "Round trip of a poll", series: { rtt: "" }, text: (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`, range: [0, null] },
};

const box = document.querySelector("[data-charts]");
const sync = uPlot.sync("site");
let drawn = [];
let samples = null;
let zoomed = false;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    lines: [value("--chart-1"), value("--chart-2")],
    text: value("--ink-3"),
    grid: value("--chart-grid"),
    soft: (kind) => value(`--soft-${kind}`),
    edge: (kind) => value(`--state-${kind}`),
    font: `10.5px ${value("--tblr-font-sans-serif")}`,
  };
}

/** Bands behind the lines: when the site was not up, with an edge on top so that short ones are seen. */
function bandPlugin(colour) {
  return (u) => {
    const { left, top, width, height } = u.bbox;
    for (const band of bandsWithin(samples.bands, u.scales.x.min, u.scales.x.max)) {
      const from = u.valToPos(band.from, "x", true);
      const wide = Math.max(2, u.valToPos(band.to, "x", true) - from);
      u.ctx.fillStyle = colour.soft(band.kind);
      u.ctx.fillRect(Math.max(left, from), top, Math.min(wide, left + width - from), height);
      u.ctx.fillStyle = colour.edge(band.kind);
      u.ctx.fillRect(Math.max(left, from), top, Math.min(wide, left + width - from), 2 * devicePixelRatio);
    }
  };
}

function axes(chart, colour) {
  const shared = { stroke: colour.text, font: colour.font, grid: { stroke: colour.grid, width: 1 }, ticks: { show: false } };
  return [
    { ...shared, size: 22, gap: 4, values: (u, splits) => splits.map((at) => timeText(at * 1000, samples.to * 1000)), space: 90 },
    { ...shared, size: 62, gap: 4, values: (u, splits) => splits.map((value) => chart.text(value)), space: 28 },
  ];
}

function reading(u, chart, out) {
  const i = u.cursor.idx;
  const names = Object.entries(chart.series);
  const values = names.map(([, word], k) => {
    const series = u.data[k + 1];
    const value = i === null || i === undefined ? lastOf(series) : series[i];
    return value === null || value === undefined ? null : `${word} ${chart.text(value)}`.trim();
  });
  const at = i === null || i === undefined ? "" : `${timeText(u.data[0][i] * 1000, samples.to * 1000)} · `;
  out.textContent = values.every((value) => value === null) ? `${at}nothing measured` : at + values.filter(Boolean).join(" · ");
}

function lastOf(series) {
  for (let i = series.length - 1; i >= 0; i -= 1) if (series[i] !== null) return series[i];
  return null;
}

function options(chart, width, colour, out) {
  return {
    width,
    height: HEIGHT_PX,
    legend: { show: false },
    padding: [6, 6, 0, 0],
    cursor: { sync: { key: sync.key, setSeries: false }, points: { size: 6 }, drag: { x: true, y: false, uni: 20 } },
    scales: { x: { time: true }, y: { range: range(chart) } },
    axes: axes(chart, colour),
    series: [
      {},
      ...Object.keys(chart.series).map((name, i) => ({ stroke: colour.lines[i], width: 1.5, points: { show: false }, spanGaps: false })),
    ],
    hooks: {
      drawClear: [bandPlugin(colour)],
      setCursor: [(u) => reading(u, chart, out)],
      setScale: [(u, key) => key === "x" && onZoom(u)],
    },
  };
}

function range(chart) {
  if (typeof chart.range === "function") return chart.range;
  const [least, most] = chart.range;
  return (u, low, high) => {
    if (low === null || high === null) return [0, 1];
    const room = (high - low) * 0.1 || Math.abs(high) * 0.1 || 1;
    return [least ?? low - room, most ?? high + room];
  };
}

let zooming = false;

/** Zooming one chart zooms all. */
function onZoom(source) {
  if (zooming || !samples) return;
  zooming = true;
  const { min, max } = source.scales.x;
  zoomed = min > samples.from + 1 || max < samples.to - 1;
  for (const { plot } of drawn) if (plot !== source) plot.setScale("x", { min, max });
  document.querySelector("[data-zoom-reset]").hidden = !zoomed;
  zooming = false;
}

function fullSpan() {
  zooming = true;
  for (const { plot } of drawn) plot.setScale("x", { min: samples.from, max: samples.to });
  zooming = false;
  zoomed = false;
  document.querySelector("[data-zoom-reset]").hidden = true;
}

function draw() {
  const colour = colours();
  drawn.forEach(({ plot }) => plot.destroy());
  drawn = [];
  box.replaceChildren();
  for (const [name, chart] of Object.entries(CHARTS)) {
    const names = Object.keys(chart.series);
    if (!hasAny(samples, names)) continue;
    const part = document.querySelector("#chart-template").content.firstElementChild.cloneNode(true);
    part.querySelector("[data-chart-title]").textContent = chart.title;
    box.append(part);
    const out = part.querySelector("[data-chart-reading]");
    const body = part.querySelector("[data-chart-body]");
    const plot = new uPlot(options(chart, body.clientWidth, colour, out), columns(samples, names), body);
    drawn.push({ plot, names, body, chart, out, name });
    reading(plot, chart, out);
  }
  fullSpan();
  document.querySelector("[data-charts-empty]").hidden = drawn.length > 0;
}

/** New data into charts that stand; a view that is zoomed in stays where it is. */
function refresh() {
  for (const { plot, names, chart, out } of drawn) {
    plot.setData(columns(samples, names), false);
    reading(plot, chart, out);
  }
  if (!zoomed) fullSpan();
  else drawn.forEach(({ plot }) => plot.redraw());
}

const chosen = () => document.querySelector("[data-range][aria-current='true']").dataset.range;

async function load({ fresh = false } = {}) {
  const answer = await fetch(`${box.dataset.charts}?range=${chosen()}`, { headers: { Accept: "application/json" } });
  if (!answer.ok || answer.redirected) return;
  samples = await answer.json();
  box.setAttribute("aria-busy", "false");
  if (fresh || drawn.length === 0) draw();
  else refresh();
}

function onRange(event) {
  const link = event.target.closest("[data-range]");
  if (!link) return;
  event.preventDefault();
  document.querySelectorAll("[data-range]").forEach((other) => other.setAttribute("aria-current", String(other === link)));
  history.replaceState(null, "", link.href);
  window.htmx.ajax("GET", link.href, { target: "#site-live", swap: "outerHTML" });
  load({ fresh: true });
}

const later = new Throttle(() => (document.hidden ? null : load()), REFRESH_MS);

document.addEventListener("click", onRange);
document.querySelector("[data-zoom-reset]").addEventListener("click", fullSpan);
document.addEventListener("theme:change", () => samples && draw());
box.addEventListener("live", () => later.call());
document.addEventListener("visibilitychange", () => later.call());
new ResizeObserver(() => {
  drawn.forEach(({ plot, body }) => plot.setSize({ width: body.clientWidth, height: HEIGHT_PX }));
}).observe(box);
load({ fresh: true });
