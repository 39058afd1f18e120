// Buttons with data-copy="#id of a field" put its text on the clipboard, or mark it where that is not allowed.

async function copy(button) {
  const field = document.querySelector(button.dataset.copy);
  const text = button.querySelector("[data-copy-text]");
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    text.textContent = "Copied";
  } catch {
    text.textContent = "Marked: press Ctrl-C";
  }
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
