// The rollouts: which step, which filters, which cards.

const PER_PAGE = 12;
const view = { run: 0, place: 0, all: false, filters: new Set(), order: "sampled", search: "", page: 0, follow: true };

const FILTERS = {
  equal: equalRewards,
  failed: (group) => group.answers.some((answer) => answer.failure),
  truncated: (group) => group.answers.some((answer) => answer.truncated),
};
const totals = (group) => group.answers.map((answer) => answer.total || 0);
const spreadOf = (group) => Math.max(...totals(group)) - Math.min(...totals(group));
const ORDERS = {
  sampled: null,
  best: (a, b) => mean(totals(b)) - mean(totals(a)),
  worst: (a, b) => mean(totals(a)) - mean(totals(b)),
  spread: (a, b) => spreadOf(b) - spreadOf(a),
};

const stepsOf = (run) => Object.keys(run.rollouts).map(Number).sort((a, b) => a - b);

/** The groups that are shown now, in their order. */
function chosenGroups(run) {
  const steps = stepsOf(run);
  const wanted = view.all ? steps : [steps[view.place]];
  const words = view.search.toLowerCase();
  const groups = wanted
    .flatMap((step) => run.rollouts[step].map((group) => ({ ...group, step })))
    .filter((group) => [...view.filters].every((name) => FILTERS[name](group)))
    .filter((group) => !words || textOf(group).includes(words));
  return ORDERS[view.order] ? groups.sort(ORDERS[view.order]) : groups;
}

function textOf(group) {
  return [group.id, group.prompt, group.truth.text, ...group.answers.flatMap((answer) => [answer.text, answer.failure])].join("\n").toLowerCase();
}

/** Draw the controls and the cards of the present choice. */
function drawRollouts(data) {
  const withRollouts = data.runs.map((run, i) => [run, i]).filter(([run]) => stepsOf(run).length);
  byId("rollouts").hidden = !withRollouts.length;
  if (!withRollouts.length) return markStep(null);
  if (!withRollouts.some(([, i]) => i === view.run)) view.run = withRollouts[0][1];
  const run = data.runs[view.run];
  const steps = stepsOf(run);
  view.place = Math.max(0, Math.min(view.place, steps.length - 1));
  byId("run-choice").hidden = withRollouts.length < 2;
  byId("run").replaceChildren(...withRollouts.map(([one, i]) => make("option", { value: i, selected: i === view.run }, one.name)));
  const slider = byId("step");
  slider.max = steps.length - 1;
  slider.value = view.place;
  slider.setAttribute("aria-valuetext", `step ${steps[view.place]}`);
  slider.disabled = view.all;
  byId("step-label").textContent = view.all ? "all" : `${steps[view.place]} of ${steps[steps.length - 1]}`;
  byId("previous").disabled = view.all || view.place === 0;
  byId("next").disabled = view.all || view.place === steps.length - 1;
  const groups = chosenGroups(run);
  const pages = Math.max(1, Math.ceil(groups.length / PER_PAGE));
  view.page = Math.max(0, Math.min(view.page, pages - 1));
  const whole = view.all ? steps.reduce((sum, step) => sum + run.rollouts[step].length, 0) : run.rollouts[steps[view.place]].length;
  byId("count").textContent = groups.length === whole ? counted(whole, "group") : `${groups.length} of ${counted(whole, "group")}`;
  const top = Math.max(...groups.flatMap(totals), 1e-9);
  const shownGroups = groups.slice(view.page * PER_PAGE, (view.page + 1) * PER_PAGE);
  byId("cards").replaceChildren(
    ...(shownGroups.length ? shownGroups.map((group) => cardOf(data.images, group, top)) : [make("p.empty", {}, "No group fits these filters.")]),
  );
  byId("pager").hidden = pages < 2;
  byId("page-label").textContent = `page ${view.page + 1} of ${pages}`;
  byId("page-back").disabled = view.page === 0;
  byId("page-on").disabled = view.page === pages - 1;
  markStep(view.all ? null : steps[view.place]);
}

/** Listen to the controls; `draw` is called after every change. */
function startRollouts(current, draw) {
  const change = (values) => {
    Object.assign(view, { page: 0 }, values);
    draw();
  };
  const last = () => stepsOf(current().runs[view.run]).length - 1;
  const go = (place) => {
    const inside = Math.max(0, Math.min(place, last()));
    change({ place: inside, follow: inside === last() });
  };
  byId("step").addEventListener("input", (event) => go(Number(event.target.value)));
  byId("previous").addEventListener("click", () => go(view.place - 1));
  byId("next").addEventListener("click", () => go(view.place + 1));
  byId("run").addEventListener("change", (event) => {
    const before = stepsOf(current().runs[view.run])[view.place];
    view.run = Number(event.target.value);
    goTo(before);
  });
  byId("order").addEventListener("change", (event) => change({ order: event.target.value }));
  byId("search").addEventListener("input", (event) => change({ search: event.target.value }));
  byId("scope").addEventListener("click", (event) => {
    event.target.setAttribute("aria-pressed", String(!view.all));
    change({ all: !view.all });
  });
  for (const button of document.querySelectorAll("[data-filter]")) {
    button.addEventListener("click", () => {
      const on = !view.filters.has(button.dataset.filter);
      view.filters[on ? "add" : "delete"](button.dataset.filter);
      button.setAttribute("aria-pressed", String(on));
      change({});
    });
  }
  const turn = (by) => {
    change({ page: view.page + by });
    byId("rollouts").scrollIntoView();
  };
  byId("page-back").addEventListener("click", () => turn(-1));
  byId("page-on").addEventListener("click", () => turn(1));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.altKey || event.ctrlKey || event.metaKey || typing || view.all) return;
    if (event.key === "ArrowLeft") go(view.place - 1);
    else if (event.key === "ArrowRight") go(view.place + 1);
    else if (event.key === "/") {
      event.preventDefault();
      byId("search").focus();
    }
  });
  /** Show the step that is nearest to `step`. */
  const goTo = (step) => {
    const steps = stepsOf(current().runs[view.run]);
    let best = 0;
    steps.forEach((one, i) => {
      if (Math.abs(one - step) < Math.abs(steps[best] - step)) best = i;
    });
    if (steps.length) go(best);
  };
  return goTo;
}
