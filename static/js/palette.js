// The command palette: a dialog whose list the server fills as one types; arrows choose, Enter goes.

const dialog = () => document.querySelector("#palette");
const links = () => [...dialog().querySelectorAll("[data-palette-list] a")].filter((link) => !link.closest("[hidden]"));

/** Opens it with an empty field. */
export function openPalette() {
  const box = dialog();
  if (!box || box.open) return;
  box.showModal();
  const input = box.querySelector("input");
  input.select();
  choose(0);
}

function choose(index) {
  const all = links();
  const input = dialog().querySelector("input");
  all.forEach((link, i) => link.setAttribute("aria-selected", String(i === index)));
  if (all[index]) {
    all[index].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", all[index].id);
  } else {
    input.removeAttribute("aria-activedescendant");
  }
}

function onKey(event) {
  const all = links();
  const at = all.findIndex((link) => link.getAttribute("aria-selected") === "true");
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    if (all.length > 0) choose((at + step + all.length) % all.length);
  } else if (event.key === "Enter") {
    event.preventDefault();
    (all[at] ?? all[0])?.click();
  }
}

export function startPalette() {
  const box = dialog();
  if (!box) return;
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-palette-open]")) return;
    event.preventDefault();
    openPalette();
  });
  box.querySelector("input").addEventListener("keydown", onKey);
  box.addEventListener("htmx:afterSwap", () => choose(0));
}
