// Entry of the site form: a place chosen from the list fills in coordinates, country and time zone.

function choose(button) {
  const form = button.closest("form");
  for (const name of ["place", "country", "time_zone", "lat", "lon"]) {
    const field = form.elements[name];
    if (field && button.dataset[name] !== undefined) field.value = button.dataset[name];
  }
  const list = document.querySelector("#places");
  list.replaceChildren();
  form.elements.time_zone.focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-place-pick]");
  if (button) choose(button);
});
