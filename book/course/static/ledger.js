// Filters of the ledger, kept in the address: ledger.html#verdict=wrong&q=方差
const form = document.getElementById("ledger-filters");
const rows = [...document.querySelectorAll("#ledger-table tbody tr")];
const text = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
const keys = ["chapter", "verdict", "state", "document", "section"];

function offerSections() {
  const chosen = form.document.value;
  const sections = new Set(
    rows.filter(row => row.dataset.document === chosen).map(row => row.dataset.section)
  );
  const kept = form.section.value;
  form.section.replaceChildren(new Option("all", ""), ...[...sections].sort(
    (a, b) => a.localeCompare(b, "en", { numeric: true })
  ).map(name => new Option(name)));
  form.section.disabled = !sections.size;
  form.section.value = sections.has(kept) ? kept : "";
}

function filter() {
  const words = form.q.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const match = keys.every(k => !form[k].value || form[k].value === row.dataset[k])
      && words.every(word => text.get(row).includes(word));
    row.hidden = !match;
    shown += match;
  }
  document.getElementById("ledger-count").textContent =
    `${shown} of ${rows.length} claims`;
}

function remember() {
  const chosen = new URLSearchParams([...new FormData(form)].filter(pair => pair[1]));
  history.replaceState(null, "", "#" + chosen);
}

function recall() {
  const hash = decodeURIComponent(location.hash.slice(1));
  if (hash.includes("=")) {
    const chosen = new URLSearchParams(hash);
    for (const key of ["q", ...keys]) {
      form[key].value = chosen.get(key) || "";
      if (key === "document") offerSections();
    }
    if (chosen.get("section")) form.section.value = chosen.get("section");
    form.scrollIntoView();
  } else if (hash) {
    const row = document.getElementById(hash);
    row?.querySelector("details")?.setAttribute("open", "");
    if (row?.hidden) form.reset();
    row?.scrollIntoView({ block: "center" });
  }
  filter();
}

form.hidden = false;
form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("input", event => {
  if (event.target === form.document) offerSections();
  filter();
  remember();
});
form.addEventListener("reset", () => setTimeout(() => {
  offerSections();
  filter();
  remember();
}));
addEventListener("hashchange", recall);
offerSections();
recall();
