// Dark or light: kept in a cookie, so that the server renders the right one and nothing flashes.

const YEAR_S = 31_536_000;

/** "dark" or "light", as shown. */
export const currentTheme = () => document.documentElement.dataset.bsTheme;

function setTheme(theme) {
  document.documentElement.dataset.bsTheme = theme;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `theme=${theme}; Path=/; Max-Age=${YEAR_S}; SameSite=Lax${secure}`;
  localStorage.setItem("theme", theme);
  document.dispatchEvent(new CustomEvent("theme:change", { detail: theme }));
}

/** Switches over. */
export function toggleTheme() {
  setTheme(currentTheme() === "dark" ? "light" : "dark");
}

/** Wires the buttons, and follows a change made in another tab. */
export function startTheme() {
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-theme-toggle]")) toggleTheme();
  });
  window.addEventListener("storage", (event) => {
    if (event.key === "theme" && event.newValue && event.newValue !== currentTheme()) setTheme(event.newValue);
  });
}
