// One question with its picture, its truth and all its answers.

const SMALL = 320; // pixels: a picture that is shown larger than it is keeps its pixels visible

/** The picture of a question with boxes laid over it, in pixels of the original image, at most `tallest` pixels high. */
function pictureOf(images, group, answers, colour, tallest) {
  const key = group.images[0];
  const [width, height] = group.size || [1, 1];
  const truthWords = group.truth.text;
  const saidWords = answers.length === 1 ? answers[0].words : null;
  const figure = make("figure.picture", { "data-size": `${width},${height}` });
  figure.style.maxWidth = `${Math.round((tallest * width) / height)}px`;
  if (key) {
    const picture = make("img", { src: images[key], alt: group.asked || group.id, width, height, decoding: "async" });
    if (Math.max(width, height) <= SMALL) picture.classList.add("small");
    figure.append(picture);
  }
  const overlay = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  answers.forEach((answer, i) => {
    overlay.append(svg("g", { "data-answer": i }, ...answer.boxes.map((box) => boxOf(box, "rect.box", colour(i)))));
  });
  // The truth lies on top, on a dark rim that keeps it visible on any picture.
  overlay.append(svg("g", { "data-truth": true },
    ...group.truth.boxes.flatMap((box) => [boxOf(box, "rect.rim", null), boxOf(box, "rect.box.truth", null)])));
  figure.append(overlay);
  if (truthWords || saidWords) {
    figure.append(make("div.words", {}, truthWords ? make("div.of-truth", {}, `truth: ${truthWords}`) : null,
      saidWords ? make("div", {}, saidWords) : null));
  }
  return figure;
}

function boxOf(box, kind, stroke) {
  const [x1, y1, x2, y2] = box;
  return svg(kind, {
    x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), stroke, "data-box": kind === "rect.rim" ? null : box.join(","),
  });
}

/** A card: header, prompt, picture and the group's answers; `top` is the reward that fills a meter. */
function cardOf(images, group, top) {
  const figure = pictureOf(images, group, group.answers, answerColour, 340);
  const rewards = group.answers.map((answer) => answer.total).filter((total) => total !== null);
  const equal = equalRewards(group);
  const failed = group.answers.filter((answer) => answer.failure).length;
  const cut = group.answers.filter((answer) => answer.truncated).length;
  const side = make("div.side", {}, figure);
  if (group.images.length > 1) {
    side.append(make("div.others", {}, ...group.images.slice(1).map((key) => make("img", { src: images[key], alt: "another picture of the question" }))));
  }
  return make(
    "article.card", { "data-id": group.id, "data-step": group.step },
    make("header", {},
      make("span.asked", {}, group.asked || group.id),
      group.asked ? make("span.id", {}, group.id) : null,
      equal ? make("span.badge.warn", { title: "a group whose rewards are all equal teaches nothing" }, "equal rewards") : null,
      failed ? make("span.badge.bad", {}, `${failed} not readable`) : null,
      cut ? make("span.badge.warn", {}, `${cut} cut off`) : null,
      make("span.sum", {}, `step ${group.step} · reward ${fixed(mean(rewards), 2)} (${fixed(Math.min(...rewards), 2)} to ${fixed(Math.max(...rewards), 2)})`)),
    make("details.prompt", {}, make("summary", {}, group.prompt)),
    side,
    make("div.answers", {}, ...group.answers.map((answer, i) => replyOf(answer, i, figure, top))),
  );
}

function replyOf(answer, number, figure, top) {
  const { thought, answer: said } = pieces(answer.text);
  const line = thought || said || answer.text;
  const element = make(
    "details.reply", { "data-reply": number },
    make("summary", { "aria-label": `answer ${number + 1}, reward ${fixed(answer.total, 2)}, advantage ${fixed(answer.advantage, 2)}${answer.failure ? `, not readable: ${answer.failure}` : ""}` },
      make("span.number", {}, swatch(number), String(number + 1)),
      meterOf(answer.total, top),
      make(`span.advantage${answer.advantage > 0 ? ".up" : answer.advantage < 0 ? ".down" : ""}`, { title: "advantage" },
        answer.advantage === null || answer.advantage === undefined ? "" : signed(answer.advantage)),
      partsOf(answer.rewards),
      make("span.said", {}, ...badgesOf(answer), answer.words && !answer.boxes.length ? `${answer.words} · ` : "", line)),
    make("div.full", {},
      thought === null ? null : make("h4", {}, "Reasoning"), thought === null ? null : make("p", { "data-thought": true }, thought),
      make("h4", {}, said === null ? "Completion" : "Answer"), make("p.code", {}, said === null ? answer.text : said),
      answer.failure ? make("h4", {}, "Why it could not be read") : null, answer.failure ? make("p", {}, answer.failure) : null,
      answer.notes.length ? make("h4", {}, "What the parser tolerated") : null, answer.notes.length ? make("p", {}, answer.notes.join("\n")) : null,
      answer.boxes.length ? make("h4", {}, "Boxes in pixels of the image") : null,
      answer.boxes.length ? make("p.code", {}, answer.boxes.map((box, i) => `${box.join(", ")}${answer.labels[i] ? `   confidence ${answer.labels[i]}` : ""}`).join("\n")) : null,
      said === null ? null : make("details.fold", {}, make("summary", {}, "Whole completion"), make("p.code", {}, answer.text))),
  );
  const alone = (on) => {
    figure.classList.toggle("focus", on);
    element.classList.toggle("on", on);
    const drawn = figure.querySelector(`g[data-answer="${number}"]`);
    if (drawn) drawn.classList.toggle("on", on);
  };
  element.addEventListener("pointerenter", () => alone(true));
  element.addEventListener("pointerleave", () => alone(false));
  element.addEventListener("focusin", () => alone(true));
  element.addEventListener("focusout", () => alone(false));
  return element;
}

function swatch(number) {
  const square = make("i");
  square.style.background = answerColour(number);
  return square;
}

function meterOf(value, top) {
  const fill = make("i");
  fill.style.width = `${Math.max(0, Math.min(1, (value || 0) / (top || 1))) * 100}%`;
  return make("span.meter", { title: "reward" }, fill, make("b", {}, fixed(value, 2)));
}

function partsOf(rewards) {
  return make("span.parts", {}, ...Object.entries(rewards).map(([name, value]) => make("span", {}, `${name} `, make("b", {}, fixed(value, 2)))));
}

function badgesOf(answer) {
  return [
    answer.failure ? make("span.badge.bad", {}, answer.failure) : null,
    answer.truncated ? make("span.badge.warn", {}, "cut off") : null,
    answer.notes.length ? make("span.badge", {}, counted(answer.notes.length, "note")) : null,
  ].filter(Boolean);
}

/** Whether all answers earned the same, so that the group teaches nothing. */
function equalRewards(group) {
  return group.answers.length > 1 && group.answers.every((answer) => answer.total === group.answers[0].total);
}
