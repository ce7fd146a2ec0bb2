// Every kept held-out question with its answers, filtered by what is wrong with them.

const GALLERY_PAGE = 24;
const shelf = { run: 0, kinds: new Set(), class: "", size: "", order: "worst", of: null, search: "", page: 0 };

const gainOf = (question) => {
  const [first, last] = [question.answers[0], question.answers[question.answers.length - 1]].map((one) => one?.total);
  return Number.isFinite(first) && Number.isFinite(last) ? last - first : 0;
};
const answerShown = (question) => question.answers[Math.min(shelf.of ?? question.answers.length - 1, question.answers.length - 1)];
const totalShown = (question) => answerShown(question)?.total ?? 0;
const SHELF_ORDERS = {
  worst: (a, b) => totalShown(a) - totalShown(b),
  best: (a, b) => totalShown(b) - totalShown(a),
  changed: (a, b) => Math.abs(gainOf(b)) - Math.abs(gainOf(a)),
  gain: (a, b) => gainOf(b) - gainOf(a),
  loss: (a, b) => gainOf(a) - gainOf(b),
  data: () => 0,
};

/** The questions that pass all filters, in their order. */
function shelfQuestions(gallery) {
  const words = shelf.search.toLowerCase();
  return gallery.questions
    .filter((question) => [...shelf.kinds].every((kind) => answerShown(question)?.kinds[kind]))
    .filter((question) => !shelf.class || question.class === shelf.class)
    .filter((question) => !shelf.size || question.sizes.includes(shelf.size))
    .filter((question) => !words || [question.id, question.asked, question.truth.text, ...question.answers.map((one) => one?.text)].join("\n").toLowerCase().includes(words))
    .sort(SHELF_ORDERS[shelf.order]);
}

/** What can be chosen: every run, of several tasks each of them. */
const shelvesOf = (data) => data.runs.flatMap((run) => run.galleries.map((gallery) => ({ name: [run.name, gallery.task].filter(Boolean).join(", "), gallery })));

/** Draw the section of the chosen run and task. */
function drawGallery(data) {
  const able = shelvesOf(data);
  byId("evaluation").hidden = !able.length;
  if (!able.length) return;
  if (!able[shelf.run]) shelf.run = 0;
  const { gallery } = able[shelf.run];
  byId("evaluation-run-choice").hidden = able.length < 2;
  byId("evaluation-run").replaceChildren(...able.map(({ name }, i) => make("option", { value: i, selected: i === shelf.run }, name)));
  byId("evaluation-hint").replaceChildren(...legendOf(gallery.steps), gallery.left_out ? ` ${gallery.left_out}.` : "");
  byId("drawings").replaceChildren(...drawingsOf(gallery));
  drawShelfControls(gallery);
  drawShelf(data);
}

function drawShelfControls(gallery) {
  const count = (kind) => gallery.questions.filter((question) => answerShown(question)?.kinds[kind]).length;
  byId("gallery-kinds").replaceChildren(...Object.keys(gallery.kinds).map((kind) =>
    make("button.toggle", { type: "button", "data-kind": kind, "aria-pressed": String(shelf.kinds.has(kind)) }, `${kind} ${count(kind)}`)));
  const options = (names, chosen, all) => [make("option", { value: "" }, all), ...names.map((name) => make("option", { value: name, selected: name === chosen }, name))];
  const classes = [...new Set(gallery.questions.map((question) => question.class).filter(Boolean))].sort();
  byId("gallery-class-choice").hidden = classes.length < 2;
  byId("gallery-class").replaceChildren(...options(classes, shelf.class, "all"));
  const sizes = ["small", "medium", "large"].filter((size) => gallery.questions.some((question) => question.sizes.includes(size)));
  byId("gallery-size-choice").hidden = sizes.length < 2;
  byId("gallery-size").replaceChildren(...options(sizes, shelf.size, "all"));
  const of = shelf.of ?? gallery.steps.length - 1;
  byId("gallery-of").replaceChildren(...gallery.steps.map((step, i) => make("option", { value: i, selected: i === of }, whenOf(step))));
}

function drawShelf(data) {
  const { gallery } = shelvesOf(data)[shelf.run];
  const found = shelfQuestions(gallery);
  const pages = Math.max(1, Math.ceil(found.length / GALLERY_PAGE));
  shelf.page = Math.max(0, Math.min(shelf.page, pages - 1));
  const here = found.slice(shelf.page * GALLERY_PAGE, (shelf.page + 1) * GALLERY_PAGE);
  byId("gallery-count").textContent = `${found.length} of ${counted(gallery.questions.length, "question")}`;
  byId("gallery").replaceChildren(...(here.length ? here.map((question) => shelfCard(data, gallery, question)) : [make("p.empty", {}, "No question fits these filters.")]));
  byId("gallery-pager").hidden = pages < 2;
  byId("gallery-page").textContent = `page ${shelf.page + 1} of ${pages}`;
  byId("gallery-back").disabled = shelf.page === 0;
  byId("gallery-on").disabled = shelf.page === pages - 1;
}

function shelfCard(data, gallery, question) {
  const answer = answerShown(question);
  const gain = gainOf(question);
  const texts = question.answers.map((one, i) => one && make("div", {}, make("h4", {}, `${whenOf(gallery.steps[i])}, reward ${fixed(one.total, 2)}`), one.failure ? make("p.down", {}, one.failure) : null, make("p.code", {}, one.text))).filter(Boolean);
  return make("article.shelf", { "data-question": question.id, "data-gain": gain },
    pictureOf(data.images, question, answer ? [answer] : [], () => "var(--answer)", 240),
    make("header", {}, make("b", { title: question.id }, question.asked || question.id),
      make("span.reward", { title: "reward" }, fixed(answer?.total, 2), gain ? make(gain > 0 ? "span.up" : "span.down", { title: "change of the reward" }, ` ${signedFixed(gain, 2)}`) : null)),
    make("div.kinds", {}, ...Object.entries(answer?.kinds || {}).map(([kind, count]) => make("span.badge.bad", {}, count > 1 ? `${kind} ×${count}` : kind))),
    make("details.fold", {}, make("summary", {}, "answers"), make("div.full", {}, ...texts)));
}

/** Listen to the controls. */
function startGallery(current) {
  const change = (values) => {
    Object.assign(shelf, { page: 0 }, values);
    drawShelf(current());
  };
  byId("evaluation-run").addEventListener("change", (event) => {
    Object.assign(shelf, { run: Number(event.target.value), kinds: new Set(), class: "", size: "", of: null, page: 0 });
    drawGallery(current());
  });
  byId("gallery-class").addEventListener("change", (event) => change({ class: event.target.value }));
  byId("gallery-size").addEventListener("change", (event) => change({ size: event.target.value }));
  byId("gallery-order").addEventListener("change", (event) => change({ order: event.target.value }));
  byId("gallery-search").addEventListener("input", (event) => change({ search: event.target.value }));
  byId("gallery-of").addEventListener("change", (event) => {
    change({ of: Number(event.target.value) });
    drawShelfControls(shelvesOf(current())[shelf.run].gallery);
  });
  byId("gallery-kinds").addEventListener("click", (event) => {
    const button = event.target.closest("[data-kind]");
    if (!button) return;
    const on = !shelf.kinds.has(button.dataset.kind);
    shelf.kinds[on ? "add" : "delete"](button.dataset.kind);
    button.setAttribute("aria-pressed", String(on));
    change({});
  });
  const turn = (by) => {
    change({ page: shelf.page + by });
    byId("gallery-controls").scrollIntoView();
  };
  byId("gallery-back").addEventListener("click", () => turn(-1));
  byId("gallery-on").addEventListener("click", () => turn(1));
}
