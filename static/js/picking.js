// Sites picked on the Overview, by a line around them or by its filters, handed over to a plan or a hold.

import { filterQuery, isOpen, predicate } from "./filters.js";
import { sitesWithin, thinned } from "./lasso.js";

/** Starts picking; `now()` gives the page's `{filters, map, fleet}`. Returns what to call when any of them changed. */
export function startPicking(now) {
  const bar = document.querySelector("[data-picked]");
  const button = document.querySelector("[data-lasso]");
  const layer = document.querySelector("[data-lasso-layer]");
  if (!bar || !button || !layer) return () => {};
  const line = layer.querySelector("polygon");
  const roll = bar.querySelector("[data-picked-roll]");
  let picked = new Set();
  let drawn = [];

  function mode(on) {
    button.setAttribute("aria-pressed", String(on));
    layer.hidden = !on;
  }

  function paint() {
    const { filters, fleet, map } = now();
    const passes = predicate(filters);
    picked = new Set([...picked].filter((slug) => fleet.bySlug.has(slug)));
    const byHand = picked.size > 0;
    const count = byHand ? picked.size : [...fleet.sites.values()].filter(passes).length;
    bar.hidden = count === 0 || (!byHand && isOpen(filters));
    bar.querySelector("[data-picked-count]").textContent = `${count.toLocaleString("en-GB")} site${count === 1 ? "" : "s"}`;
    bar.querySelector("[data-picked-how]").textContent = byHand ? "picked" : "pass the filters";
    bar.querySelector("[data-picked-clear]").hidden = !byHand;
    bar.elements.sites.value = byHand ? [...picked].join(" ") : "";
    bar.elements.query.value = filterQuery(filters).slice(1);
    if (roll) roll.textContent = `Roll out to ${count === 1 ? "it" : "them"}…`;
    map?.mark([...picked].map((slug) => fleet.bySlug.get(slug)));
  }

  function point(event) {
    const box = layer.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  function draw(event) {
    if (!layer.hasPointerCapture(event.pointerId)) return;
    drawn = thinned([...drawn, point(event)]);
    line.setAttribute("points", drawn.map((one) => one.join(",")).join(" "));
  }

  layer.addEventListener("pointerdown", (event) => {
    layer.setPointerCapture(event.pointerId);
    drawn = [point(event)];
  });
  layer.addEventListener("pointermove", draw);
  layer.addEventListener("pointerup", (event) => {
    draw(event);
    const { filters, fleet, map } = now();
    const found = map ? sitesWithin(drawn, fleet.sites.values(), (site) => map.place(site), predicate(filters)) : [];
    picked = event.shiftKey ? new Set([...picked, ...found.map(({ slug }) => slug)]) : new Set(found.map(({ slug }) => slug));
    drawn = [];
    line.setAttribute("points", "");
    if (picked.size > 0) mode(false);
    paint();
  });
  button.addEventListener("click", () => mode(layer.hidden));
  bar.querySelector("[data-picked-clear]").addEventListener("click", () => {
    picked = new Set();
    paint();
    button.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !layer.hidden) mode(false);
  });
  return paint;
}
