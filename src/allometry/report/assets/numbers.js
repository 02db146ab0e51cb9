// Words for numbers, as words.py says them, and what lies between the nodes.

const SCALES = [[1e15, "quadrillion"], [1e12, "trillion"], [1e9, "billion"], [1e6, "million"], [1e3, "thousand"]];

const withoutPlus = (text) => text.replace("e+", "e"); // 1e22, as power_text writes it

const twoDigits = (value) => Number(value.toPrecision(2));

function powerWords(value) {
  const [mantissa, exponent] = value.toExponential(1).split("e");
  const raised = [...exponent.replace("+", "")].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
  return `${mantissa === "1.0" ? "" : `${mantissa} × `}10${raised.join("")}`;
}

function scaled(value) {
  if (!Number.isFinite(value)) return ["unbounded", ""];
  const rounded = twoDigits(value);
  if (rounded >= 1e18) return [powerWords(value), ""];
  for (const [scale, unit] of SCALES) {
    if (rounded >= scale) return [String(twoDigits(rounded / scale)), unit];
  }
  return [String(rounded), ""];
}

const countWords = (value) => scaled(value).join(" ").trim();

function rangeWords(low, high) {
  const [first, unit] = scaled(low);
  const [last, other] = scaled(high);
  if (unit === other) return `${first} to ${last} ${unit}`.trim();
  return `${countWords(low)} to ${countWords(high)}`;
}

function percentWords(probability) {
  if (probability > 0.995) return "over 99 %";
  if (probability < 0.005) return "under 1 %";
  return `${(100 * probability).toFixed(0)} %`;
}

function timesWords(factor) {
  if (factor >= 1e9) return withoutPlus(factor.toExponential(1));
  const rounded = twoDigits(factor);
  return factor < 100 ? String(rounded) : rounded.toLocaleString("en-US");
}

// Node below a budget and the way to the next one, on the log scale; exact at the nodes.
function place(flops, budget) {
  const last = flops.length - 1;
  if (budget <= flops[0]) return [0, 0];
  if (budget >= flops[last]) return [last, 0];
  let k = 0;
  while (flops[k + 1] <= budget) k += 1;
  return [k, Math.log(budget / flops[k]) / Math.log(flops[k + 1] / flops[k])];
}

// Value at a budget: linear in its logarithm; the value's logarithm too, unless it is a probability.
function interpolate(flops, values, budget, straight = false) {
  const [k, share] = place(flops, budget);
  if (share === 0) return values[k];
  const [a, b] = [values[k], values[k + 1]];
  if (a === null || b === null) return null;
  return straight ? a + share * (b - a) : Math.exp(Math.log(a) + share * Math.log(b / a));
}

function reachWords(reaches, factor, unseen = false) {
  const whose = (noun) => (unseen ? `the ${noun} of a group like it` : `the group's ${noun}`);
  if (factor <= 1 + 1e-9) return `Within the compute of ${whose("runs")}.`;
  const found = reaches.find((r) => factor > r.low && (r.high === null || factor <= r.high));
  return `${timesWords(factor)} times the compute of ${whose("largest run")}: ${found.words}`;
}

// A budget as people type it: 1e22, 1.5E+22, 10^22, 3 x 10^22. NaN if it is none.
function typedBudget(text) {
  const tidy = text.trim().toLowerCase().replace(/[,_\s]/g, "").replace(/[×x*]10\^?/, "e").replace(/^10\^/, "1e");
  return /^\d*\.?\d+(e\+?\d+)?$/.test(tidy) ? Number(tidy) : NaN;
}
