// Entry of the Overview: fleet, map, figures, filters and side panel held together by the URL.

import { filterQuery, isOpen, parseFilters, predicate, toggled } from "./filters.js";
import { Fleet } from "./fleet.js";
import { Throttle } from "./link.js";
import { startPicking } from "./picking.js";
import { toast } from "./toasts.js";

const page = document.querySelector("[data-overview]");
const panel = document.querySelector("#panel");
const mapElement = document.querySelector("[data-map]");
const fleet = new Fleet();
const FLY_MS = 600;
const RESYNC_MS = 2000;

let map = null;
let is_loaded = false;
let filters = parseFilters(location.search);
let selected = new URLSearchParams(location.search).get("site");

const paintPicked = startPicking(() => ({ filters, fleet, map }));
const mapModule = import("./map.js");

async function fetchSnapshot() {
  const answer = await fetch(page.dataset.snapshotUrl, { headers: { Accept: "application/json" } });
  if (!answer.ok || answer.redirected) throw new Error(`snapshot: ${answer.status}`);
  return answer.json();
}

function panelUrl(slug) {
  return page.dataset.panelUrl.replace("__slug__", encodeURIComponent(slug));
}

function paintFigures() {
  const counts = fleet.counts(predicate(filters, "state"));
  for (const chip of document.querySelectorAll("[data-figure]")) {
    const kind = chip.dataset.figure;
    const text = counts[kind].toLocaleString("en-GB");
    const number = chip.querySelector("b");
    if (number.textContent !== text) number.textContent = text;
    chip.classList.toggle("some", counts[kind] > 0);
    chip.setAttribute("aria-current", String(filters.state.has(kind)));
    chip.href = filterQuery(toggled(filters, "state", kind), selected) || location.pathname;
  }
  const clear = document.querySelector("[data-filters-clear]");
  if (clear) clear.hidden = isOpen(filters);
  paintPicked();
}

function paintForm() {
  const form = document.querySelector("[data-filters]");
  for (const field of form.elements) {
    if (!field.name) continue;
    if (field.name === "q") field.value = filters.q;
    else if (field.tagName === "SELECT") field.value = [...filters[field.name]][0] ?? "";
  }
}

/** Applies the filters to everything on the page; fragments are asked again with the new query. */
function applyFilters({ fit = false } = {}) {
  paintFigures();
  paintForm();
  map?.draw(predicate(filters));
  if (fit) map?.fit(fleet.bounds(predicate(filters)), { duration: 500 });
  for (const part of document.querySelectorAll("[data-with-filters]")) {
    // What is being fetched is of the filters before; htmx would fetch after it, and forget to once the part is replaced.
    window.htmx.trigger(part, "htmx:abort");
    part.dispatchEvent(new CustomEvent("live"));
  }
}

function setUrl(push = true) {
  const url = location.pathname + filterQuery(filters, selected);
  if (push) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}

function showPanel(slug, { fly_ms = null } = {}) {
  selected = slug;
  page.classList.toggle("has-panel", Boolean(slug));
  panel.hidden = !slug;
  map?.select(fleet.bySlug.get(slug) ?? null, fly_ms);
  document.querySelectorAll("[data-site]").forEach((row) => row.classList.toggle("is-current", row.dataset.site === slug));
  if (!slug) {
    panel.replaceChildren();
    return;
  }
  window.htmx.ajax("GET", panelUrl(slug), { target: "#panel", swap: "innerHTML" });
}

function onFigure(event) {
  const chip = event.target.closest("[data-figure]");
  if (!chip || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  filters = toggled(filters, "state", chip.dataset.figure);
  setUrl();
  applyFilters();
}

function onRow(event) {
  const row = event.target.closest("[data-site]");
  if (!row || event.target.closest("button, form, [data-row-outage]") || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  showPanel(row.dataset.site, { fly_ms: FLY_MS });
  setUrl();
}

function closePanel() {
  if (!selected) return;
  const row = document.querySelector(`[data-site="${CSS.escape(selected)}"] a`);
  showPanel(null);
  setUrl();
  row?.focus();
}

function onForm(event) {
  const data = new FormData(event.target.form ?? event.target);
  for (const name of ["provider", "region", "ring"]) {
    const value = data.get(name);
    filters = { ...filters, [name]: new Set(value ? [value] : []) };
  }
  filters = { ...filters, q: String(data.get("q") ?? "").trim() };
  setUrl(false);
  applyFilters({ fit: true });
}

function wire() {
  document.addEventListener("click", onFigure);
  document.addEventListener("click", onRow);
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-panel-close]")) closePanel();
    if (event.target.closest("[data-zoom]")) map?.zoom(Number(event.target.closest("[data-zoom]").dataset.zoom));
    if (event.target.closest("[data-fit]")) map?.fit(fleet.bounds(predicate(filters)), { duration: 500 });
    if (!event.target.closest("[data-filters-clear]")) return;
    event.preventDefault();
    filters = parseFilters("");
    setUrl();
    applyFilters({ fit: true });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) closePanel();
  });
  mapElement.addEventListener("map:pick", (event) => {
    showPanel(event.detail);
    setUrl();
  });
  const form = document.querySelector("[data-filters]");
  form.addEventListener("input", onForm);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onForm(event);
  });
  window.addEventListener("popstate", () => {
    filters = parseFilters(location.search);
    showPanel(new URLSearchParams(location.search).get("site"), { fly_ms: FLY_MS });
    applyFilters();
  });
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.target.matches("[data-with-filters]")) event.detail.path += filterQuery(filters);
  });
}

function onDeltas(event) {
  const changed = fleet.apply(event.detail);
  if (!is_loaded) return;
  paintFigures();
  map?.change(changed);
  if (fleet.lacks(event.detail)) snapshots.call();
}

/** Takes a snapshot: the first; later what happened while the connection was away, and sites that came or went. */
async function takeSnapshot() {
  try {
    await fleet.take(fetchSnapshot());
  } catch {
    // Later on the stale banner already says so; the next connection tries again.
    if (!is_loaded) toast("danger", "The sites could not be loaded. Reload the page to try again.");
    return;
  }
  paintFigures();
  if (is_loaded) map?.draw();
  else await begin();
}

async function begin() {
  is_loaded = true;
  paintForm();
  try {
    const { FleetMap } = await mapModule;
    map = new FleetMap(mapElement, fleet, predicate(filters));
  } catch {
    document.querySelector("[data-map-failed]").hidden = false;
    if (selected) showPanel(selected);
    return;
  }
  mapElement.fleetMap = map;
  if (selected) showPanel(selected, { fly_ms: 0 });
}

const snapshots = new Throttle(takeSnapshot, RESYNC_MS);

wire();
document.addEventListener("live:deltas", onDeltas);
document.addEventListener("live:resync", () => snapshots.call());
page.addEventListener("live", () => snapshots.call());
snapshots.call();
