// The page's one websocket: deltas, hints and heartbeats become DOM events; loss of it is shown and healed.
//
// Events on document: "live:deltas" (detail: deltas), "live:hints" (detail: hints), "live:resync", "live:state".
// Elements with data-live="topic:pk ..." get the event "live" when a hint names them. With every new connection, the
// first too, all of them get it and "live:resync" is emitted: what was said between the drawing of the page and the
// connection was heard by nobody, and nothing need follow it. What is said of an element while it is fetched, or while
// somebody types into it, is fetched after; what could not be fetched is tried again.

import { Throttle, linkState, retryDelay_ms } from "./link.js";
import { ageText } from "./format.js";

const CHECK_MS = 500;
const HINT_PAUSE_MS = 1000;

// Elements with an id are known by it: a swap puts another in its place, and what was said meanwhile is due to that one.
const throttles = { ids: new Map(), elements: new WeakMap() };
const fetching = new WeakSet();
let socket = null;
let attempt = 0;
let behind = true;
let ended = null;
let last_message_ms = null;
let started_ms = performance.now();
let server_offset_ms = 0;

/** The server's clock, as far as this page knows it, in epoch milliseconds. */
export const serverNow_ms = () => Date.now() + server_offset_ms;

function emit(name, detail) {
  document.dispatchEvent(new CustomEvent(name, { detail }));
}

/** Somebody is typing into it: a swap now would take the words away. */
function isBusy(element) {
  const field = document.activeElement;
  return element.contains(field) && field.matches("input, textarea") && field.value !== "";
}

function poke(element) {
  const [known, key] = element.id ? [throttles.ids, element.id] : [throttles.elements, element];
  if (!known.has(key)) known.set(key, new Throttle(() => fetchAgain(key), HINT_PAUSE_MS));
  known.get(key).call();
}

/** htmx forgets a request that waits for one of an element that is then replaced: so none waits there. */
function fetchAgain(key) {
  const element = typeof key === "string" ? document.getElementById(key) : key;
  if (!element?.isConnected) return;
  if (isBusy(element) || fetching.has(element)) poke(element);
  else element.dispatchEvent(new CustomEvent("live"));
}

/** A server that answers with a fault has enough to do: browsers come back late, and not together. */
function onFetched({ detail: { elt, successful, xhr } }) {
  fetching.delete(elt);
  const is_lost = !successful && (xhr.status === 0 || xhr.status >= 500);
  if (is_lost && elt.matches("[data-live]")) setTimeout(poke, retryDelay_ms(Infinity), elt);
}

function pokeHints(hints) {
  for (const [topic, pk] of hints) {
    document.querySelectorAll(`[data-live~="${CSS.escape(topic)}\\:${CSS.escape(String(pk))}"]`).forEach(poke);
  }
}

function catchUp() {
  emit("live:resync");
  document.querySelectorAll("[data-live]").forEach(poke);
}

function onMessage(event) {
  const message = JSON.parse(event.data);
  last_message_ms = performance.now();
  if (behind) {
    behind = false;
    catchUp();
  }
  attempt = 0;
  if (message.t === "d") emit("live:deltas", message.d);
  else if (message.t === "h") {
    emit("live:hints", message.h);
    pokeHints(message.h);
  } else if (message.t === "b") server_offset_ms = message.now - Date.now();
  else if (message.t === "bye") end(message.why);
  check();
}

function end(why) {
  ended = why || "This session has ended.";
  socket.close();
  check();
}

function onClose() {
  behind = true;
  socket = null;
  if (ended) return;
  setTimeout(connect, retryDelay_ms(attempt));
  attempt += 1;
}

function connect() {
  if (socket || ended) return;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}${document.body.dataset.liveUrl}`);
  socket.addEventListener("message", onMessage);
  socket.addEventListener("close", onClose);
}

/** A connection that went silent without closing is dropped, so that a new one is tried. */
function dropSilent(state) {
  if (state === "stale" && socket && socket.readyState === WebSocket.OPEN) {
    behind = true;
    socket.close();
  }
}

function check() {
  const now_ms = performance.now();
  const state = ended ? "stale" : linkState(last_message_ms, started_ms, now_ms);
  const root = document.documentElement;
  if (root.dataset.link !== state) {
    root.dataset.link = state;
    emit("live:state", state);
  }
  showState(state, now_ms);
  dropSilent(state);
}

function showState(state, now_ms) {
  const age = ageText((now_ms - (last_message_ms ?? started_ms)) / 1000);
  const text = { live: "Live", connecting: "Connecting", stale: `Stale ${age}` }[state];
  for (const dot of document.querySelectorAll("[data-live-dot]")) {
    if (dot.textContent !== text) dot.textContent = text;
  }
  const bar = document.querySelector("[data-stale-bar]");
  if (!bar) return;
  bar.hidden = state !== "stale";
  if (state !== "stale") return;
  bar.querySelector("[data-stale-age]").textContent = age;
  bar.querySelector("[data-stale-why]").textContent = ended ?? "Connection lost. Trying again.";
}

/** Connects, once a page. */
export function startLive() {
  if (!document.body.dataset.liveUrl) return;
  started_ms = performance.now();
  document.addEventListener("htmx:beforeSend", (event) => fetching.add(event.detail.elt));
  document.addEventListener("htmx:afterRequest", onFetched);
  connect();
  setInterval(check, CHECK_MS);
  // A laptop that wakes up should not wait for the next timer.
  document.addEventListener("visibilitychange", check);
  window.addEventListener("online", () => connect());
}
