// Entry of the plan's page: what is wrong stands at its field as one types, and times are in the viewer's zone.

const form = document.querySelector("#plan-form");
const MARK = "data-live-fault";

/** Where a field's errors stand: what holds it, whatever kind of field it is. */
function placeOf(field) {
  return field.closest(".field, fieldset, .plainfield") ?? field.parentElement;
}

/** Puts each sentence of the preview at the field that it is about; what was put there before is taken away. */
function paintFaults() {
  form.querySelectorAll(`[${MARK}]`).forEach((note) => note.remove());
  form.querySelectorAll("[aria-invalid][data-marked]").forEach((field) => {
    field.removeAttribute("aria-invalid");
    field.classList.remove("is-invalid");
    delete field.dataset.marked;
  });
  for (const fault of form.querySelectorAll("[data-plan-preview] [data-fault-for]")) {
    const field = document.getElementById(fault.dataset.faultFor);
    if (!field || field === form || field.tagName === "SECTION") continue;
    mark(field, fault.dataset.faultText);
  }
}

function mark(field, text) {
  const place = placeOf(field);
  // A page that came back from the server says it already.
  if ([...place.querySelectorAll(".errorlist, .field-error")].some((note) => note.textContent.includes(text))) return;
  const note = document.createElement("div");
  note.className = "field-error";
  note.setAttribute(MARK, "");
  note.textContent = text;
  place.append(note);
  if (!field.matches("input, select, textarea")) return;
  field.setAttribute("aria-invalid", "true");
  field.classList.add("is-invalid");
  field.dataset.marked = "1";
  field.closest("details")?.setAttribute("open", "");
}

/** What the server said of a field does not outlive the answer to what was typed since. */
function forgetServers(event) {
  if (event.detail.target.id !== "plan-preview") return;
  form.querySelectorAll(`.planparts .errorlist, .planparts .field-error:not([${MARK}])`).forEach((note) => note.remove());
  form.querySelectorAll(".planparts .is-invalid:not([data-marked])").forEach((field) => field.classList.remove("is-invalid"));
}

/** The start is typed on the viewer's own clock; a plan that has one already says it in UTC. */
function useOwnZone() {
  const zone = form.elements.start_zone;
  const start = form.elements.start_at;
  if (!zone || zone.value !== "UTC") return;
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (start.value) {
    const at = new Date(`${start.value}Z`);
    if (Number.isNaN(at.getTime())) return;
    start.value = new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  }
  zone.value = own || "UTC";
}

/** A new row is written into at once; one that was moved or taken out leaves the focus where it was. */
function focusNew(event) {
  const button = event.detail.requestConfig?.elt;
  if (button?.id === "add-wave") [...form.querySelectorAll(".wavename")].at(-1)?.select();
  if (button?.id === "add-window") [...form.querySelectorAll(".daypick input")].at(-7)?.focus();
}

/** A link to a field opens what hides it. */
function onLink(event) {
  const link = event.target.closest("[data-plan-preview] a[href^='#']");
  const field = link && document.getElementById(link.hash.slice(1));
  if (!field) return;
  event.preventDefault();
  for (let part = field.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  field.scrollIntoView({ block: "center" });
  (field.matches("input, select, textarea") ? field : field.querySelector("input, select, textarea, summary"))?.focus();
}

document.addEventListener("htmx:afterSwap", forgetServers);
document.addEventListener("htmx:afterSettle", paintFaults);
document.addEventListener("htmx:afterSettle", focusNew);
document.addEventListener("click", onLink);
useOwnZone();
paintFaults();
