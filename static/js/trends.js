// Entry of pages with trends: what an objective came to month by month, and the line that was promised.

import uPlot from "../vendor/uplot.mjs";

import { axisRange, newest } from "./trend.js";

const HEIGHT_PX = 132;
const drawn = new Map();

const percent = (value) => `${value.toFixed(2)} %`;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    measured: value("--chart-1"),
    floor: value("--chart-2"),
    target: value("--state-degraded"),
    text: value("--ink-3"),
    grid: value("--chart-grid"),
    font: `10.5px ${value("--tblr-font-sans-serif")}`,
  };
}

function read(u, trend, out) {
  const i = u.cursor.idx ?? newest(trend);
  const measured = trend.measured[i];
  const said = measured === null || measured === undefined ? "nothing measured" : `${percent(measured)} measured`;
  const floor = trend.floor[i] === null || trend.floor[i] === undefined ? "" : ` · ${percent(trend.floor[i])} floor`;
  const target = trend.target[i] === null || trend.target[i] === undefined ? "" : ` · ${percent(trend.target[i])} promised`;
  out.textContent = i < 0 ? "" : `${trend.months[i]} · ${said}${floor}${target}`;
}

function options(trend, width, out) {
  const colour = colours();
  const shared = { stroke: colour.text, font: colour.font, grid: { stroke: colour.grid, width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT_PX,
    legend: { show: false },
    padding: [8, 10, 0, 0],
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    scales: { x: { time: false, range: [-0.3, trend.months.length - 0.7] }, y: { range: axisRange(trend) } },
    axes: [
      { ...shared, size: 22, gap: 4, space: 64, incrs: [1, 2, 3, 4, 6], values: (u, splits) => splits.map((at) => trend.months[at] ?? "") },
      { ...shared, size: 62, gap: 4, space: 28, values: (u, splits) => splits.map(percent) },
    ],
    series: [
      {},
      { stroke: colour.target, width: 1.5, dash: [5, 4], points: { show: true, size: 4, fill: colour.target }, spanGaps: false },
      { stroke: colour.floor, width: 1, points: { show: true, size: 4, fill: colour.floor }, spanGaps: false },
      { stroke: colour.measured, width: 1.75, points: { show: true, size: 6, fill: colour.measured }, spanGaps: false },
    ],
    hooks: { setCursor: [(u) => read(u, trend, out)] },
  };
}

function draw(box) {
  drawn.get(box)?.destroy();
  const trend = JSON.parse(box.dataset.trend);
  const out = box.closest("figure").querySelector("[data-trend-reading]");
  const data = [trend.months.map((_, i) => i), trend.target, trend.floor, trend.measured];
  const plot = new uPlot(options(trend, box.clientWidth, out), data, box);
  drawn.set(box, plot);
  read(plot, trend, out);
  watch.observe(box);
}

/** Draws what is new on the page, and lets go of what has left it. */
function drawNew() {
  for (const [box, plot] of drawn) {
    if (box.isConnected) continue;
    plot.destroy();
    watch.unobserve(box);
    drawn.delete(box);
  }
  for (const box of document.querySelectorAll("[data-trend]")) if (!drawn.has(box)) draw(box);
}

const watch = new ResizeObserver((entries) => {
  for (const { target } of entries) drawn.get(target)?.setSize({ width: target.clientWidth, height: HEIGHT_PX });
});

document.addEventListener("theme:change", () => [...drawn.keys()].forEach(draw));
document.addEventListener("htmx:afterSettle", drawNew);
drawNew();
