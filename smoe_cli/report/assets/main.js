// Puts everything in its place.

const redraw = [];
document.querySelector("header .status").append(csvButton("summary", () => textRows(document.querySelector("main")), "summary as CSV"));
document.querySelectorAll("[data-chart], [data-heat], [data-gallery], table[data-csv]").forEach((node) => {
  if (node.matches("table")) {
    const button = csvButton(node.dataset.csv, () => tableRows(node));
    button.classList.add("below");
    node.parentElement.after(button);
  } else if ("gallery" in node.dataset) gallery(node);
  else if ("heat" in node.dataset) heatMap(node);
  else {
    const spec = RUN.charts[node.dataset.chart];
    const again = spec.kind === "lanes" ? laneChart(node, spec) : lineChart(node, spec);
    if (spec.tools) redraw.push(again);
  }
});
const all = element("button", { type: "button", class: "all" }, "All numbers (ZIP of CSV files)");
all.addEventListener("click", () => save(fileName(RUN.name, "zip"), archive(), "application/zip"));
document.querySelector("header .status").append(all);

document.querySelectorAll("[data-option]").forEach((box) => {
  box.checked = false;
  box.addEventListener("change", () => {
    options[box.dataset.option] = box.checked;
    redraw.forEach((again) => again());
  });
});

// Theme: the system's, until the reader chooses. Storage may be closed to pages opened from a file.
const root = document.documentElement, toggle = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
const name = () => { toggle.textContent = isDark() ? "Light theme" : "Dark theme"; };
try { root.dataset.theme = localStorage.getItem("smoe-theme") || ""; } catch { /* not stored */ }
toggle.hidden = false;
toggle.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("smoe-theme", root.dataset.theme); } catch { /* not stored */ }
  name();
});
system.addEventListener("change", name);
name();

// The section in view, in the navigation.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new Set();
const watch = new IntersectionObserver((entries) => {
  entries.forEach((entry) => (entry.isIntersecting ? seen.add(entry.target) : seen.delete(entry.target)));
  const first = [...document.querySelectorAll("main > section")].find((section) => seen.has(section));
  links.forEach((link, id) => (first?.firstElementChild.id === id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
}, { rootMargin: "-15% 0px -60% 0px" });
document.querySelectorAll("main > section").forEach((section) => watch.observe(section));
