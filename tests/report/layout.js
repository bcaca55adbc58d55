// What a reader would see as clumsy: words of a chart over each other or cut off, and boxes that hide what they hold.
(() => {
  const found = [];
  const name = (node) => `${node.closest("[data-chart]")?.dataset.chart || node.closest("section")?.querySelector("h2")?.id || ""}: ${node.textContent.trim().slice(0, 30)}`;
  document.querySelectorAll(".plot svg, .heat svg").forEach((svg) => {
    const frame = svg.getBoundingClientRect();
    const words = [...svg.querySelectorAll("text")].filter((node) => node.textContent).map((node) => [node, node.getBoundingClientRect()]);
    words.forEach(([node, box], i) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) found.push(["cut off", name(node)]);
      words.slice(i + 1).forEach(([other, its]) => {
        const wide = Math.min(box.right, its.right) - Math.max(box.left, its.left), high = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
        if (wide > 1 && high > 4) found.push(["over each other", `${name(node)} / ${other.textContent}`]); // lines of text have room above and below
      });
    });
  });
  document.querySelectorAll("main *").forEach((node) => {
    const style = getComputedStyle(node);
    if (node.closest("svg, .scroll, pre, .hidden, .legend") || style.display === "inline") return;
    if (node.scrollWidth > node.clientWidth + 1 && node.clientWidth) found.push(["wider than its box", `${node.tagName} ${node.className} ${name(node)}`]);
  });
  const flow = [...document.querySelectorAll("main > header > *, main > section > *, .answer > *, .panel > *, figcaption > *, .status > *")].filter((node) => node.checkVisibility());
  flow.forEach((node) => {
    const next = node.nextElementSibling;
    if (!next || !next.checkVisibility() || getComputedStyle(next).position === "absolute") return;
    const a = [...node.getClientRects()], b = [...next.getClientRects()];
    if (a.some((one) => b.some((other) => Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1 && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 3))) found.push(["boxes over each other", name(node)]);
  });
  document.querySelectorAll("button.csv").forEach((button) => {
    const box = button.getBoundingClientRect(), caption = button.parentElement.querySelector("figcaption");
    if (!caption || getComputedStyle(button).position !== "absolute") return;
    const range = document.createRange();
    range.selectNodeContents(caption);
    if ([...range.getClientRects()].some((one) => one.right > box.left + 1 && one.top < box.bottom - 1 && one.bottom > box.top + 1)) found.push(["under its button", name(caption)]);
  });
  return found;
})()
