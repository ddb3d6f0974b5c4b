"use strict";
// The page: charts, a sortable table, and one arm at a time that is active in all of them.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const details = document.getElementById("details");
const views = [];
const configs = new Map(); // arm -> how its config differs from the first arm's
for (const row of document.querySelectorAll("tr[data-config]")) configs.set(row.dataset.arm, row.dataset.config);

for (const text of document.querySelectorAll(".drawing text")) {
  if (configs.has(text.textContent.trim())) text.dataset.arm = text.textContent.trim();
}

// --- the active arm ---------------------------------------------------------------------------------------------

function activate(arm) {
  for (const element of document.querySelectorAll("[data-arm]")) {
    element.classList.toggle("active", element.dataset.arm === arm);
  }
  for (const view of views) view.signal("active", arm).runAsync();
}

function show(arm, lines, x, y) {
  activate(arm);
  const name = document.createElement("b");
  const config = document.createElement("pre");
  name.textContent = arm;
  config.textContent = [...lines, configs.get(arm) ?? ""].join("\n").trim();
  details.replaceChildren(name, config);
  details.hidden = false;
  if (window.innerWidth <= 640) {
    details.style.left = details.style.top = ""; // the style puts it at the bottom
    return;
  }
  const { width, height } = details.getBoundingClientRect();
  const below = y + 18 + height < window.innerHeight;
  details.style.left = `${Math.max(8, Math.min(x + 14, window.innerWidth - width - 8))}px`;
  details.style.top = `${below ? y + 18 : Math.max(8, y - height - 12)}px`;
}

function hide() {
  activate(null);
  details.hidden = true;
}

for (const element of document.querySelectorAll("[data-arm]")) {
  const arm = element.dataset.arm;
  const showHere = (event) => show(arm, [], event.clientX, event.clientY);
  element.addEventListener("mousemove", showHere);
  element.addEventListener("mouseleave", hide);
  element.addEventListener("click", showHere);
  element.addEventListener("focus", () => {
    const { left, bottom } = element.getBoundingClientRect();
    show(arm, [], left, bottom);
  });
  element.addEventListener("blur", hide);
}
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
document.addEventListener("click", (event) => event.target.closest("[data-arm], .chart, #details") || hide());

// --- charts -----------------------------------------------------------------------------------------------------

// Vega calls it with what a mark shows, and with null when the pointer leaves the mark.
function tooltip(handler, event, item, value) {
  if (value == null || value === "" || !item.datum?.arm) return hide();
  const lines = Object.entries(value).map(([key, text]) => `${key}: ${text}`);
  show(item.datum.arm, [...lines, ""], event.clientX, event.clientY);
}

for (const [name, spec] of Object.entries(read("specs"))) {
  const chart = document.getElementById(name);
  const config = { axisY: { labelLimit: Math.min(280, 0.4 * chart.clientWidth) } };
  vegaEmbed(chart, spec, { actions: false, renderer: "svg", tooltip, config }).then(({ view }) => {
    views.push(view);
    view.addEventListener("click", (event, item) => tooltip(null, event, item, item?.tooltip)); // a tap
  });
}

// --- sorting ----------------------------------------------------------------------------------------------------

// Numbers by value, texts by letters; cells without a value come last in both directions.
function compareCells(a, b, isNumber, sign) {
  if (!isNumber) return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  const [x, y] = [a.dataset.value, b.dataset.value];
  if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
  return sign * (Number(x) - Number(y));
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const isNumber = [...body.rows].some((row) => row.cells[column].dataset.value !== undefined);
    for (const cell of [head, ...[...body.rows].map((row) => row.cells[column])]) cell.classList.toggle("number", isNumber);
    head.querySelector("button").addEventListener("click", () => {
      const first = isNumber ? "descending" : "ascending";
      const second = isNumber ? "ascending" : "descending";
      const order = head.ariaSort === first ? second : first;
      for (const other of heads) other.ariaSort = "none";
      head.ariaSort = order;
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].sort((a, b) => compareCells(a.cells[column], b.cells[column], isNumber, sign));
      body.append(...rows);
    });
  });
}

// --- downloads --------------------------------------------------------------------------------------------------

for (const button of document.querySelectorAll("button.download")) {
  button.addEventListener("click", () => {
    const data = read("data");
    const name = button.dataset.section;
    const text = JSON.stringify(name ? data[name] : data, null, 2);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `${name ?? "report"}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
