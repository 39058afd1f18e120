// A fragment that is swapped keeps open what was open (<details id="..."> inside it) and the focus where it was.

const opened = new Set();
let focused = "";

export function startKeepOpen() {
  document.addEventListener("htmx:beforeSwap", (event) => {
    opened.clear();
    // htmx restores it too, but not where one swap comes upon another: who works by keys would begin anew.
    if (event.detail.target.contains(document.activeElement)) focused = document.activeElement.id;
    event.detail.target.querySelectorAll("details[id][open]").forEach((details) => opened.add(details.id));
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    opened.clear();
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (focused && document.activeElement === document.body) {
      document.getElementById(focused)?.focus({ preventScroll: true });
    }
    focused = "";
  });
}
