// Puts everything in its place.

const redraw = [];
document.querySelectorAll("[data-chart]").forEach((figure) => {
  const spec = RUN.charts[figure.dataset.chart];
  const again = spec.kind === "lanes" ? laneChart(figure, spec) : lineChart(figure, spec);
  if (spec.tools) redraw.push(again);
});
document.querySelectorAll("[data-heat]").forEach(heatMap);

document.querySelectorAll("[data-option]").forEach((box) => {
  box.checked = false;
  box.addEventListener("change", () => {
    options[box.dataset.option] = box.checked;
    redraw.forEach((again) => again());
  });
});

document.querySelectorAll("table[data-csv]").forEach((node) => {
  const cells = (row) => [...row.cells].map((cell) => cell.innerText.trim().replaceAll("−", "-"));
  const button = csvButton(node.dataset.csv, () => [...node.rows].map(cells));
  button.classList.add("below");
  node.parentElement.after(button);
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
