// The page: overview, theme, and the live view's updates.

let data = JSON.parse(byId("data").textContent);

function drawOverview() {
  const { runs } = data;
  byId("overview-title").replaceChildren(...(runs.length === 1 ? [runs[0].name, make("small", {}, `${runs[0].task}, ${kindOf(runs[0])}`)] : [`${runs.length} runs compared`]));
  byId("run-chips").replaceChildren(...runs.map((run, i) => chipOf(run.name, i)));
  const notices = runs.flatMap((run) => [stateOf(run), ...run.warnings, run.left_out, ...run.problems]).filter(Boolean);
  byId("notices").replaceChildren(...notices.map((text) => make("div.notice", {}, text)));
  byId("tiles").replaceChildren(...(runs.length === 1 ? tilesOf(runs[0]) : []));
  byId("comparison").replaceChildren(...(runs.length > 1 ? [comparisonOf(runs)] : []));
  byId("facts").replaceChildren(...runs.map((run) => factsOf(run)));
}

const kindOf = (run) => (run.kind === "rft" ? "reinforcement" : "supervised");

function stateOf(run) {
  if (run.finished) return null;
  return `${run.name} has not finished: ${run.done} of ${run.steps} steps are here. It goes on, or it was interrupted and --resume continues it.`;
}

function chipOf(name, number) {
  const dot = make("i.dot");
  dot.style.color = runColour(number);
  return make("span.chip", { title: name }, dot, make("span", {}, name));
}

/** First and last of the numbers that matter: held-out ones at their evaluations, others as means of ten steps. */
function changesOf(run) {
  const known = (curve) => curve.values.filter((value) => value !== null);
  const held = run.curves.filter((curve) => curve.of === "evaluation").slice(0, 4)
    .map((curve) => ({ label: `held-out ${curve.label.replaceAll("_", " ")}`, first: known(curve)[0], last: known(curve).pop(), single: known(curve).length < 2 }));
  const trained = run.curves.filter((curve) => curve.of === "training" && ["reward", "loss"].includes(curve.name)).slice(0, 1)
    .map((curve) => ({ label: `${curve.label} (10 steps)`, first: mean(known(curve).slice(0, 10)), last: mean(known(curve).slice(-10)), single: known(curve).length < 20 }));
  return [...held, ...trained];
}

function tilesOf(run) {
  const tiles = changesOf(run).map(({ label, first, last, single }) => tile(label, shown(last), single ? "" : make("span", {}, `from ${shown(first)}, `, make(`span.${last >= first ? "up" : "down"}`, {}, `${last >= first ? "+" : "−"}${shown(Math.abs(last - first))}`))));
  const seconds = run.facts.find(([name]) => name === "seconds");
  tiles.push(tile("steps", run.steps && run.done !== run.steps ? `${run.done} of ${run.steps}` : String(run.done), seconds ? `${seconds[1]} seconds` : ""));
  const model = run.facts.find(([name]) => name === "model");
  if (model) tiles.push(tile("model", model[1].split("/").slice(-1)[0], model[1]));
  return tiles;
}

const tile = (name, value, note) => make("div.tile", {}, make("div.name", {}, name), make("div.value", { title: value }, value), make("div.note", {}, note || "\u00a0"));

function comparisonOf(runs) {
  const labels = [...new Set(runs.flatMap((run) => changesOf(run).map((change) => change.label)))];
  const row = (name, cells) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell)));
  const rows = labels.map((label) => row(label, runs.map((run) => {
    const change = changesOf(run).find((one) => one.label === label);
    if (!change) return "–";
    return change.single ? shown(change.last) : `${shown(change.first)} → ${shown(change.last)}`;
  })));
  rows.push(row("steps", runs.map((run) => String(run.done))));
  rows.push(...data.differences.map(({ field, values }) => row(field, values)));
  return make("div.panel", {}, make("table", {},
    make("thead", {}, make("tr", {}, make("th", {}, ""), ...runs.map((run, i) => make("th", { scope: "col" }, chipOf(run.name, i))))),
    make("tbody", {}, ...rows)));
}

function factsOf(run) {
  return make("details.fold", {},
    make("summary", {}, `What ${data.runs.length > 1 ? run.name : "it"} was made with`),
    make("div.panel", {}, make("table", {}, make("tbody", {}, ...run.facts.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)))))),
    make("div.panel", {}, make("pre", { tabindex: 0 }, run.config)));
}

/** The theme: the system's until the button was used. */
function startTheme() {
  const root = document.documentElement;
  const stored = () => {
    try { return localStorage.getItem("visual-rft-theme"); } catch { return null; } // a file may have no storage
  };
  if (stored()) root.dataset.theme = stored();
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("visual-rft-theme", root.dataset.theme); } catch { /* then it lasts as long as the page */ }
  });
}

/** Ask for changes; what the reader looks at stays, and a reader at the last step follows. */
async function update() {
  const live = byId("live");
  try {
    const answer = await fetch(`data.json?known=${data.version}`);
    const fresh = await answer.json();
    live.textContent = "live";
    live.classList.remove("stale");
    if (!fresh.runs) return;
    const before = stepsOf(data.runs[view.run])[view.place];
    const shownBefore = JSON.stringify(data.runs[view.run].rollouts[before]);
    data = fresh;
    const steps = stepsOf(data.runs[view.run]);
    view.place = view.follow ? steps.length - 1 : Math.max(0, steps.indexOf(before));
    drawOverview();
    drawCharts(data.runs, goTo);
    if (!byId("example-columns").contains(document.activeElement)) drawExamples(data);
    const same = !view.all && JSON.stringify(data.runs[view.run].rollouts[steps[view.place]]) === shownBefore;
    if (same) keepCards(steps);
    else drawRollouts(data);
  } catch {
    live.textContent = "the server has ended";
    live.classList.add("stale");
  }
}

/** The cards stay as they are, opened answers too; only the slider learns of new steps. */
function keepCards(steps) {
  byId("step").max = steps.length - 1;
  byId("step").value = view.place;
  byId("step-label").textContent = `${steps[view.place]} of ${steps[steps.length - 1]}`;
  byId("next").disabled = view.place === steps.length - 1;
  markStep(steps[view.place]);
}

startTheme();
const goTo = startRollouts(() => data, () => drawRollouts(data));
const startRun = data.runs.find((run) => stepsOf(run).length);
view.place = startRun ? stepsOf(startRun).length - 1 : 0;
drawOverview();
drawCharts(data.runs, goTo);
drawExamples(data);
drawRollouts(data);
if (data.live) {
  byId("live").hidden = false;
  byId("live").textContent = "live";
  const again = () => update().finally(() => setTimeout(again, 1000));
  setTimeout(again, 1000);
}
