// A fragment that is swapped keeps open what was open: <details id="..."> inside it.

const opened = new Set();

export function startKeepOpen() {
  document.addEventListener("htmx:beforeSwap", (event) => {
    opened.clear();
    event.detail.target.querySelectorAll("details[id][open]").forEach((details) => opened.add(details.id));
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    opened.clear();
  });
}
