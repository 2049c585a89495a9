"use strict";
// Sorting, filtering and enlarging. Without this script the page shows everything in order.
const cards = [...document.querySelectorAll(".card")];
const list = document.getElementById("cards");
const search = document.getElementById("search");
const sort = document.getElementById("sort");
const least = document.getElementById("least");
const verdict = document.getElementById("verdict");
const levels = [...document.querySelectorAll(".histogram button")];
const number = (card, name) => Number(card.dataset[name]);

const orders = {
  arrival: (a, b) => number(a, "arrival") - number(b, "arrival"),
  worst: (a, b) => number(a, "score") - number(b, "score"),
  best: (a, b) => number(b, "score") - number(a, "score"),
  expected: (a, b) => number(a, "expected") - number(b, "expected"),
  region: (a, b) => number(a, "region") - number(b, "region"),
  regions: (a, b) => number(b, "regions") - number(a, "regions"),
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
};

function show() {
  const wanted = search.value.trim().toLowerCase();
  const off = levels.filter((b) => b.getAttribute("aria-pressed") === "false");
  const hidden = new Set(off.map((b) => b.dataset.level));
  let shown = 0;
  for (const card of cards) {
    const keeps =
      card.dataset.name.toLowerCase().includes(wanted) &&
      number(card, "score") >= Number(least.value) &&
      !hidden.has(card.dataset.level) &&
      (!verdict || verdict.value === "" || card.dataset.verdict === verdict.value);
    card.hidden = !keeps;
    shown += keeps ? 1 : 0;
  }
  document.getElementById("least-shown").value = Number(least.value).toFixed(1);
  document.getElementById("shown").textContent = `${shown} of ${cards.length} shown`;
}

sort.addEventListener("change", () => list.append(...cards.sort(orders[sort.value])));
for (const tool of [search, least, verdict]) tool?.addEventListener("input", show);
for (const button of levels) {
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!pressed));
    show();
  });
}

const dialog = document.querySelector("dialog");
list.addEventListener("click", (event) => {
  const link = event.target.closest(".card > a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  dialog.firstElementChild.src = link.href;
  dialog.showModal();
});
dialog.addEventListener("click", () => dialog.close());

document.querySelector(".tools").hidden = false;
show();
