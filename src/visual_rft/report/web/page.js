// The page: overview, theme, and the live view's updates.

let data = JSON.parse(byId("data").textContent);

function drawOverview() {
  const { runs } = data;
  byId("overview-title").replaceChildren(...(runs.length === 1 ? [runs[0].name, make("small", {}, `${runs[0].task}, ${kindOf(runs[0])}`)] : [`${runs.length} runs compared`]));
  byId("run-chips").replaceChildren(...runs.map((run, i) => chipOf(run.name, i)));
  const notices = runs.flatMap((run) => [stateOf(run), ...run.warnings, run.left_out, ...run.problems]).filter(Boolean);
  const leaks = runs.flatMap((run) => run.leakage.map((text) => `${runs.length > 1 ? `${run.name}: ` : ""}${text}`));
  byId("notices").replaceChildren(
    ...leaks.map((text) => make("div.notice.leak", {}, make("b", {}, "Held-out is not held out. "), text)),
    ...notices.map((text) => make("div.notice", {}, text)));
  byId("tiles").replaceChildren(...(runs.length === 1 ? tilesOf(runs[0]) : []));
  byId("compared").hidden = runs.length < 2;
  byId("comparison").replaceChildren(...(runs.length > 1 ? [comparisonOf(runs)] : []));
  byId("changes").replaceChildren(...[runs.length === 1 ? changesTable(runs[0]) : null].filter(Boolean));
  byId("facts").replaceChildren(...runs.flatMap((run) => [historyOf(run), factsOf(run)]).filter(Boolean));
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
  const measured = run.curves.filter((curve) => curve.of === "evaluation");
  const mains = run.tasks.length > 1 ? run.tasks.map((task) => measured.find((curve) => curve.name.startsWith(`${task}/`))).filter(Boolean) : measured.slice(0, 4);
  const held = mains
    .map((curve) => ({ label: `held-out ${curve.label}`, first: known(curve)[0], last: known(curve).pop(), single: known(curve).length < 2 }));
  const trained = run.curves.filter((curve) => curve.of === "training" && ["reward", "loss"].includes(curve.name)).slice(0, 1)
    .map((curve) => ({ label: `${curve.label} (10 steps)`, first: mean(known(curve).slice(0, 10)), last: mean(known(curve).slice(-10)), single: known(curve).length < 20 }));
  return [...held, ...trained];
}

function tilesOf(run) {
  const tiles = changesOf(run).map(({ label, first, last, single }) => tile(label, shown(last), single ? "" : make("span", {}, `from ${shown(first)}, `, changeOf(label, first, last, 3))));
  const seconds = run.facts.find(([name]) => name === "time");
  tiles.push(tile("steps done", run.steps && run.done !== run.steps ? `${run.done} of ${run.steps}` : String(run.done), seconds ? seconds[1] : ""));
  const model = run.facts.find(([name]) => name === "model");
  if (model) tiles.push(tile("model", model[1].split("/").slice(-1)[0], model[1]));
  return tiles;
}

const tile = (name, value, note) => make("div.tile", {}, make("div.name", {}, name), make("div.value", { title: value }, value), make("div.note", {}, note || "\u00a0"));

/** A change with its sign, coloured by whether it is better; what got worse is named so too. */
function changeOf(name, first, last, decimals) {
  const better = lessIsBetter(name) ? first - last : last - first;
  const kind = better > 0 ? "span.up" : better < 0 ? "span.down" : "span";
  return make(kind, {}, `${signedFixed(last - first, decimals)}${better < 0 ? " worse" : ""}`);
}

/** Every held-out number before and after, the greatest gain first. */
function changesTable(run) {
  const rows = run.curves.filter((curve) => curve.of === "evaluation").map((curve) => {
    const known = curve.values.filter((value) => value !== null);
    return { label: curve.label, first: known[0], last: known[known.length - 1], several: known.length > 1 };
  }).filter((row) => row.several);
  if (!rows.length) return null;
  const gain = (row) => (lessIsBetter(row.label) ? row.first - row.last : row.last - row.first);
  rows.sort((a, b) => gain(b) - gain(a));
  const decimals = decimalsOf(rows.flatMap((row) => [row.first, row.last]));
  const evaluations = run.evaluations.map((one) => one.step);
  return make("div.panel", {}, make("table.numbers", {},
    make("thead", {}, make("tr", {}, ...["held-out number", whenOf(evaluations[0]), whenOf(evaluations[evaluations.length - 1]), "change"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map((row) => make("tr", { "data-number": row.label, "data-gain": gain(row) },
      make("th", { scope: "row" }, row.label), make("td", {}, fixed(row.first, decimals)), make("td", {}, fixed(row.last, decimals)),
      make("td", {}, changeOf(row.label, row.first, row.last, decimals)))))));
}

const whenOf = (step) => (step === 0 ? "before" : `after ${counted(step, "step")}`);

function comparisonOf(runs) {
  const labels = [...new Set(runs.flatMap((run) => changesOf(run).map((change) => change.label)))];
  const row = (name, cells) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell)));
  const rows = labels.map((label) => {
    const changes = runs.map((run) => changesOf(run).find((one) => one.label === label));
    const decimals = decimalsOf(changes.flatMap((change) => (change ? [change.first, change.last] : [])));
    return row(label, changes.map((change) => {
      if (!change) return "–";
      return change.single ? fixed(change.last, decimals) : `${fixed(change.first, decimals)} → ${fixed(change.last, decimals)}`;
    }));
  });
  rows.push(row("steps done", runs.map((run) => String(run.done))));
  rows.push(...data.differences.map(({ field, values }) => row(field, values)));
  return make("div.panel", {}, make("table", {},
    make("thead", {}, make("tr", {}, make("th", {}, ""), ...runs.map((run, i) => make("th", { scope: "col" }, chipOf(run.name, i))))),
    make("tbody", {}, ...rows)));
}

/** What became of the questions of training, the hardest first. */
function historyOf(run) {
  if (!run.history) return null;
  const { asked, flat, hardest } = run.history;
  const decimals = decimalsOf(hardest.flatMap((row) => [row.first, row.last]));
  const names = ["question, the hardest first", "asked", "all equal", "reward at first", "last"];
  return make("details.fold", {},
    make("summary", {}, `Questions ${data.runs.length > 1 ? `of ${run.name}` : "of training"}: ${asked} asked, ${flat} with equal answers when last asked`),
    make("div.panel", {}, make("table.numbers", {},
      make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...hardest.map((row) => make("tr", {}, make("th", { scope: "row" }, row.id), make("td", {}, String(row.times)),
        make("td", {}, String(row.flat)), make("td", {}, fixed(row.first, decimals)), make("td", {}, fixed(row.last, decimals))))))));
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
    if (!byId("evaluation").contains(document.activeElement)) drawGallery(data);
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

/** A comparison begins with its curves; the table and what the runs were made with come after. */
function orderSections() {
  if (data.runs.length < 2) return;
  byId("overview").after(byId("curves"), byId("compared"));
  byId("compared").append(byId("facts"));
}

/** On a phone every section is a heading that opens; the first two are open at first. Elsewhere nothing folds. */
function startFolding() {
  const sections = [...document.querySelectorAll("main > section")];
  const open = (section, on) => {
    section.classList.toggle("folded", !on);
    section.querySelector(".unfold")?.setAttribute("aria-expanded", String(on));
  };
  for (const section of sections) {
    const title = section.querySelector("h2");
    if (!title) continue;
    const button = make("button.unfold", { type: "button", "aria-label": `${title.textContent}: open or fold`, "aria-expanded": "true" });
    button.addEventListener("click", () => open(section, section.classList.contains("folded")));
    title.append(button);
  }
  const titled = sections.filter((section) => section.querySelector(".unfold"));
  const first = titled.find((section) => !section.hidden);
  titled.forEach((section) => open(section, section === first));
  const follow = () => {
    const section = document.getElementById(location.hash.slice(1))?.closest("section");
    if (section) open(section, true);
  };
  addEventListener("hashchange", follow);
  follow();
}

startTheme();
orderSections();
const goTo = startRollouts(() => data, () => drawRollouts(data));
const startRun = data.runs.find((run) => stepsOf(run).length);
view.place = startRun ? stepsOf(startRun).length - 1 : 0;
drawOverview();
drawCharts(data.runs, goTo);
drawExamples(data);
startGallery(() => data);
drawGallery(data);
drawRollouts(data);
startFolding();
if (data.live) {
  byId("live").hidden = false;
  byId("live").textContent = "live";
  const again = () => update().finally(() => setTimeout(again, 1000));
  setTimeout(again, 1000);
}
