// Fixed held-out questions before and after, side by side, one column per chosen evaluation.

const columns = { chosen: null };

/** Every evaluation that kept its examples. */
function kept(data) {
  return data.runs.flatMap((run, number) =>
    run.evaluations
      .filter((evaluation) => evaluation.examples.length)
      .map((evaluation) => ({ key: `${number}:${evaluation.step}`, run: number, name: run.name, ...evaluation })),
  );
}

/** Which columns are shown at first: the first run's first evaluation, then every run's last. */
function usual(data, all) {
  const first = all[0];
  const last = data.runs.map((_, number) => all.filter((one) => one.run === number).pop()).filter(Boolean);
  return [...new Set([first.key, ...last.map((one) => one.key)])];
}

function drawExamples(data) {
  const all = kept(data);
  byId("examples").hidden = !all.length;
  if (!all.length) return;
  const keys = (columns.chosen || usual(data, all)).map((key) => (all.some((one) => one.key === key) ? key : all[all.length - 1].key));
  const shownColumns = keys.map((key) => all.find((one) => one.key === key));
  const name = (one) => `${data.runs.length > 1 ? `${one.name}, ` : ""}${one.step === 0 ? "before" : `after ${one.step} steps`}`;
  byId("example-columns").replaceChildren(
    ...keys.map((key, place) => {
      const select = make("select", { "aria-label": `evaluation in column ${place + 1}` },
        ...all.map((one) => make("option", { value: one.key, selected: one.key === key }, name(one))));
      select.addEventListener("change", () => {
        columns.chosen = keys.map((one, i) => (i === place ? select.value : one));
        drawExamples(data);
      });
      return make("label", {}, place === 0 ? "Compare" : "with", select);
    }),
  );
  const ids = [...new Set(shownColumns.flatMap((one) => one.examples.map((example) => example.id)))];
  const wide = make("div.pairs", {}, ...ids.map((id) => pairOf(data, id, shownColumns, name)));
  if (keys.length > 2) wide.style.gridTemplateColumns = "minmax(0, 1fr)";
  byId("example-rows").replaceChildren(wide);
}

function pairOf(data, id, shownColumns, name) {
  const looks = shownColumns.map((column) => {
    const example = column.examples.find((one) => one.id === id);
    return example ? lookOf(data, example, name(column)) : make("div.look", {}, make("p.empty", {}, "not asked"));
  });
  const first = shownColumns.map((column) => column.examples.find((one) => one.id === id)).find(Boolean);
  const grid = make("div.looks", {}, ...looks);
  grid.style.gridTemplateColumns = `repeat(${looks.length}, minmax(0, 1fr))`;
  return make("article.pair", { "data-example": id },
    make("header", {}, make("b", {}, first.asked || first.id), first.asked ? make("span.id", {}, first.id) : null), grid);
}

function lookOf(data, example, when) {
  const [answer] = example.answers;
  const { thought } = pieces(answer.text);
  return make("div.look", {},
    pictureOf(data.images, example, [answer], () => "var(--answer)", 260),
    make("div.caption", {}, make("span", {}, when), make("span", {}, `reward ${shown(answer.total)}`)),
    answer.failure ? make("span.badge.bad", {}, answer.failure) : null,
    make("div.reasoning", { title: answer.text }, thought || answer.text));
}
