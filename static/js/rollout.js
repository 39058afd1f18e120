// Entry of a rollout's page: cells of its waves on canvases, live, by pointer and by keyboard.

import { Cells, FROZEN, drawCell, indexAt, layout, moved } from "./cells.js";
import { Throttle } from "./link.js";
import { ageText } from "./format.js";
import { serverNow_ms } from "./live.js";

const PAUSE_MS = 250;
const GROUPS = ["proven", "soaking", "work", "doubt", "failed", "back", "returned", "wait", "left", "skipped"];

const page = document.querySelector("[data-cells]");
const tip = document.querySelector("[data-cell-tip]");
const spoken = document.querySelector("[data-cell-spoken]");
const cells = new Cells();
const columns = new Map();
const chosen = new Map();
let colours = {};
let asking = false;
let again = false;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  colours = Object.fromEntries(GROUPS.map((group) => [group, style.getPropertyValue(`--step-${group}`).trim()]));
  colours.ink = style.getPropertyValue("--ink").trim();
}

// Drawing ------------------------------------------------------------------------------------------------------
function paint(wave, cell) {
  const column = columns.get(wave);
  if (!column) return;
  const options = { chosen: chosen.get(wave) === cell.index && document.activeElement === column.box, frozen: Boolean(cell.flags & FROZEN) };
  drawCell(column.context, column.laid, cell.index, cells.group(cell), colours, options);
}

function drawWave(box) {
  const wave = Number(box.dataset.wave);
  const found = cells.waves.get(wave) ?? [];
  box.hidden = found.length === 0;
  if (box.hidden) return;
  const canvas = box.querySelector("canvas");
  const laid = layout(found.length, box.clientWidth);
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(laid.columns * laid.side * ratio);
  canvas.height = Math.round(laid.height * ratio);
  // The element's size is set by script: the policy of the page forbids attributes of style, not this.
  canvas.style.width = `${laid.columns * laid.side}px`;
  canvas.style.height = `${laid.height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  columns.set(wave, { box, canvas, context, laid, width: box.clientWidth });
  for (const cell of found) paint(wave, cell);
}

function drawAll() {
  columns.clear();
  readColours();
  document.querySelectorAll("[data-wave]").forEach(drawWave);
  page.dataset.drawn = String(cells.bySite.size);
}

// Asking -------------------------------------------------------------------------------------------------------
async function ask(query) {
  const answer = await fetch(`${page.dataset.cells}${query}`, { headers: { Accept: "application/json" } });
  if (!answer.ok || answer.redirected) throw new Error(`cells: ${answer.status}`);
  return answer.json();
}

async function loadAll() {
  cells.load(await ask(""));
  drawAll();
}

async function loadChanges() {
  if (!cells.as_of) {
    await loadAll();
    return;
  }
  const changed = cells.merge(await ask(`?since=${cells.as_of}`));
  if (changed === null) await loadAll();
  else changed.forEach((cell) => paint(cell.wave, cell));
}

/** One question at a time; what was hinted at meanwhile is asked right after. */
async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    await loadChanges();
  } catch {
    // The stale banner says so; the next hint, or the next connection, asks again.
  } finally {
    asking = false;
  }
  if (again) {
    again = false;
    later.call();
  }
}

const later = new Throttle(refresh, PAUSE_MS);

// People -------------------------------------------------------------------------------------------------------
const boxOf = (event) => event.target.closest?.("[data-wave]");

function cellUnder(event, box) {
  const wave = Number(box.dataset.wave);
  const column = columns.get(wave);
  if (!column) return null;
  const place = column.canvas.getBoundingClientRect();
  const found = cells.waves.get(wave);
  return found[indexAt(column.laid, found.length, event.clientX - place.left, event.clientY - place.top)] ?? null;
}

function words(cell) {
  return `${cells.says(cell)}, for ${ageText(Math.max(0, serverNow_ms() / 1000 - cell.since))}`;
}

function showTip(cell, x, y) {
  tip.hidden = cell === null;
  if (!cell) return;
  tip.querySelector("[data-cell-name]").textContent = cell.name;
  tip.querySelector("[data-cell-says]").textContent = words(cell);
  const left = Math.min(x + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.transform = `translate(${Math.max(8, left)}px, ${y + 16}px)`;
}

function open(cell) {
  location.assign(`${page.dataset.stepUrl}${cell.slug}/`);
}

function onKey(event) {
  const box = boxOf(event);
  const wave = Number(box?.dataset.wave);
  const column = columns.get(wave);
  if (!column || event.altKey || event.ctrlKey || event.metaKey) return;
  const found = cells.waves.get(wave);
  const index = chosen.get(wave) ?? 0;
  if (event.key === "Enter") {
    open(found[index]);
    return;
  }
  const next = moved(column.laid, found.length, index, event.key);
  if (!["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
  event.preventDefault();
  chosen.set(wave, next);
  paint(wave, found[index]);
  choose(wave, found[next]);
}

function choose(wave, cell) {
  const { canvas, laid } = columns.get(wave);
  paint(wave, cell);
  spoken.textContent = `${cell.name}: ${words(cell)}`;
  const place = canvas.getBoundingClientRect();
  const x = place.left + (cell.index % laid.columns) * laid.side;
  showTip(cell, x, place.top + Math.floor(cell.index / laid.columns) * laid.side);
}

function onFocus(event) {
  const box = boxOf(event);
  if (!box || !columns.has(Number(box.dataset.wave))) return;
  const wave = Number(box.dataset.wave);
  const index = chosen.get(wave) ?? 0;
  chosen.set(wave, index);
  const cell = cells.waves.get(wave)[index];
  if (event.type === "focusin" && box.matches(":focus-visible")) choose(wave, cell);
  if (event.type === "focusout") {
    showTip(null);
    setTimeout(() => paint(wave, cell));
  }
}

function wire() {
  document.addEventListener("pointermove", (event) => {
    const box = boxOf(event);
    if (box) showTip(cellUnder(event, box), event.clientX, event.clientY);
    else if (!boxOf({ target: document.activeElement })) showTip(null);
  });
  page.addEventListener("click", (event) => {
    const box = boxOf(event);
    const cell = box && cellUnder(event, box);
    if (cell) open(cell);
  });
  page.addEventListener("keydown", onKey);
  page.addEventListener("focusin", onFocus);
  page.addEventListener("focusout", onFocus);
  document.addEventListener("htmx:afterSwap", drawAll);
  document.addEventListener("theme:change", drawAll);
  document.addEventListener("live:resync", () => later.call());
  document.addEventListener("live:hints", ({ detail }) => {
    if (detail.some(([topic, pk]) => topic === "rollout" && String(pk) === page.dataset.rollout)) later.call();
  });
  const widths = new ResizeObserver(() => {
    const isOther = [...columns.values()].some(({ box, width }) => box.clientWidth !== width);
    if (isOther) drawAll();
  });
  widths.observe(page);
}

wire();
refresh();
