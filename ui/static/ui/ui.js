// The console works without this file; it only spares clicks.
"use strict";

function everyBox(of) {
  document.querySelectorAll(`input[type=checkbox][name="${of.dataset.all}"]`).forEach((box) => {
    box.checked = of.checked;
  });
}

function showHelpers() {
  document.querySelectorAll("input[data-all]").forEach((box) => {
    box.hidden = false;
  });
}

document.addEventListener("change", (event) => {
  if (event.target.matches("input[data-all]")) {
    everyBox(event.target);
  }
});
document.addEventListener("htmx:afterSwap", showHelpers);
showHelpers();
