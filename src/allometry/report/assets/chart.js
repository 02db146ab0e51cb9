// One quantity against the budget: median and bands, dashed beyond the group's own runs, a cursor.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 460, HEIGHT = 250;
const EDGE = { left: 82, right: 14, top: 12, bottom: 40 };

function draw(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

function label(parent, x, y, words, more = {}) {
  draw("text", { x, y, ...more }, parent).textContent = words;
}

// Ticks of a log axis: powers of ten, or 1-2-5 steps of a plain one where less than a decade shows.
function ticks(low, high) {
  const made = [];
  if (high / low >= 20) {
    const every = Math.ceil(Math.log10(high / low) / 6);
    for (let e = Math.ceil(Math.log10(low)); 10 ** e <= high; e += every) made.push(10 ** e);
    return made;
  }
  const raw = (high - low) / 4;
  const ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * ten).find((s) => s >= raw);
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) made.push(Number(v.toPrecision(6)));
  return made;
}

function chart(frame, flops, values, name, options) {
  const column = (suffix) => values[`${name}_${suffix}`];
  const [low, high] = [Math.min(...column("q5")), Math.max(...column("q95"))];
  const pad = (high / low) ** 0.05;
  const [bottom, top] = [low / pad, high * pad];
  const across = (v, a, b) => Math.log(v / a) / Math.log(b / a);
  const x = (v) => EDGE.left + across(v, flops[0], flops[flops.length - 1]) * (WIDTH - EDGE.left - EDGE.right);
  const y = (v) => HEIGHT - EDGE.bottom - across(v, bottom, top) * (HEIGHT - EDGE.top - EDGE.bottom);

  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": options.alt });
  const base = HEIGHT - EDGE.bottom;
  for (const v of ticks(bottom, top)) {
    draw("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(v), y2: y(v), class: "grid" }, svg);
    label(svg, EDGE.left - 8, y(v) + 4, options.words(v), { "text-anchor": "end" });
  }
  for (const v of ticks(flops[0], flops[flops.length - 1])) {
    draw("line", { x1: x(v), x2: x(v), y1: base, y2: base + 4, class: "axis" }, svg);
    label(svg, x(v), base + 17, powerWords(v), { "text-anchor": "middle" });
  }
  draw("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: base, y2: base, class: "axis" }, svg);
  label(svg, (EDGE.left + WIDTH - EDGE.right) / 2, HEIGHT - 6, "training budget (FLOPs)", { "text-anchor": "middle" });

  const points = (suffix) => flops.map((f, i) => `${x(f).toFixed(1)},${y(column(suffix)[i]).toFixed(1)}`);
  for (const [from, to] of [["q5", "q95"], ["q25", "q75"]]) {
    draw("polygon", { points: [...points(from), ...points(to).reverse()].join(" "), class: "band" }, svg);
  }
  const line = points("median");
  const inside = flops.filter((f) => f <= options.largest * (1 + 1e-9)).length;
  if (inside > 1) draw("polyline", { points: line.slice(0, inside).join(" "), class: "line" }, svg);
  draw("polyline", { points: line.slice(Math.max(inside - 1, 0)).join(" "), class: "line beyond" }, svg);
  const cursor = draw("line", { y1: EDGE.top, y2: base, class: "cursor" }, svg);
  const dot = draw("circle", { r: 5, class: "dot" }, svg);
  frame.replaceChildren(svg);
  return (budget) => {
    const at = x(budget);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    dot.setAttribute("cx", at);
    dot.setAttribute("cy", y(interpolate(flops, column("median"), budget)));
  };
}
