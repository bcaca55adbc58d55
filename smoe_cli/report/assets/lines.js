// Line charts over steps, with one cursor for all of them.

const DASHES = { ink: "", text: "", vit: "7 3", vae: "2 3", a: "7 3", b: "2 3", c: "9 3 2 3", d: "4 4", e: "12 4", f: "1 4" };
const LONGEST = 12; // letters of a line's name beside the plot
const BANDS = 3; // a chart of more lines has none: they would hide each other
const options = { smooth: false, log: false };
const cursor = { step: null, followers: new Set() };

function point(step) {
  if (cursor.step === step) return;
  cursor.step = step;
  cursor.followers.forEach((follow) => follow());
}

/** Index of the logged step nearest to `step`, or of the last one when there is none. */
function nearest(steps, step) {
  if (step === null) return steps.length - 1;
  let best = 0;
  steps.forEach((s, i) => { if (Math.abs(s - step) < Math.abs(steps[best] - step)) best = i; });
  return best;
}

function phaseAt(set, index) {
  return set.phase[index] || "";
}

/** Pixels of a step; the axis ends with the plan, or at twice the step that was reached. */
function horizontal(left, right) {
  return (step) => left + (step / Math.max(1, RUN.end)) * (right - left);
}

/** Every second phase shaded, all of them named, and the part of the plan that was never reached hatched. */
function background(x, top, bottom, id, names) {
  const parts = [];
  RUN.phases.forEach((phase, index) => {
    const from = x(phase.start), to = x(phase.start + phase.steps);
    if (index % 2) parts.push(shape("rect", { class: "band", x: from, y: top, width: to - from, height: bottom - top }));
    if (index) parts.push(shape("line", { class: "grid", x1: from, x2: from, y1: top, y2: bottom }));
    const room = Math.floor((to - from - 6) / 6.2);
    if (names && room > 2) {
      const label = phase.name + (phase.start === RUN.draws ? " · drawing begins" : "");
      const shown = label.length > room ? (phase.name.length > room ? phase.name.slice(0, room - 1) + "…" : phase.name) : label;
      parts.push(shape("text", { x: from + 4, y: top + 11 }, shown));
    }
  });
  if (RUN.draws !== null) { // drawing begins
    const at = x(RUN.draws);
    parts.push(shape("line", { class: "draws", x1: at, x2: at, y1: top, y2: bottom }));
  }
  if (RUN.last < RUN.end) {
    const from = x(RUN.last);
    parts.push(shape("defs", {}, hatch(id)));
    const width = Math.max(0, x(RUN.end) - from);
    parts.push(shape("rect", { fill: `url(#${id})`, x: from, y: top, width, height: bottom - top }));
    if (width > 80 && bottom - top > 60 && names) parts.push(shape("text", { x: from + width / 2, y: (top + bottom) / 2, "text-anchor": "middle", class: "over" }, "not reached"));
  }
  return parts;
}

function stepAxis(x, left, right, bottom) {
  const found = ticks(0, RUN.end, Math.max(2, Math.floor((right - left) / 90)));
  return found.flatMap((step) => [
    shape("line", { class: "grid", x1: x(step), x2: x(step), y1: bottom, y2: bottom + 4 }),
    shape("text", { x: x(step), y: bottom + 16, "text-anchor": step === 0 ? "start" : x(step) > right - 20 ? "end" : "middle" }, grouped.format(step)),
  ]);
}

/** Path through the values, broken where there is none; `lone` draws what has no neighbour. */
function path(xs, ys, staircase) {
  let drawn = "", open = false;
  xs.forEach((x, i) => {
    if (ys[i] === null) { open = false; return; }
    const at = `${x.toFixed(1)},${ys[i].toFixed(1)}`;
    drawn += !open ? `M${at}` : staircase ? `H${x.toFixed(1)}V${ys[i].toFixed(1)}` : `L${at}`;
    open = true;
  });
  return drawn;
}

/** A dot for every value without a neighbour, through which no line can be drawn. */
function lone(xs, ys, colour) {
  const none = (i) => ys[i] === undefined || ys[i] === null;
  const found = xs.flatMap((x, i) => (!none(i) && none(i - 1) && none(i + 1) ? [[x, ys[i]]] : []));
  return found.map(([cx, cy]) => shape("circle", { class: `dot lone ${colour}`, cx: cx.toFixed(1), cy: cy.toFixed(1), r: 3.5 }));
}

/** A dot for every value: where there are few, the eye should not take the line for more. */
function everyDot(xs, ys, colour) {
  return xs.flatMap((x, i) => (ys[i] === null ? [] : [shape("circle", { class: `dot ${colour}`, cx: x.toFixed(1), cy: ys[i].toFixed(1), r: 3 })]));
}

/** Moving average over about a twentieth of the points, never across phases. */
function smoothed(values, set) {
  const half = Math.max(1, Math.round(values.length / 40));
  return values.map((value, i) => {
    if (value === null) return null;
    let sum = 0, count = 0;
    for (let j = Math.max(0, i - half); j <= Math.min(values.length - 1, i + half); j++) {
      if (values[j] !== null && set.phase[j] === set.phase[i]) { sum += values[j]; count++; }
    }
    return sum / count;
  });
}

/** Pointer, touch and keyboard move the common cursor; a screen reader hears the values as those of a slider. */
function steer(svg, set, toStep, say) {
  fill(svg, { tabindex: 0, role: "slider", "aria-valuemin": set.steps[0], "aria-valuemax": set.steps.at(-1) }, []);
  const follow = () => {
    const index = nearest(set.steps, cursor.step);
    svg.setAttribute("aria-valuenow", set.steps[index]);
    svg.setAttribute("aria-valuetext", say(index));
  };
  const move = (event) => point(set.steps[nearest(set.steps, toStep(event.clientX - svg.getBoundingClientRect().left))]);
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && document.activeElement !== svg) point(null); });
  svg.addEventListener("blur", () => point(null));
  svg.addEventListener("keydown", (event) => {
    const jump = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") point(null);
    if (jump === undefined) return;
    event.preventDefault();
    const index = nearest(set.steps, cursor.step) + jump;
    point(set.steps[Math.min(set.steps.length - 1, Math.max(0, index))]);
  });
  cursor.followers.add(follow);
  follow();
  return () => cursor.followers.delete(follow);
}

function sample(colour) {
  return shape(
    "svg",
    { class: colour, viewBox: "0 0 20 8", "aria-hidden": true },
    shape("line", { x1: 0, x2: 20, y1: 4, y2: 4, stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": DASHES[colour] || null }),
  );
}

function lineChart(figure, spec) {
  const set = RUN.sets[spec.from];
  const readout = element("ul", { class: "readout" });
  const plot = element("div", { class: "plot" });
  figure.append(readout, plot, csvButton(spec.title.toLowerCase(), () => chartRows(set, spec.lines)));
  const at = element("li", { class: "at" });
  const values = spec.lines.map((line) => element("b"));
  readout.append(at, ...spec.lines.map((line, i) => element("li", {}, sample(line.colour), line.label + " ", values[i])));
  let forget = () => {}, draw = () => {};

  const say = (index) => [`step ${set.steps[index]}`, phaseAt(set, index), ...spec.lines.map((l) => `${l.label} ${digits(set.series[l.key][index])}`)].filter(Boolean).join(", ");

  function render(width) {
    forget();
    const height = Math.round(Math.max(150, Math.min(230, width * 0.42)));
    const labelled = spec.lines.length > 1 && spec.lines.length * 12 <= height - 40;
    const labels = labelled ? 10 + 6.2 * Math.max(...spec.lines.map((line) => named(line).length)) : 8;
    const left = 46, right = width - labels, top = 4, bottom = height - 22;
    const log = spec.tools && options.log, smooth = spec.tools && options.smooth;
    const x = horizontal(left, right);
    const shown = spec.lines.map((line) => set.series[line.key]);
    const extremes = spec.lines.flatMap((line) => (smooth || spec.lines.length > BANDS ? [] : [...(set.low[line.key] || []), ...(set.high[line.key] || [])]));
    const all = [...shown.flat(), ...extremes].filter((v) => v !== null && !(log && v <= 0));
    let [low, high] = [Math.min(...all), Math.max(...all)];
    if (!all.length) [low, high] = [0.1, 1];
    if (spec.range) [low, high] = [spec.range[0] ?? low, Math.max(spec.range[1] ?? high, high)];
    else if (!log) {
      if (low > 0 && low < high * 0.25) low = 0;
      if (low === high) [low, high] = [low - Math.abs(low) * 0.1 - 1e-9, high + Math.abs(high) * 0.1 + 1e-9];
    }
    if (!spec.range) high = log ? high * 1.08 : high + (high - low) * 0.04;
    const y = vertical(low, high, bottom, top + 16, log);
    const marks = (log ? logTicks(low, high) : ticks(low, high, height / 34)).flatMap((value) => [
      shape("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
      shape("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, digits(value)),
    ]);
    const xs = set.steps.map(x);
    const ys = (list) => list.map((v) => (v === null || (log && v <= 0) ? null : y(v)));
    const lines = spec.lines.flatMap((line, i) => {
      const dash = DASHES[line.colour] || null;
      const heights = ys(smooth ? smoothed(shown[i], set) : shown[i]);
      const dots = spec.dots ? everyDot(xs, heights, line.colour) : lone(xs, heights, line.colour);
      const drawn = [shape("path", { class: `line ${line.colour}`, d: path(xs, heights, spec.staircase), "stroke-dasharray": dash }), ...dots];
      if (smooth) return [shape("path", { class: `line raw ${line.colour}`, d: path(xs, ys(shown[i])) }), ...drawn];
      return set.low[line.key] && spec.lines.length <= BANDS ? [range(xs, ys(set.low[line.key]), ys(set.high[line.key]), line.colour), ...drawn] : drawn;
    });
    const ends = spec.lines.map((line, i) => ({ line, at: y(lastOf(smooth ? smoothed(shown[i], set) : shown[i], log) ?? low) }));
    const rule = shape("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
    const dots = spec.lines.map((line) => shape("circle", { class: `dot ${line.colour}`, r: 3.5, visibility: "hidden" }));
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, "aria-label": `${spec.title}: values by step` });
    svg.append(...background(x, top, bottom, `future-${figure.dataset.chart}`, true), ...marks, ...stepAxis(x, left, right, bottom), ...lines.reverse(), ...(labelled ? endLabels(ends, right + 6, top + 8, bottom) : []), rule, ...dots);
    plot.replaceChildren(svg);
    draw = () => {
      const index = nearest(set.steps, cursor.step), active = cursor.step !== null;
      at.textContent = `step ${grouped.format(set.steps[index])}` + (phaseAt(set, index) ? ` · ${phaseAt(set, index)}` : "");
      fill(rule, { x1: xs[index], x2: xs[index], visibility: active ? "visible" : "hidden" }, []);
      spec.lines.forEach((line, i) => {
        const value = shown[i][index];
        values[i].textContent = digits(value);
        const visible = active && value !== null && !(log && value <= 0);
        fill(dots[i], { cx: xs[index], cy: visible ? y(value) : 0, visibility: visible ? "visible" : "hidden" }, []);
      });
    };
    cursor.followers.add(draw);
    const drop = steer(svg, set, (pixels) => ((pixels - left) / (right - left)) * RUN.end, say), drawn = draw;
    forget = () => { drop(); cursor.followers.delete(drawn); };
    draw();
  }
  onWidth(plot, render);
  return () => plot.clientWidth && render(Math.floor(plot.clientWidth));
}

/** A line's name as it fits beside the plot. */
function named(line) {
  return line.label.length > LONGEST ? line.label.slice(0, LONGEST - 1) + "…" : line.label;
}

/** The last value that is drawn. */
function lastOf(values, log) {
  return values.findLast((value) => value !== null && !(log && value <= 0));
}

/** The names of the lines at their ends, moved apart where they would overlap. ends: [{line, at: pixels}]. */
function endLabels(ends, x, top, bottom) {
  const sorted = [...ends].sort((a, b) => a.at - b.at), apart = 12;
  let before = top - apart;
  sorted.forEach((end) => { before = end.at = Math.max(end.at, before + apart); });
  let after = bottom + apart;
  sorted.reverse().forEach((end) => { after = end.at = Math.min(end.at, after - apart); });
  return sorted.map(({ line, at }) => shape("text", { class: `end ${line.colour}`, x, y: at + 4 }, named(line), shape("title", {}, line.label)));
}

function range(xs, lows, highs, colour) {
  const kept = xs.map((x, i) => [x, lows[i], highs[i]]).filter(([, low, high]) => low !== null && high !== null);
  const there = kept.map(([x, , high]) => `${x.toFixed(1)},${high.toFixed(1)}`);
  const back = kept.reverse().map(([x, low]) => `${x.toFixed(1)},${low.toFixed(1)}`);
  return shape("path", { class: `range ${colour}`, d: kept.length ? `M${there.join("L")}L${back.join("L")}Z` : "" });
}

/** Rows of a chart's CSV file; where a curve has a band, its edges too: lowest and highest of merged points, or an interval. */
function chartRows(set, lines) {
  const [below, above] = set.bounds || ["lowest", "highest"];
  const columns = lines.flatMap(({ key }) => [[key, set.series[key]], ...(set.low[key] ? [[`${key} ${below}`, set.low[key]], [`${key} ${above}`, set.high[key]]] : [])]);
  return [["step", "phase", ...columns.map(([name]) => name)], ...set.steps.map((step, i) => [step, set.phase[i], ...columns.map(([, values]) => values[i])])];
}
