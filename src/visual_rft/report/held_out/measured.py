"""The numbers behind the drawings of an evaluation: classes, precision and recall, calibration, confusion.

Decision: of the answers that the run folder keeps, so that they can be drawn of any run; AP by the library that gives
the headline, so that both agree where all answers are kept. Boxes are right at an IoU of 0.5 (``mistakes.py``).

    found = [judged(rows) for rows in (before, after)]
    precision_recall(found[1])[0]      # [0.0, 0.98]
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visual_rft.report.held_out.mistakes import Boxes, Matched, match
from visual_rft.report.marks import of_answer, of_truth
from visual_rft.report.reading import Row
from visual_rft.tasks.metrics.calibration import reliability
from visual_rft.tasks.parsing.completion import normalized
from visual_rft.tasks.rewards import accuracy
from visual_rft.vision.boxes import is_finite_number

MAX_CONFUSED = 30
"""Classes of a confusion matrix; more would not be readable in a page."""
RECALLS = 51
"""Points of a precision-recall curve."""
EARNED = {"accuracy": 1.0, "exact": 1.0, "hit": 1.0, "mask_iou": 0.5}
"""Reward parts by which an answer that is no box is right, each from this value on."""


@dataclass(frozen=True)
class Judged:
    """One answer.

    Attributes:
        row: the line of the run folder.
        name: class that was asked for, or the true label; empty where there is none.
        matched: comparison of the boxes; None where the truth or the answers are no boxes.
        confidence: of each answered box, 1 where none was given.
        kinds: how often each kind of mistake occurs in it.
        truth: the true boxes that were compared.
        boxes: the answered ones.
    """

    row: Row
    name: str
    matched: Matched | None
    confidence: list[float]
    kinds: Counter[str]
    truth: list[list[float]] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)


def judged(rows: Sequence[Row]) -> list[Judged]:
    """Every answer of one task with its mistakes."""
    by_image: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_image[_image(row)].append(row)
    # A counted number or a point beside true boxes is no box that was missed.
    told = [answer for row in rows if (answer := row["completion"].get("answer")) is not None]
    boxed = not told or any(map(_is_boxes, told))
    return [
        _of_boxes(row, [other for other in by_image[_image(row)] if _name(other) != _name(row)])
        if boxed and _has_boxes(row)
        else _of_words(row)
        for row in rows
    ]


def _of_words(row: Row) -> Judged:
    """An answer that is no box."""
    failed = bool(row["completion"].get("failure"))
    kinds = Counter({"not readable": 1} if failed else {} if _is_right(row) else {"wrong": 1})
    return Judged(row, _name(row), None, [], kinds)


def _is_right(row: Row) -> bool:
    """Whether such an answer is right: as the run rewarded it, or else as names, or words, are compared."""
    completion, truth = row["completion"], row.get("truth") or {}
    answer, parts = completion.get("answer"), completion.get("rewards") or {}
    if answer is None:
        return False
    for name, least in EARNED.items():
        if is_finite_number(parts.get(name)):
            return bool(parts[name] >= least)
    said = of_answer(answer).text or ""
    if isinstance(truth.get("label"), str):
        synonyms = truth.get("synonyms")
        others = [name for name in synonyms if isinstance(name, str)] if isinstance(synonyms, list) else []
        return bool(accuracy(said, truth["label"], others))
    return said.strip().casefold() == (of_truth(truth).text or "").strip().casefold()


def _of_boxes(row: Row, others: Sequence[Row]) -> Judged:
    completion, truth = row["completion"], row.get("truth") or {}
    kinds: Counter[str] = Counter({"not readable": 1} if completion.get("failure") else {})
    answer = completion.get("answer")
    true, labels = _with_area(of_truth(truth).boxes, truth.get("labels"))
    said = of_answer(answer).boxes
    sure, named = _confidence(answer, len(said)), answer.get("labels") if isinstance(answer, Mapping) else None
    boxes, confidence = _with_area(said, sure)
    _, calls = _with_area(said, named)
    elsewhere = [box for other in others for box in _with_area(of_truth(other.get("truth") or {}).boxes)[0]]
    if len(labels) == len(true) and len(calls) == len(boxes):
        matched = _by_label(true, labels, boxes, calls, confidence)
    else:
        matched = match(true, boxes, confidence, elsewhere)
    kinds.update(kind for kind in matched.kinds if kind != "right")
    kinds["missed"] += len(matched.missed)
    return Judged(row, _name(row), matched, confidence, +kinds, true, boxes)


def _by_label(
    truth: Boxes, labels: Sequence[Any], boxes: Boxes, calls: Sequence[Any], confidence: Sequence[float]
) -> Matched:
    """Boxes of many classes: each compared with the true boxes of its own."""
    kinds, missed = [""] * len(boxes), []
    true, said = ([normalized(str(name)) for name in names] for names in (labels, calls))
    for name in dict.fromkeys([*true, *said]):
        there, here = ([n for n, other in enumerate(names) if other == name] for names in (true, said))
        rest = [box for box, other in zip(truth, true, strict=True) if other != name]
        found = match([truth[n] for n in there], [boxes[n] for n in here], [confidence[n] for n in here], rest)
        missed += [there[n] for n in found.missed]
        for n, kind in zip(here, found.kinds, strict=True):
            kinds[n] = kind
    return Matched(kinds, sorted(missed), [])


def _confidence(answer: Any, count: int) -> list[float]:
    """The number by which each box was ranked, as it stands in the file; 1 where there is none in [0, 1]."""
    given = answer.get("scores", answer.get("confidence")) if isinstance(answer, Mapping) else None
    ranks: list[Any] = given if isinstance(given, list) and len(given) == count else [None] * count
    return [float(c) if is_finite_number(c) and 0 <= c <= 1 else 1.0 for c in ranks]


def _with_area(boxes: Boxes, beside: Any = None) -> tuple[list[list[float]], list[Any]]:
    """The boxes that have an area, with what stands beside each of them; nothing where that is no list of as many."""
    kept = [n for n, (x1, y1, x2, y2) in enumerate(boxes) if x1 < x2 and y1 < y2]
    listed = isinstance(beside, list) and len(beside) == len(boxes)
    return [list(boxes[n]) for n in kept], [beside[n] for n in kept] if listed else []


def class_numbers(answers: Sequence[Judged]) -> dict[str, tuple[float, int]]:
    """Per class its AP (boxes) or the share of right answers, and the number of true boxes or of questions."""
    if not any(one.name for one in answers):
        return {}
    counts: Counter[str] = Counter()
    for one in answers:
        counts[one.name] += len(one.truth) if one.matched else 1
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
        for box in one.truth:
            annotations.append({**place, "id": len(annotations) + 1, "iscrowd": 0, **_measures(box)})
        results += [{**place, **_measures(box), "score": c} for box, c in zip(one.boxes, one.confidence, strict=True)]
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
    boxes = sum(len(one.truth) for one in answers if one.matched)
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
            said = normalized(of_answer(one.row["completion"].get("answer")).text or "")
            called = next((name for name in names if normalized(name) == said), stray if said else nothing)
            counts[one.name, one.name if not one.kinds else called] += 1
            continue
        others = [o.name for o in by_image[_image(one.row)] if o.name != one.name for _ in o.truth]
        counts[one.name, one.name] += one.matched.kinds.count("right")
        counts[one.name, nothing] += len(one.truth) - one.matched.kinds.count("right")
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


def _is_boxes(answer: Any) -> bool:
    return bool(of_answer(answer).boxes) or (isinstance(answer, Mapping) and "boxes" in answer)


def _name(row: Row) -> str:
    truth, question = row.get("truth") or {}, row.get("question") or {}
    name = question.get("category") if "boxes" in truth else truth.get("label")
    return name if isinstance(name, str) else ""


def _image(row: Row) -> str:
    return str((row.get("images") or [row.get("id")])[0])


def _measures(box: Sequence[float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
