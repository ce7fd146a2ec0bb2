// Drawings of an evaluation: mistakes, classes, precision and recall, calibration, confusion.

const MAX_BARS = 24;

/** All drawings of a gallery; those that have nothing to show are left out. */
function drawingsOf(gallery) {
  const last = gallery.steps.length - 1;
  const paired = (name) => gallery[name].map((points) => points.map(([x, y, count]) => ({ x, y, count })));
  return [
    barsOf("Mistakes", Object.entries(gallery.kinds).map(([name, values]) => ({ name, values })), null, true, "mistakes"),
    barsOf(`${gallery.measure} by class`, gallery.classes, 1, false, "classes"),
    squareOf("Precision over recall", "recall", "precision", paired("precision_recall"), false, "precision-recall"),
    squareOf("Calibration", "confidence", "right boxes", paired("calibration"), true, "calibration"),
    gallery.confusion ? confusionOf(gallery.confusion, gallery.steps[last]) : null,
  ].filter(Boolean);
}

const legendOf = (steps) => steps.map((step, i) => make(`span.legend${i === steps.length - 1 ? ".now" : ""}`, {}, whenOf(step)));

/** Bars with the value before as a mark; `top` is the end of the scale, by default the largest value. */
function barsOf(title, rows, top, lessIsGood, name) {
  if (!rows.length) return null;
  const end = top || Math.max(...rows.flatMap((row) => row.values).filter(Number.isFinite), 1);
  const decimals = decimalsOf(rows.flatMap((row) => row.values).filter(Number.isFinite));
  const made = rows.map((row) => {
    const now = row.values[row.values.length - 1];
    const before = row.values.length > 1 ? row.values[0] : null;
    const fill = make("i");
    fill.style.width = `${((now || 0) / end) * 100}%`;
    const mark = before === null ? null : make("em", { title: `before: ${fixed(before, decimals)}` });
    if (mark) mark.style.left = `${((before || 0) / end) * 100}%`;
    const worse = before !== null && (lessIsGood ? now > before : now < before);
    return make("div.bar-row", { "data-bar": row.name },
      make("span.bar-name", { title: row.name }, row.name, row.count === undefined ? null : make("small", {}, ` ${row.count}`)),
      make(`span.bar-line${worse ? ".worse" : ""}`, {}, fill, mark),
      make("span.bar-value", {}, before === null ? fixed(now, decimals) : `${fixed(before, decimals)} → ${fixed(now, decimals)}`),
      worse ? make("span.down", {}, "worse") : null);
  });
  const rest = made.slice(MAX_BARS);
  const kind = made.some((row) => row.querySelector(".down")) ? "figure.drawing.any-worse" : "figure.drawing";
  return make(kind, { "data-drawing": name }, make("h3", {}, title), ...made.slice(0, MAX_BARS),
    rest.length ? make("details.fold", {}, make("summary", {}, `${rest.length} more`), ...rest) : null);
}

/** Two curves in a unit square, the first faint; `diagonal` draws where both axes are equal. */
function squareOf(title, across, up, curves, diagonal, name) {
  const last = curves[curves.length - 1];
  if (!last.length) return null;
  const [side, left, bottom] = [200, 26, 18];
  const x = (value) => left + value * (side - left - 4);
  const y = (value) => 4 + (1 - value) * (side - bottom - 4);
  const most = Math.max(...last.map((point) => point.count || 1));
  const line = (points) => points.map((point, i) => `${i ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`).join("");
  const picture = svg("svg.square", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": `${title}: ${last.map((p) => `${shown(p.x)} ${shown(p.y)}`).slice(0, 60).join(", ")}` });
  for (const level of [0, 0.5, 1]) {
    picture.append(svg("line.grid", { x1: x(0), x2: x(1), y1: y(level), y2: y(level) }), svg("line.grid", { x1: x(level), x2: x(level), y1: y(0), y2: y(1) }));
    picture.append(svg("text", { x: left - 4, y: y(level) + 3, "text-anchor": "end" }, level.toFixed(1)));
    if (level) picture.append(svg("text", { x: x(level), y: side - bottom + 12, "text-anchor": level === 1 ? "end" : "middle" }, level.toFixed(1)));
  }
  if (diagonal) picture.append(svg("line.equal", { x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  curves.forEach((points, i) => {
    const kind = i === curves.length - 1 ? "now" : "then";
    picture.append(svg(`path.${kind}`, { d: line(points) }));
    if (diagonal) picture.append(...points.map((p) => svg(`circle.${kind}`, { cx: x(p.x), cy: y(p.y), r: 1.5 + 3.5 * Math.sqrt((p.count || 1) / most) }, svg("title", {}, `${counted(p.count, "box")}: confidence ${fixed(p.x, 2)}, right ${fixed(p.y, 2)}`.replace("boxs", "boxes")))));
  });
  return make("figure.drawing.squared", { "data-drawing": name }, make("h3", {}, title), picture, make("figcaption", {}, `${up} over ${across}, at an IoU of 0.5${diagonal ? "; on the line, confidence is right" : ""}`));
}

/** True classes as rows, answers as columns; the darker a cell, the larger its share of the row. */
function confusionOf(confusion, step) {
  const head = make("tr", {}, make("th", {}, "true \\ answered"), ...confusion.columns.map((name) => make("th", { scope: "col" }, make("span", {}, name))));
  const rows = confusion.rows.map((name, i) => {
    const total = confusion.counts[i].reduce((a, b) => a + b, 0) || 1;
    return make("tr", {}, make("th", { scope: "row" }, name), ...confusion.counts[i].map((count, j) => {
      const cell = make("td", { title: `${name}, called ${confusion.columns[j]}: ${count}` }, count ? String(count) : "");
      cell.style.setProperty("--share", `${Math.round((count / total) * 70)}%`);
      cell.classList.add(confusion.columns[j] === name ? "right" : "off");
      return cell;
    }));
  });
  return make("figure.drawing.wide", { "data-drawing": "confusion" }, make("h3", {}, `Confusion, ${whenOf(step)}`),
    make("div.scrolled", { tabindex: 0 }, make("table.confusion", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
}
