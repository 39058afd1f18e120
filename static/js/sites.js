// Entry of the list of sites: links of sorting, paging and filters swap the list in place, states change in their rows.

import { kindOf, LABELS } from "./states.js";

const list = () => document.querySelector("#sites");

/** Links inside the list that lead to the list itself are fetched and swapped; the URL follows. */
function onClick(event) {
  const link = event.target.closest("#sites a[href]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || link.hasAttribute("download")) return;
  const url = new URL(link.href);
  if (url.pathname !== location.pathname) return;
  event.preventDefault();
  swap(url.pathname + url.search);
}

function swap(url) {
  history.pushState(null, "", url);
  window.htmx.ajax("GET", url, { target: "#sites", swap: "outerHTML" });
}

/** Chosen columns as one parameter, in place of one for each box. */
function onColumns(event) {
  const form = event.target.closest("[data-columns]");
  if (!form) return;
  event.preventDefault();
  const data = new FormData(form);
  const columns = data.getAll("cols").join(",");
  data.delete("cols");
  const query = new URLSearchParams(data);
  if (columns) query.set("cols", columns);
  swap(`${location.pathname}?${query}`.replaceAll("%2C", ","));
}

function onDeltas(event) {
  for (const [id, state, reachability, , since] of event.detail) {
    const cell = list()?.querySelector(`[data-site-id="${id}"] [data-state-cell]`);
    if (cell) paint(cell, kindOf(state, reachability), since);
  }
}

function paint(cell, kind, since) {
  cell.className = `state is-${kind}`;
  const use = cell.querySelector("use");
  use.setAttribute("href", `${use.getAttribute("href").split("#")[0]}#${kind}`);
  cell.querySelector("svg").setAttribute("class", `shape is-${kind}`);
  cell.querySelector("span").textContent = LABELS[kind];
  const age = cell.parentElement.querySelector("time");
  if (!age) return;
  age.dateTime = new Date(since * 1000).toISOString();
  delete age.dataset.titled;
}

document.addEventListener("click", onClick);
document.addEventListener("submit", onColumns);
document.addEventListener("live:deltas", onDeltas);
window.addEventListener("popstate", () => window.htmx.ajax("GET", location.pathname + location.search, { target: "#sites", swap: "outerHTML" }));
