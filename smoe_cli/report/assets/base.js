"use strict";
// Shared by all charts: the run's data, element builders, number formats, scales.

const RUN = JSON.parse(document.getElementById("run-data").textContent);

function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function shape(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const grouped = new Intl.NumberFormat("en");

/** A measured number with four digits, as the tables write it. */
function digits(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if ((Number.isInteger(value) || size >= 1000) && size < 1e7) return grouped.format(Math.round(value)).replace("-", "−");
  if (size < 1e-3 || size >= 1e7) return value.toExponential(2).replace(/\.?0+e/, "e").replace("-", "−").replace("+", "");
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

/** Round numbers inside [low, high], about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= rough) || 10);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** Powers of ten inside [low, high]; 2 and 5 between them when there are few. */
function logTicks(low, high) {
  const found = [];
  const wide = Math.log10(high) - Math.log10(low) > 2;
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) {
    for (const m of wide ? [1] : [1, 2, 5]) {
      const value = Number((m * 10 ** p).toPrecision(3));
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  const every = Math.ceil(found.length / 5);
  return found.filter((_, i) => i % every === 0);
}

/** Values to pixels, bottom to top. On a log scale zero (and below) lies on the floor, apart from the smallest positive value. */
function vertical(low, high, bottom, top, log) {
  if (!log) return (value) => bottom + ((value - low) / (high - low || 1)) * (top - bottom);
  const start = bottom - Math.min(9, (bottom - top) / 4);
  const span = Math.log(high) - Math.log(low) || 1; // their quotient may overflow
  return (value) => (value <= 0 ? bottom : start + ((Math.log(value) - Math.log(low)) / span) * (top - start));
}

/** A pattern of diagonal lines; `id` must be unique in the page. */
function hatch(id) {
  return shape(
    "pattern",
    { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    shape("line", { x1: 0, y1: 0, x2: 0, y2: 6, class: "hatched" }),
  );
}

/** Calls `draw(width)` now and whenever the width of `node` changes. */
function onWidth(node, draw) {
  let last = 0;
  new ResizeObserver(() => {
    const width = Math.floor(node.clientWidth);
    if (width && width !== last) draw((last = width));
  }).observe(node);
}
