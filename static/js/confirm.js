// Forms with data-confirm ask first; a form is sent once, however often its button is pressed.

function onSubmit(event) {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !window.confirm(question)) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  if (event.target.method !== "post" || event.target.hasAttribute("hx-post")) return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "1";
}

export function startConfirm() {
  document.addEventListener("submit", onSubmit, { capture: true });
  // Coming back with the browser's button shows the page as it was left, sent marks included.
  window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));
}
