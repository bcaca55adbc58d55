// Colours as the page is drawn: every text and every mark against what lies under it. Evaluates to a list of findings.
(() => {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], ground) => [r, g, b].map((v, i) => v * a + ground[i] * (1 - a));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.99) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const opacity = (node) => (node ? Number(getComputedStyle(node).opacity) * opacity(node.parentElement) : 1);
  const variable = (name) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(${name})`;
    const found = rgba(getComputedStyle(probe).color).slice(0, 3);
    probe.remove();
    return found;
  };
  const found = [];
  const check = (node, kind, colour, grounds, least) => {
    const [r, g, b, a] = rgba(colour);
    for (const under of grounds) {
      const ratio = contrast(over([r, g, b, a * opacity(node)], under), under);
      found.push({ kind, what: (node.getAttribute("class") || node.tagName) + " " + node.textContent.trim().slice(0, 40), ratio, least });
    }
  };
  const panel = variable("--panel");
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const at = node.parentElement;
    if (!node.data.trim() || at.closest("script, style, noscript, option") || !at.getClientRects().length) continue;
    const drawn = at instanceof SVGElement;
    check(at, "text", getComputedStyle(at)[drawn ? "fill" : "color"], drawn ? [ground(at), panel] : [ground(at)], 4.5);
  }
  const marks = [
    [".plot path.line:not(.raw)", "stroke"], [".plot circle.dot", "fill"], [".plot .draws", "stroke"], [".plot .cursor", "stroke"],
    [".bar .range", "stroke"], [".bar circle", "fill"], [".heat .gap", "stroke"], [".heat .here", "stroke"], [".readout svg line", "stroke"],
    [".timeline li", "borderTopColor"], ["button:not(.csv)", "borderTopColor"], ["button.csv", "textDecorationColor"], ["input", "accentColor"],
  ];
  for (const [selector, property] of marks) {
    const nodes = [...document.querySelectorAll(selector)];
    if (!nodes.length) found.push({ kind: "mark", what: `no ${selector}`, ratio: 0, least: 3 });
    for (const node of nodes) check(node, "mark", getComputedStyle(node)[property], node.closest(".plot") ? [ground(node.parentElement), panel] : [ground(node.parentElement)], 3);
  }
  return found;
})()
