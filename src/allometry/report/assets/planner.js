// The planner: a budget and a group are chosen, everything else follows from the nodes.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("nodes").textContent);
const { flops, groups, columns } = data;
const slider = byId("budget"), typed = byId("typed");
const selects = columns.map((_, i) => byId(`choice-${i}`));
const span = Math.log(flops[flops.length - 1] / flops[0]);
const STEPS = Number(slider.max);

let budget = data.start;
let chosen = groups[data.first];
let cursors = [];

const at = (name) => interpolate(flops, chosen.values[name], budget);
const same = (a, b) => a.every((value, i) => value === b[i]);
const say = (id, words) => { byId(id).textContent = words; };

function group() {
  const wanted = selects.map((select) => select.value);
  return groups.find((g) => same(g.labels, wanted));
}

// A choice that was not run with the others: keep it, and move the others to what there is.
function choose(changed) {
  const value = selects[changed].value;
  const near = groups.filter((g) => g.labels[changed] === value);
  const shared = (g) => g.labels.filter((v, i) => v === selects[i].value).length;
  chosen = group() || near.reduce((a, b) => (shared(b) > shared(a) ? b : a));
  selects.forEach((select, i) => { select.value = chosen.labels[i]; });
  drawCharts();
  show();
}

function interval(name, words) {
  say(`${name}-value`, words.one(at(`${name}_median`)));
  say(`${name}-half`, words.two(at(`${name}_q25`), at(`${name}_q75`)));
  say(`${name}-most`, words.two(at(`${name}_q5`), at(`${name}_q95`)));
}

const COUNTS = { one: countWords, two: rangeWords };
const LOSSES = { one: (v) => v.toFixed(3), two: (a, b) => `${a.toFixed(3)} to ${b.toFixed(3)}` };

function showBand() {
  const [low, high] = [at("band_low_median"), at("band_high_median")];
  say("band-value", low === null || high === null ? "not known" : rangeWords(low, high));
  const [safeLow, safeHigh] = [at("safe_low"), at("safe_high")];
  say(
    "band-safe",
    safeLow === null || safeHigh === null
      ? `The best size is not known well enough: no size is expected to lose less than ${data.within} of the loss.`
      : `Taking what is not known into account: ${rangeWords(safeLow, safeHigh)}.`,
  );
}

function showReach() {
  const factor = budget / chosen.largest;
  say("reach-value", factor <= 1 + 1e-9 ? "within the runs" : `${timesWords(factor)} times`);
  say("reach-words", reachWords(data.reaches, factor, chosen.unseen));
  byId("reach").className = `card wide ${factor <= 1 + 1e-9 ? "near" : factor <= 100 ? "far" : "farthest"}`;
}

function showWinners() {
  const rivals = groups.filter((g) => same(g.labels.slice(1), chosen.labels.slice(1)) && g.best);
  byId("winners").hidden = rivals.length < 2;
  if (rivals.length < 2) return;
  const rows = rivals.map((g) => {
    const chance = interpolate(flops, g.best, budget, true);
    const row = document.createElement("li");
    const name = document.createElement("span");
    name.textContent = g.labels[0];
    const bar = document.createElement("span");
    bar.className = "bar";
    const fill = document.createElement("span");
    fill.style.width = `${100 * chance}%`;
    bar.append(fill);
    const number = document.createElement("span");
    number.textContent = percentWords(chance);
    row.append(name, bar, number);
    return row;
  });
  byId("winner-list").replaceChildren(...rows);
}

function show() {
  interval("params", COUNTS);
  interval("tokens", COUNTS);
  interval("tokens_per_param", COUNTS);
  interval("loss", LOSSES);
  interval("run_loss", LOSSES);
  showBand();
  showReach();
  showWinners();
  say("budget-words", `${powerWords(budget)} FLOPs`);
  say("unseen", chosen.unseen ? "This combination was never run: it is predicted from the others." : "");
  slider.value = Math.round((STEPS * Math.log(budget / flops[0])) / span);
  slider.setAttribute("aria-valuetext", `${powerWords(budget)} FLOPs`);
  if (document.activeElement !== typed) typed.value = withoutPlus(budget.toPrecision(3));
  cursors.forEach((move) => move(budget));
}

function drawCharts() {
  const size = { largest: chosen.largest, words: countWords, alt: "Best size against the training budget" };
  const loss = { largest: chosen.largest, words: (v) => String(v), alt: "Loss of a new run against the training budget" };
  cursors = [
    chart(byId("chart-params"), flops, chosen.values, "params", size),
    chart(byId("chart-loss"), flops, chosen.values, "run_loss", loss),
  ];
}

function setBudget(value) {
  budget = Math.min(Math.max(value, flops[0]), flops[flops.length - 1]);
  show();
}

slider.addEventListener("input", () => setBudget(flops[0] * Math.exp((span * slider.value) / STEPS)));
typed.addEventListener("input", () => {
  const value = typedBudget(typed.value);
  const fits = value >= flops[0] * 0.999 && value <= flops[flops.length - 1] * 1.001;
  typed.setAttribute("aria-invalid", String(!fits));
  byId("typed-note").hidden = fits;
  if (fits) setBudget(value);
});
typed.addEventListener("blur", () => {
  typed.setAttribute("aria-invalid", "false");
  byId("typed-note").hidden = true;
  show();
});
for (const button of document.querySelectorAll("button[data-flops]")) {
  button.addEventListener("click", () => setBudget(Number(button.dataset.flops)));
}
selects.forEach((select, i) => {
  select.value = chosen.labels[i];
  select.addEventListener("change", () => choose(i));
});
byId("controls").addEventListener("submit", (event) => event.preventDefault());
for (const part of document.querySelectorAll(".needs-script")) part.hidden = false;
for (const part of document.querySelectorAll("details.nodes")) part.open = false;
drawCharts();
show();
