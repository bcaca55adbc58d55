// The routing heat map: layers by experts for each modality, and a slider over the logged steps.

const LEVELS = 24;

/** The scale of colours, with the even spread marked. */
function legend(ceiling) {
  const labels = [[0, "0"], [1, "1 = even"], [ceiling, `${digits(ceiling)} and more`]];
  return element("p", { class: "legend" }, ...labels.map(([load, label]) => {
    const mark = element("span", {}, label);
    mark.style.left = `${(100 * load) / ceiling}%`;
    return mark;
  }));
}

function heatMap(figure) {
  const data = RUN.routing;
  const columns = data.columns.flatMap(({ group, count }) => Array.from({ length: count }, (_, i) => ({ group, index: i, count })));
  for (const { counts } of data.frames) for (const name of data.modalities) { // only the columns that are served were sent
    counts[name] = counts[name].map((sent) => { let next = 0; return data.served[name].map((served) => (served ? sent[next++] : 0)); });
  }
  const slider = element("input", { type: "range", min: 0, max: data.frames.length - 1, value: data.frames.length - 1, step: 1, id: "frame" });
  const when = element("output", { for: "frame" });
  const readout = element("p", { class: "readout", "aria-live": "polite" });
  const maps = data.modalities.map((name) => heat(name));
  figure.append(
    element("div", { class: "slider" }, element("label", { for: "frame" }, "Logged step"), slider, when),
    element("div", { class: "heats" }, ...maps.map((map) => map.node)),
    legend(data.ceiling),
    readout,
    csvButton("routing", rows),
  );
  const hint = "Point at a cell, or focus a map and use the arrow keys, to read its counts.";
  readout.textContent = hint;

  function show() {
    const frame = data.frames[slider.value];
    when.textContent = `steps ${grouped.format(frame.from + 1)}–${grouped.format(frame.to)}` + (frame.phase ? ` · ${frame.phase}` : "");
    slider.setAttribute("aria-valuetext", when.textContent);
    maps.forEach((map) => map.show(frame));
  }
  slider.addEventListener("input", show);

  /** Tokens of the column's group in this layer and modality. */
  function whole(layer, column) {
    const start = column - columns[column].index;
    return layer.slice(start, start + columns[column].count).reduce((a, b) => a + b, 0);
  }

  function heat(modality) {
    const total = element("span");
    const node = element("div", {}, element("h3", {}, modality + " ", total));
    const holder = element("div");
    node.append(holder);
    let draw = () => {}, current = null, here = null;
    onWidth(holder, (width) => {
      const left = 24, head = 18, gap = 7;
      const cellHeight = data.layers <= 12 ? 20 : data.layers <= 32 ? 12 : 7;
      const gaps = data.columns.length - 1;
      const cell = (width - left - gaps * gap) / columns.length;
      const inset = Math.min(1, cell / 8);
      const height = head + data.layers * cellHeight + 4;
      const groupOf = [];
      data.columns.forEach(({ count }, g) => { for (let i = 0; i < count; i++) groupOf.push(g); });
      const x = (column) => left + column * cell + groupOf[column] * gap;
      const y = (layer) => head + layer * cellHeight;
      const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application", "aria-roledescription": "heat map", "aria-label": `Routing of ${modality} tokens, ${data.layers} layers by ${columns.length} experts. ${hint}` });
      const id = `unserved-${modality.replace(/\W/g, "")}`;
      svg.append(shape("defs", {}, hatch(id)));
      let start = 0;
      data.columns.forEach(({ group, count }, g) => {
        const right = x(start + count - 1) + cell;
        const room = Math.floor((right - x(start)) / 6);
        const shown = String(group).length > room ? String(group).slice(0, Math.max(0, room - 1)) + "…" : group;
        if (room > 2) svg.append(shape("text", { x: x(start), y: 12 }, shown, shape("title", {}, group)));
        if (!data.served[modality][start]) svg.append(shape("rect", { fill: `url(#${id})`, x: x(start), y: head, width: right - x(start), height: data.layers * cellHeight }));
        if (g) svg.append(shape("line", { class: "gap", x1: x(start) - gap / 2, x2: x(start) - gap / 2, y1: 2, y2: height }));
        start += count;
      });
      const every = Math.ceil(14 / cellHeight);
      for (let layer = 0; layer < data.layers; layer += every) svg.append(shape("text", { x: left - 6, y: y(layer) + cellHeight / 2 + 4, "text-anchor": "end" }, data.numbers[layer]));
      const levels = Array.from({ length: LEVELS }, (_, i) => {
        const at = (2 * i) / (LEVELS - 1);
        const [from, to, share] = at <= 1 ? ["low", "mid", at] : ["mid", "high", at - 1];
        const part = shape("path", {});
        part.style.fill = `color-mix(in oklab, var(--heat-${to}) ${(100 * share).toFixed(0)}%, var(--heat-${from}))`;
        return part;
      });
      const mark = shape("rect", { class: "here", width: cell, height: cellHeight, visibility: "hidden" });
      svg.append(...levels, mark);
      holder.replaceChildren(svg);

      draw = () => {
        const layers = current.counts[modality];
        const paths = Array(LEVELS).fill("");
        layers.forEach((layer, l) => layer.forEach((count, c) => {
          if (!data.served[modality][c]) return;
          const all = whole(layer, c);
          const load = all ? (count * columns[c].count) / all : 0;
          const level = Math.min(LEVELS - 1, Math.round((load / data.ceiling) * (LEVELS - 1)));
          paths[level] += `M${(x(c) + inset).toFixed(2)},${(y(l) + inset).toFixed(2)}h${(cell - 2 * inset).toFixed(2)}v${cellHeight - 2 * inset}h${(2 * inset - cell).toFixed(2)}z`;
        }));
        levels.forEach((part, i) => part.setAttribute("d", paths[i]));
        const sum = layers.length ? layers[0].reduce((a, b) => a + b, 0) : 0;
        total.textContent = sum ? `· ${grouped.format(sum)} assignments per layer` : "· no tokens in these steps";
        if (here) tell();
      };
      const tell = () => {
        const [l, c] = here, column = columns[c], layer = current.counts[modality][l];
        const all = whole(layer, c), backbone = (data.experts[column.group] || [])[l]?.[column.index];
        fill(mark, { x: x(c), y: y(l), visibility: "visible" }, []);
        const load = all ? ` · ${((100 * layer[c]) / all).toFixed(1)} % of the group · ${digits((layer[c] * column.count) / all)} × even` : "";
        readout.textContent = `${modality} · layer ${data.numbers[l]} · ${column.group} expert ${column.index}` + (backbone === undefined ? "" : ` (backbone expert ${backbone})`) + ` · ${grouped.format(layer[c])} assignments${load}`;
      };
      const leave = () => { here = null; mark.setAttribute("visibility", "hidden"); readout.textContent = hint; };
      const find = (event) => {
        const box = svg.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
        const column = columns.findIndex((_, c) => px >= x(c) && px <= x(c) + cell), layer = Math.floor((py - head) / cellHeight);
        if (column < 0 || layer < 0 || layer >= data.layers) return;
        here = [layer, column];
        tell();
      };
      svg.addEventListener("pointermove", find);
      svg.addEventListener("pointerdown", find);
      svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) leave(); });
      svg.addEventListener("blur", leave);
      svg.addEventListener("keydown", (event) => {
        const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
        if (!move) return;
        event.preventDefault();
        const [l, c] = here ? [here[0] + move[0], here[1] + move[1]] : [0, 0];
        here = [Math.min(data.layers - 1, Math.max(0, l)), Math.min(columns.length - 1, Math.max(0, c))];
        tell();
      });
      if (current) draw();
    });
    return { node, show: (frame) => { current = frame; draw(); } };
  }

  function rows() {
    const out = [["from_step", "to_step", "phase", "modality", "layer", "group", "expert", "count"]];
    for (const frame of data.frames) for (const name of data.modalities) frame.counts[name].forEach((layer, l) => layer.forEach((count, c) => {
      if (data.served[name][c]) out.push([frame.from + 1, frame.to, frame.phase, name, data.numbers[l], columns[c].group, columns[c].index, count]);
    }));
    return out;
  }

  show();
}
