// Keys of the whole page: search, going places, rows, help. A key typed into a field is never taken.

import { openPalette } from "./palette.js";
import { toggleTheme } from "./theme.js";

const CHORD_MS = 1200;

let chord_until_ms = 0;

const isTyping = (target) => target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");

function go(key) {
  const link = document.querySelector(`[data-go="${CSS.escape(key)}"]`);
  if (link) location.assign(link.href);
}

function moveRow(step) {
  const rows = [...document.querySelectorAll("[data-rows] [data-row]")];
  if (rows.length === 0) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + step))];
  (next.querySelector("[data-row-link]") ?? next).focus();
  next.scrollIntoView({ block: "nearest" });
}

const inRow = (selector) => document.activeElement?.closest("[data-row]")?.querySelector(selector);

const PLAIN = {
  "/": () => openPalette(),
  "?": () => document.querySelector("#keys-help")?.showModal(),
  j: () => moveRow(1),
  k: () => moveRow(-1),
  x: () => document.activeElement?.closest("[data-row]")?.querySelector("input[type=checkbox]")?.click(),
  a: () => inRow("[data-row-take]")?.click(),
  o: () => inRow("[data-row-outage]")?.click(),
  t: () => toggleTheme(),
};

function onKey(event) {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openPalette();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
  // The event's own time, not now: a page that was busy with its map has not heard the keys when they were pressed.
  if (event.timeStamp < chord_until_ms) {
    chord_until_ms = 0;
    go(event.key);
    return;
  }
  if (event.key === "g") chord_until_ms = event.timeStamp + CHORD_MS;
  const action = PLAIN[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

export function startKeys() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys-help]")) document.querySelector("#keys-help")?.showModal();
    const close = event.target.closest("[data-dialog-close]");
    if (close) close.closest("dialog").close();
    // A click on the backdrop is a click on the dialog itself.
    if (event.target instanceof HTMLDialogElement && event.target.matches("[data-light-close]")) event.target.close();
  });
}
