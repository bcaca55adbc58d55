// The sample grids in one place, behind a slider over their steps, beside the first one.

function gallery(node) {
  const flip = node.querySelector(".flip");
  if (!flip) return;
  const first = node.firstElementChild;
  const copy = first.cloneNode(true); // so that the slider also goes back to where it began
  copy.classList.add("copy");
  flip.prepend(copy);
  const figures = [...flip.children];
  const slider = element("input", { type: "range", min: 0, max: figures.length - 1, value: figures.length - 1, step: 1, id: "grid" });
  const when = element("output", { for: "grid" });
  node.before(element("div", { class: "slider" }, element("label", { for: "grid" }, "Grid"), slider, when));
  node.classList.add("flipping");
  function show() {
    figures.forEach((figure, i) => { figure.hidden = i !== Number(slider.value); });
    const caption = figures[slider.value].querySelector("figcaption");
    when.textContent = `step ${grouped.format(figures[slider.value].dataset.step)} · ${Number(slider.value) + 1} of ${figures.length}`;
    slider.setAttribute("aria-valuetext", caption.firstChild.textContent + when.textContent.slice(5));
  }
  slider.addEventListener("input", show);
  show();
}
