// Rows that are picked: the box in the head takes all, the bar of actions says how many, and lives while any is.

function refresh(form) {
  const boxes = [...form.querySelectorAll("[data-pick]")];
  const picked = boxes.filter((box) => box.checked).length;
  const all = form.querySelector("[data-pick-all]");
  if (all) {
    all.checked = picked > 0 && picked === boxes.length;
    all.indeterminate = picked > 0 && picked < boxes.length;
  }
  const bar = form.querySelector("[data-pick-bar]");
  if (!bar) return;
  bar.hidden = picked === 0;
  bar.querySelector("[data-pick-count]").textContent = picked === 1 ? "1 site" : `${picked} sites`;
}

function onChange(event) {
  const form = event.target.closest("[data-picks]");
  if (!form) return;
  if (event.target.matches("[data-pick-all]")) {
    form.querySelectorAll("[data-pick]").forEach((box) => {
      box.checked = event.target.checked;
    });
  }
  refresh(form);
}

export function startTables() {
  document.addEventListener("change", onChange);
  document.addEventListener("htmx:afterSwap", () => document.querySelectorAll("[data-picks]").forEach(refresh));
  document.querySelectorAll("[data-picks]").forEach(refresh);
}
