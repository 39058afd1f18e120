// <details data-menu> as a menu: one open at a time, closed by a click elsewhere or Escape.

const OPEN = "details[data-menu][open]";

export function startMenus() {
  document.addEventListener("click", (event) => {
    document.querySelectorAll(OPEN).forEach((menu) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector(OPEN);
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.stopImmediatePropagation();
  });
}
