"""The numbers behind the drawings of an evaluation: classes, precision and recall, calibration, confusion.

Decision: of the answers that the run folder keeps, so that they can be drawn of any run; AP by the library that gives
the headline, so that both agree where all answers are kept. Boxes are right at an IoU of 0.5 (``mistakes.py``).

    found = [judged(rows) for rows in (before, after)]
    precision_recall(found[1])[0]      # [0.0, 0.98]
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visual_rft.report.held_out.mistakes import Matched, match
from visual_rft.report.marks import of_answer, of_truth
from visual_rft.report.reading import Row
from visual_rft.tasks.metrics.calibration import reliability

MAX_CONFUSED = 30
"""Classes of a confusion matrix; more would not be readable in a page."""
RECALLS = 51
"""Points of a precision-recall curve."""


@dataclass(frozen=True)
class Judged:
    """One answer.

    Attributes:
        row: the line of the run folder.
        name: class that was asked for, or the true label; empty where there is none.
        matched: comparison of the boxes; None where the truth is no box.
        confidence: of each answered box, 1 where none was given.
        kinds: how often each kind of mistake occurs in it.
    """

    row: Row
    name: str
    matched: Matched | None
    confidence: list[float]
    kinds: Counter[str]


def judged(rows: Sequence[Row]) -> list[Judged]:
    """Every answer with its mistakes."""
    by_image: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_image[_image(row)].append(row)
    return [_judged(row, [other for other in by_image[_image(row)] if _name(other) != _name(row)]) for row in rows]


def _judged(row: Row, others: Sequence[Row]) -> Judged:
    completion = row["completion"]
    kinds: Counter[str] = Counter({"not readable": 1} if completion.get("failure") else {})
    truth, answer = of_truth(row.get("truth") or {}), of_answer(completion.get("answer"))
    if not _has_boxes(row):
        right = answer.text is not None and answer.text.strip().casefold() == (truth.text or "").strip().casefold()
        if not right and not kinds:
            kinds["wrong"] = 1
        return Judged(row, _name(row), None, [], kinds)
    elsewhere = [box for other in others for box in of_truth(other.get("truth") or {}).boxes]
    confidence = [float(label) if label else 1.0 for label in answer.labels]
    matched = match(truth.boxes, answer.boxes, confidence, elsewhere)
    kinds.update(kind for kind in matched.kinds if kind != "right")
    kinds["missed"] += len(matched.missed)
    return Judged(row, _name(row), matched, confidence, +kinds)


def class_numbers(answers: Sequence[Judged]) -> dict[str, tuple[float, int]]:
    """Per class its AP (boxes) or the share of right answers, and the number of true boxes or of questions."""
    if not any(one.name for one in answers):
        return {}
    counts: Counter[str] = Counter()
    for one in answers:
        counts[one.name] += len(of_truth(one.row["truth"]).boxes) if one.matched else 1
    if any(one.matched for one in answers):
        return {name: (ap, counts[name]) for name, ap in _precisions(answers).items() if ap >= 0}
    right = Counter(one.name for one in answers if not one.kinds)
    return {name: (right[name] / count, count) for name, count in counts.items()}


def _precisions(answers: Sequence[Judged]) -> dict[str, float]:
    from visual_rft.tasks.metrics.coco import (
        box_precision,  # here: most reports draw no boxes, and it takes half a second
    )

    images = {name: n for n, name in enumerate(dict.fromkeys(_image(one.row) for one in answers), 1)}
    classes = {name: n for n, name in enumerate(dict.fromkeys(one.name for one in answers), 1)}
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for one in answers:
        place = {"image_id": images[_image(one.row)], "category_id": classes[one.name]}
        for box in of_truth(one.row["truth"]).boxes:
            annotations.append({**place, "id": len(annotations) + 1, "iscrowd": 0, **_measures(box)})
        boxes = of_answer(one.row["completion"].get("answer")).boxes
        results += [{**place, **_measures(box), "score": c} for box, c in zip(boxes, one.confidence, strict=True)]
    truth = {
        "images": [{"id": n} for n in images.values()],
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for name, n in classes.items()],
    }
    names = {n: name for name, n in classes.items()}
    return {names[n]: ap for n, ap in box_precision(truth, results).per_class.items()}


def precision_recall(answers: Sequence[Judged]) -> list[list[float]]:
    """Recall and the highest precision at that recall or more, of all classes together; [] without true boxes."""
    drawn = _by_confidence(answers)
    boxes = sum(len(of_truth(one.row["truth"]).boxes) for one in answers if one.matched)
    if not boxes or not drawn:
        return []
    points, right = [], 0
    for n, (_, hit) in enumerate(drawn, 1):
        right += hit
        points.append((right / boxes, right / n))
    grid = [i / (RECALLS - 1) for i in range(RECALLS)]
    return [[r, max((precision for recall, precision in points if recall >= r - 1e-9), default=0.0)] for r in grid]


def calibration(answers: Sequence[Judged]) -> list[list[float]]:
    """Mean confidence, share of right boxes and number of boxes, for each tenth of confidence that holds any."""
    return [list(one) for one in reliability(_by_confidence(answers))]


def confusion(answers: Sequence[Judged]) -> dict[str, Any] | None:
    """How often each true class (rows) was called what (columns); None without classes or with too many."""
    names = sorted({one.name for one in answers if one.name})
    if not 2 <= len(names) <= MAX_CONFUSED:
        return None
    boxed = any(one.matched for one in answers)
    nothing, stray = ("(missed)", "(nothing)") if boxed else ("(no answer)", "(another name)")
    counts: Counter[tuple[str, str]] = Counter()
    by_image: dict[str, list[Judged]] = defaultdict(list)
    for one in answers:
        by_image[_image(one.row)].append(one)
    for one in answers:
        if one.matched is None:
            said = (of_answer(one.row["completion"].get("answer")).text or "").strip().casefold()
            called = next((name for name in names if name.casefold() == said), stray if said else nothing)
            counts[one.name, one.name if not one.kinds else called] += 1
            continue
        others = [
            o.name for o in by_image[_image(one.row)] if o.name != one.name for _ in of_truth(o.row["truth"]).boxes
        ]
        counts[one.name, one.name] += one.matched.kinds.count("right")
        counts[one.name, nothing] += len(of_truth(one.row["truth"]).boxes) - one.matched.kinds.count("right")
        counts[stray, one.name] += one.matched.kinds.count("false positive")
        counts.update((others[place], one.name) for place in one.matched.called)
    rows = [*names, *([stray] if boxed else [])]
    columns = [*names, nothing, *([] if boxed else [stray])]
    return {"rows": rows, "columns": columns, "counts": [[counts[row, column] for column in columns] for row in rows]}


def _by_confidence(answers: Sequence[Judged]) -> list[tuple[float, bool]]:
    """Confidence and whether it is right, of every answered box that states one, the most confident first."""
    found = [
        (confidence, kind == "right")
        for one in answers
        if one.matched and isinstance(one.row["completion"].get("answer"), dict)
        for confidence, kind in zip(one.confidence, one.matched.kinds, strict=True)
    ]
    return sorted(found, key=lambda pair: -pair[0])


def _has_boxes(row: Row) -> bool:
    truth = row.get("truth") or {}
    return "boxes" in truth or "box" in truth


def _name(row: Row) -> str:
    truth, question = row.get("truth") or {}, row.get("question") or {}
    name = question.get("category") if "boxes" in truth else truth.get("label")
    return name if isinstance(name, str) else ""


def _image(row: Row) -> str:
    return str((row.get("images") or [row.get("id")])[0])


def _measures(box: Sequence[float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
