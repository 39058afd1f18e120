// Short notes in the corner: from the server's HX-Trigger {"toast": {level, text}}, from scripts, and for failed requests.

const SHOWN_MS = 6000;

function box() {
  return document.querySelector("[data-toasts]");
}

/** Shows a note; level is success, info, warning or danger. Dangers stay until they are closed. */
export function toast(level, text) {
  const made = document.querySelector("#toast-template").content.firstElementChild.cloneNode(true);
  made.classList.add(level);
  made.querySelector("[data-toast-text]").textContent = text;
  box().append(made);
  expire(made);
}

function expire(note) {
  if (note.classList.contains("danger")) return;
  setTimeout(() => note.remove(), SHOWN_MS);
}

function onFailure(event) {
  const status = event.detail.xhr?.status ?? 0;
  // The server sends its own words with a toast; this is for answers that have none.
  if (event.detail.xhr?.getResponseHeader("HX-Trigger")?.includes("toast")) return;
  if (event.detail.requestConfig?.triggeringEvent?.type === "live") return;
  toast("danger", status ? `That did not work (${status}). Nothing was changed.` : "No connection. Nothing was changed.");
}

export function startToasts() {
  document.addEventListener("click", (event) => event.target.closest("[data-toast-close]")?.closest(".toast-note").remove());
  document.body.addEventListener("toast", (event) => toast(event.detail.level, event.detail.text));
  document.body.addEventListener("htmx:responseError", onFailure);
  document.body.addEventListener("htmx:sendError", onFailure);
  box()?.querySelectorAll(".toast-note").forEach(expire);
}
