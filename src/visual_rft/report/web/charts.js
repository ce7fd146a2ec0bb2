// Small line charts: one number each, one line per run.

const CHART = { width: 300, height: 118, left: 40, right: 8, top: 8, bottom: 18 };
const MAIN = ["reward", "kl", "length", "zero_std_share", "grad_norm", "entropy_estimate", "parse_failure_share", "truncated_share", "loss"];

/** Draw every chart; `onStep` is called with a step that was clicked. */
function drawCharts(runs, onStep) {
  const charts = new Map();
  runs.forEach((run, number) => {
    for (const curve of run.curves) {
      const key = `${curve.of} ${curve.name}`;
      if (!charts.has(key)) charts.set(key, { key, name: curve.name, label: curve.label, of: curve.of, lines: [] });
      charts.get(key).lines.push({ run: number, name: run.name, steps: curve.steps, values: curve.values });
    }
  });
  const all = [...charts.values()];
  const reinforced = all.some((chart) => chart.name === "reward");
  const first = (chart) =>
    chart.of === "evaluation" || chart.name.startsWith("reward/") || (MAIN.includes(chart.name) && !(reinforced && chart.name === "loss"));
  const order = (chart) => (chart.name === "reward" ? 0 : chart.name.startsWith("reward/") ? 1 : chart.of === "training" ? 2 : 3);
  const flat = all.filter((chart) => first(chart) && saysNothing(chart));
  const main = all.filter((chart) => first(chart) && !flat.includes(chart)).sort((a, b) => order(a) - order(b));
  const more = all.filter((chart) => !first(chart));
  byId("charts").replaceChildren(...main.map((chart) => chartOf(chart, onStep)));
  byId("charts-more").replaceChildren(...more.map((chart) => chartOf(chart, onStep)));
  byId("charts-flat").replaceChildren(...flat.map((chart) => chartOf(chart, onStep)));
  byId("flat-charts").hidden = !flat.length;
  byId("flat-names").textContent = `${counted(flat.length, "curve")} flat at 0 or 1: ${flat.map(titleOf).join(", ")}`;
  byId("more-charts").hidden = !more.length;
  byId("curves").hidden = !all.length;
}

/** Whether all values of all lines are 0, or all are 1. */
function saysNothing(chart) {
  const values = chart.lines.flatMap((line) => line.values).filter((value) => value !== null);
  return chart.lines.some((line) => line.values.length > 1) && [0, 1].some((level) => values.every((value) => value === level));
}

const titleOf = (chart) => (chart.of === "evaluation" ? `held-out: ${chart.label}` : chart.label);

function chartOf(chart, onStep) {
  const steps = chart.lines.flatMap((line) => line.steps);
  const values = chart.lines.flatMap((line) => line.values).filter((value) => value !== null);
  const [low, high] = limits(values);
  const [start, end] = [Math.min(0, ...[Math.min(...steps)]), Math.max(...steps, 1)];
  const x = (step) => CHART.left + ((step - start) / (end - start || 1)) * (CHART.width - CHART.left - CHART.right);
  const y = (value) => CHART.top + (1 - (value - low) / (high - low)) * (CHART.height - CHART.top - CHART.bottom);
  const last = chart.lines.map((line) => shown([...line.values].reverse().find((value) => value !== null)));
  const ends = chart.lines.map((line) => {
    const known = line.values.filter((value) => value !== null);
    return `${line.name} from ${shown(known[0])} to ${shown(known[known.length - 1])}`;
  });
  const label = titleOf(chart);
  const ticks = [low, (low + high) / 2, high];
  const picture = svg("svg", {
    viewBox: `0 0 ${CHART.width} ${CHART.height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${label}: ${ends.join("; ")}`, "data-start": start, "data-end": end,
  });
  const plot = make("div.plot", {}, picture);
  for (const value of ticks) {
    picture.append(svg("line.grid", { x1: CHART.left, x2: CHART.width - CHART.right, y1: y(value), y2: y(value) }));
    plot.append(tickOf(tickText(value, ticks), "left", 0, y(value) - 7));
  }
  plot.append(tickOf(String(Math.round(start)), "first", x(start), CHART.height - 15));
  plot.append(tickOf(String(Math.round(end)), "last", CHART.right, CHART.height - 15));
  for (const line of chart.lines) picture.append(...lineOf(line, chart.of, x, y));
  picture.append(svg("line.cursor", { y1: CHART.top, y2: CHART.height - CHART.bottom, x1: -9, x2: -9, visibility: "hidden" }));
  const hover = svg("line.hover", { y1: CHART.top, y2: CHART.height - CHART.bottom, visibility: "hidden" });
  picture.append(hover);
  const stepAt = (event) => {
    const place = picture.getBoundingClientRect();
    const inside = ((event.clientX - place.left) / place.width) * CHART.width;
    return start + ((inside - CHART.left) / (CHART.width - CHART.left - CHART.right)) * (end - start);
  };
  picture.addEventListener("pointermove", (event) => {
    const step = Math.min(end, Math.max(start, stepAt(event)));
    hover.setAttribute("x1", x(step));
    hover.setAttribute("x2", x(step));
    hover.setAttribute("visibility", "visible");
    showTip(event, chart, step);
  });
  picture.addEventListener("pointerleave", () => {
    hover.setAttribute("visibility", "hidden");
    byId("tip").hidden = true;
  });
  picture.addEventListener("click", (event) => onStep(stepAt(event)));
  return make(
    "figure.chart", { "data-chart": chart.name, "data-of": chart.of },
    make("h3", {}, make("span.of", { title: label }, label), make("span.now", {}, last.join(" · "))),
    plot,
  );
}

/** A number at an axis with the decimals that all of them need; very small and large ones keep their power of ten. */
function tickText(value, ticks) {
  const size = Math.max(...ticks.map(Math.abs));
  if (size >= 1e5 || size < 1e-3) return shown(value);
  const enough = [0, 1, 2, 3, 4].find((decimals) => ticks.every((tick) => Math.abs(tick - Number(tick.toFixed(decimals))) < 1e-9 * (size || 1)));
  return value.toFixed(enough === undefined ? decimalsOf(ticks) : Math.min(enough, decimalsOf(ticks)));
}

/** The number at an axis; HTML, because text in a stretched drawing would be stretched too. */
function tickOf(text, where, across, down) {
  const tick = make(`span.tick.${where}`, { "aria-hidden": "true" }, text);
  tick.style.top = `${down}px`;
  if (where === "first") tick.style.left = `${(across / CHART.width) * 100}%`;
  if (where === "last") tick.style.right = `${(across / CHART.width) * 100}%`;
  if (where === "left") tick.style.width = `${((CHART.left - 5) / CHART.width) * 100}%`;
  return tick;
}

function lineOf(line, of, x, y) {
  const colour = runColour(line.run);
  if (of === "evaluation") {
    const points = line.steps.map((step, i) => [step, line.values[i]]).filter(([, value]) => value !== null);
    return [
      svg("path.strong", { d: path(points, x, y), stroke: colour }),
      ...points.map(([step, value]) => svg("path.point", { d: `M${x(step).toFixed(1)} ${y(value).toFixed(1)}h0`, stroke: colour })),
    ];
  }
  const raw = line.steps.map((step, i) => [step, line.values[i]]);
  return [
    svg("path.faint", { d: path(raw, x, y), stroke: colour }),
    svg("path.strong", { d: path(smoothed(raw), x, y), stroke: colour }),
  ];
}

/** A path that has a gap where a value is missing. */
function path(points, x, y) {
  let text = "";
  let pen = false;
  for (const [step, value] of points) {
    if (value === null) pen = false;
    else {
      text += `${pen ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = true;
    }
  }
  return text;
}

/** The mean of a twentieth of the points around each. */
function smoothed(points) {
  const reach = Math.floor(points.length / 40);
  return points.map(([step], i) => [step, mean(points.slice(Math.max(0, i - reach), i + reach + 1).map(([, value]) => value).filter((value) => value !== null))]);
}

function limits(values) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low >= 0 && high <= 1 && high > 0.2) [low, high] = [0, 1];
  else if (low >= 0 && low < high / 2) low = 0;
  if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
  return [low, high];
}

function showTip(event, chart, step) {
  const rows = chart.lines.map((line) => {
    let best = 0;
    line.steps.forEach((at, i) => {
      if (Math.abs(at - step) < Math.abs(line.steps[best] - step)) best = i;
    });
    return make("div", {}, make("span", {}, `${chart.lines.length > 1 ? `${line.name}, ` : ""}step ${Math.round(line.steps[best])}`),
      make("b", {}, shown(line.values[best])));
  });
  const tip = byId("tip");
  tip.replaceChildren(...rows);
  tip.hidden = false;
  const place = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 12, window.innerWidth - place.width - 8)}px`;
  tip.style.top = `${event.clientY - place.height - 10 < 0 ? event.clientY + 16 : event.clientY - place.height - 10}px`;
}

/** Mark the step that the rollouts show. */
function markStep(step) {
  for (const picture of document.querySelectorAll(".chart svg")) {
    const [start, end] = [Number(picture.dataset.start), Number(picture.dataset.end)];
    const line = picture.querySelector(".cursor");
    const at = CHART.left + ((step - start) / (end - start || 1)) * (CHART.width - CHART.left - CHART.right);
    line.setAttribute("x1", at);
    line.setAttribute("x2", at);
    line.setAttribute("visibility", step === null || step > end ? "hidden" : "visible");
  }
}
