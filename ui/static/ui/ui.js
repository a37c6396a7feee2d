// The console works without this file; it only spares clicks.
"use strict";

function everyBox(of) {
  document.querySelectorAll(`input[type=checkbox][name="${of.dataset.all}"]`).forEach((box) => {
    box.checked = of.checked;
  });
}

function showHelpers() {
  document.querySelectorAll("input[data-all], button[data-copy]").forEach((helper) => {
    helper.hidden = false;
  });
}

function copy(button) {
  const source = document.querySelector(button.dataset.copy);
  const done = () => {
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
  };
  if (navigator.clipboard) {
    navigator.clipboard.writeText(source.value).then(done);
  } else {
    source.select();
    document.execCommand("copy");
    done();
  }
}

// On a narrow window menu and filters begin closed; without this file they are open.
function foldMenus() {
  if (window.matchMedia("(max-width: 48rem)").matches) {
    document.querySelectorAll(".menu, .facets").forEach((menu) => {
      menu.open = false;
    });
  }
}

document.addEventListener("change", (event) => {
  if (event.target.matches("input[data-all]")) {
    everyBox(event.target);
  }
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) {
    copy(button);
  }
});
document.addEventListener("htmx:afterSwap", showHelpers);
showHelpers();
foldMenus();
