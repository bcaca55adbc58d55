// Lanes: many short curves above each other, one scale for all, a label and the value beside each.

function laneChart(figure, spec) {
  const set = RUN.sets[spec.from];
  const plot = element("div", { class: "plot" });
  const at = element("span", { class: "at" });
  const span = element("span", { class: "at" });
  const keys = spec.lines.map((line) => line.key);
  figure.append(element("p", { class: "readout" }, at, span), plot, csvButton(spec.title.toLowerCase(), () => chartRows(set, spec.lines)));
  const log = spec.scale === "log";
  const positive = keys.flatMap((key) => set.series[key]).filter((v) => v !== null && v > 0);
  const [low, high] = log ? (positive.length ? [Math.min(...positive), Math.max(...positive)] : [0.1, 1]) : [0, 1];
  if (log && positive.length) span.textContent = `lanes span ${digits(low)} to ${digits(high)}`;
  const say = (index) => [`step ${set.steps[index]}`, phaseAt(set, index), ...spec.lines.map((l) => `${l.label} ${digits(set.series[l.key][index])}`)].filter(Boolean).join(", ");
  let forget = () => {};

  onWidth(plot, (width) => {
    forget();
    const narrow = width < 520;
    const left = narrow ? 0 : Math.min(190, width * 0.3), right = width - 62;
    const lane = narrow ? 44 : 26, label = narrow ? 18 : 0, head = 15, bottom = head + spec.lines.length * lane;
    const x = horizontal(left, right);
    const id = `future-${figure.dataset.chart}`;
    const svg = shape("svg", { viewBox: `0 0 ${width} ${bottom + 22}`, "aria-label": `${spec.title}: values by step` });
    svg.append(shape("defs", {}, hatch(`${id}-none`)), ...background(x, 0, bottom, id, true), ...stepAxis(x, left, right, bottom));
    const xs = set.steps.map(x);
    const values = spec.lines.map((line, i) => {
      const top = head + i * lane + label, floor = head + (i + 1) * lane - 5;
      const y = vertical(low, high, floor, top + 3, log);
      const series = set.series[line.key], ys = series.map((v) => (v === null ? null : y(v)));
      const room = Math.floor((narrow ? right : left - 8) / 6.1);
      const name = shape("text", { class: "name", x: 0, y: narrow ? top - 4 : floor - 3 }, line.label.length > room ? line.label.slice(0, room - 1) + "…" : line.label);
      name.append(shape("title", {}, line.label));
      const value = shape("text", { class: "name", x: width, y: floor - 3, "text-anchor": "end" });
      svg.append(
        ...gaps(series, xs, x, (from, to) => shape("rect", { fill: `url(#${id}-none)`, x: from, y: top + 2, width: to - from, height: floor - top - 2 })),
        shape("line", { class: "grid", x1: left, x2: right, y1: floor, y2: floor }),
        shape("path", { class: `line ${line.colour}`, d: path(xs, ys, spec.scale === "unit") }),
        ...lone(xs, ys, line.colour),
        name,
        value,
      );
      return value;
    });
    const rule = shape("line", { class: "cursor", y1: head, y2: bottom, visibility: "hidden" });
    svg.append(rule);
    plot.replaceChildren(svg);
    const draw = () => {
      const index = nearest(set.steps, cursor.step);
      at.textContent = `step ${grouped.format(set.steps[index])}` + (phaseAt(set, index) ? ` · ${phaseAt(set, index)}` : "");
      fill(rule, { x1: xs[index], x2: xs[index], visibility: cursor.step === null ? "hidden" : "visible" }, []);
      spec.lines.forEach((line, i) => { values[i].textContent = digits(set.series[line.key][index]); });
    };
    cursor.followers.add(draw);
    const drop = steer(svg, set, (pixels) => ((pixels - left) / (right - left)) * RUN.end, say);
    forget = () => { drop(); cursor.followers.delete(draw); };
    draw();
  });
}

/** Calls `mark(from, to)` for every stretch, in pixels, in which the series has no value. */
function gaps(series, xs, x, mark) {
  const found = [];
  let from = null;
  series.forEach((value, i) => {
    if (value === null && from === null) from = i ? xs[i - 1] : x(0);
    if (value !== null && from !== null) { found.push(mark(from, i ? xs[i - 1] : xs[0])); from = null; }
  });
  if (from !== null) found.push(mark(from, xs.at(-1)));
  return found;
}
