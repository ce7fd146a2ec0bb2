// Fixed held-out questions before and after, side by side, one column per chosen evaluation.

const columns = { chosen: null, order: "gain" };

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
  const name = (one) => `${data.runs.length > 1 ? `${one.name}, ` : ""}${whenOf(one.step)}`;
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
  const rows = changedRows(shownColumns);
  const order = make("select", { "aria-label": "order of the questions" },
    ...[["gain", "greatest gain first"], ["worse", "what got worse first"], ["data", "as in the data"]]
      .map(([value, text]) => make("option", { value, selected: value === columns.order }, text)));
  order.addEventListener("change", () => {
    columns.order = order.value;
    drawExamples(data);
  });
  if (keys.length > 1) byId("example-columns").append(make("label", {}, "Order", order));
  const sorted = columns.order === "data" ? rows : [...rows].sort((a, b) => (columns.order === "gain" ? b.gain - a.gain : a.gain - b.gain));
  drawSummary(rows, keys.length);
  const wide = make("div.pairs", {}, ...sorted.map((row) => pairOf(data, row, shownColumns, name)));
  if (keys.length > 2) wide.style.gridTemplateColumns = "minmax(0, 1fr)";
  byId("example-rows").replaceChildren(wide);
}

/** Every question with its gain: the reward in the last column less that in the first; 0 where one is missing. */
function changedRows(shownColumns) {
  const ids = [...new Set(shownColumns.flatMap((one) => one.examples.map((example) => example.id)))];
  return ids.map((id) => {
    const examples = shownColumns.map((column) => column.examples.find((one) => one.id === id));
    const [first, last] = [examples[0], examples[examples.length - 1]].map((one) => one?.answers[0].total);
    const gain = Number.isFinite(first) && Number.isFinite(last) ? last - first : 0;
    return { id, examples, gain, title: examples.find(Boolean).asked };
  });
}

/** How many got better and worse; what got worse is named. */
function drawSummary(rows, columnCount) {
  const worse = rows.filter((row) => row.gain < 0);
  const better = rows.filter((row) => row.gain > 0);
  const names = worse.flatMap((row, i) => [i ? ", " : " worse: ", make("a", { href: `#example-${row.id}` }, row.title || row.id)]);
  byId("example-summary").hidden = columnCount < 2;
  byId("example-summary").replaceChildren(
    make("span.up", {}, `${better.length} better`), `, ${rows.length - better.length - worse.length} equal, `,
    make(`span${worse.length ? ".down" : ""}`, {}, `${worse.length}`, ...(worse.length ? names : [" worse"])));
}

function pairOf(data, row, shownColumns, name) {
  const looks = shownColumns.map((column, i) =>
    row.examples[i] ? lookOf(data, row.examples[i], name(column)) : make("div.look", {}, make("p.empty", {}, "not asked")));
  const grid = make("div.looks", {}, ...looks);
  grid.style.gridTemplateColumns = `repeat(${looks.length}, minmax(0, 1fr))`;
  const kind = row.gain < 0 ? "bad" : row.gain > 0 ? "good" : "same";
  const word = { bad: "worse", good: "better", same: "equal" }[kind];
  return make(`article.pair${row.gain < 0 ? ".worse" : ""}`, { "data-example": row.id, "data-gain": row.gain, id: `example-${row.id}` },
    make("header", {}, make("b", {}, row.title || row.id), row.title ? make("span.id", {}, row.id) : null,
      shownColumns.length > 1 ? make(`span.badge.${kind}`, { title: "change of the reward" }, `${word} ${row.gain ? signedFixed(row.gain, 2) : ""}`.trim()) : null), grid);
}

function lookOf(data, example, when) {
  const [answer] = example.answers;
  const { thought } = pieces(answer.text);
  return make("div.look", {},
    pictureOf(data.images, example, [answer], () => "var(--answer)", 260),
    make("div.caption", {}, make("span", {}, when), make("span", {}, `reward ${fixed(answer.total, 2)}`)),
    answer.failure ? make("span.badge.bad", {}, answer.failure) : null,
    make("div.reasoning", { title: answer.text }, thought || answer.text));
}
