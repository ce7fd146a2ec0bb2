"""What the answers of a whole data set are worth: the numbers of each task and their statistic for the bootstrap.

Decision: every task gives the same thing, a :class:`Measured`, so that tables, intervals and comparisons are written
once. A task of the user's own gets the numbers of its ``metrics`` and intervals of its ``headline``.

* detection: COCO's twelve numbers (or LVIS's thirteen), AP per class, mean IoU over true boxes.
* classification: ``top1_strict``, ``top1_lenient``, mean over classes, both per class, confusion matrix.
* grounding: ``mean_iou``, ``acc50`` and ``acc75`` (share of questions with IoU at least 0.5 and 0.75), ``giou`` (mean
  IoU per question) and ``ciou`` (all intersections over all unions), on boxes and, with a segmenter, on masks. The
  names are those of reasoning segmentation (arXiv 2308.00692); ``giou`` is not the generalised IoU, and on boxes it
  is ``mean_iou``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visual_rft.answering.class_list import names_in
from visual_rft.evaluation.resampling import Floats, Statistic
from visual_rft.evaluation.weighted_precision import WeightedPrecision
from visual_rft.tasks.base import Task
from visual_rft.tasks.metrics.calibration import unstated
from visual_rft.tasks.metrics.coco import Rules, box_precision
from visual_rft.tasks.metrics.detection import best_ious
from visual_rft.tasks.mixture import numbers_of
from visual_rft.tasks.rewards import accuracy
from visual_rft.tasks.samples import Prediction, answer_rates
from visual_rft.tasks.truth import box_of
from visual_rft.vision.boxes import Box, area, iou

ByImage = Sequence[Sequence[Prediction]]
MAX_WORST = 10
"""Images with the lowest reward that a result names: as many as one looks at."""
NO_ANSWER = "(no answer)"
"""Column of the confusion matrix for answers that could not be read."""
OTHER_NAME = "(another name)"
"""Column of the confusion matrix for names that are no class of the data."""


@dataclass(frozen=True)
class Measured:
    """The worth of a data set of answers.

    Attributes:
        numbers: every number by its name, JSON-able.
        main: names of the numbers that tables show and that ``statistic`` gives.
        statistic: the main numbers for weights per image.
        images: I, how many images the weights are of.
        per_class: numbers of each class by its name.
        confusion: counts of answers by true class (outer) and answered name (inner); classification only.
    """

    numbers: dict[str, Any]
    main: tuple[str, ...]
    statistic: Statistic
    images: int
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def measure(task: Task, predictions: ByImage) -> Measured:
    """The numbers of answers, image by image; detection has its own :func:`measure_detection`."""
    if task.measured_as == "label":
        return measure_classification(task, predictions)
    if task.measured_as == "box":
        return measure_grounding(task, predictions)
    return _measure_own(task, predictions)


def measure_detection(
    task: Task,
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    predictions: ByImage,
    rules: Rules = "coco",
) -> Measured:
    """Detection, scored against all of ``truth``.

    Args:
        task: the task that asked; it says what the right format is.
        truth: COCO data set; weights are in the order of its images.
        results: the answers as COCO results.
        predictions: the same answers as they were given, for the rates.
        rules: COCO's or LVIS's.
    """
    numbers, per_class = box_precision(truth, results, rules)
    names = {row["id"]: str(row["name"]) for row in truth["categories"]}
    counts = Counter(a["category_id"] for a in truth["annotations"] if not a.get("iscrowd"))
    place = {row["id"]: n for n, row in enumerate(truth["images"])}
    image_of = {a["id"]: place[a["image_id"]] for a in truth["annotations"]}
    ious = best_ious(truth, results)
    sums, boxes = np.zeros(len(place)), np.zeros(len(place))
    for identity, value in ious.items():
        sums[image_of[identity]] += value
        boxes[image_of[identity]] += 1
    precision = WeightedPrecision(truth, results, rules)

    def statistic(weights: Floats) -> dict[str, float]:
        return {**precision(weights), "mean_iou": _ratio(float(weights @ sums), float(weights @ boxes))}

    rates = answer_rates([p for row in predictions for p in row], task.think, task.bare)
    rest = {"mean_iou": _ratio(sums.sum(), boxes.sum(), -1.0), "n_boxes": int(boxes.sum()), "n_predicted": len(results)}
    without = unstated(p.score.answer for row in predictions for p in row)
    return Measured(
        {**numbers, **rest, **rates, **without, "n_images": len(place)},
        ("AP", "AP50", "AP75", "mean_iou"),
        statistic,
        len(place),
        {names[c]: {"AP": ap, "n_boxes": counts[c]} for c, ap in per_class.items()},
    )


def measure_classification(task: Task, predictions: ByImage) -> Measured:
    """Classification: strict is the whole answer, lenient is an answer that names this class and no other."""
    flat = [(i, p) for i, row in enumerate(predictions) for p in row]
    classes = sorted({str(p.sample.truth["label"]) for _, p in flat})
    number = {name: n for n, name in enumerate(classes)}
    image = np.array([i for i, _ in flat])
    label = np.array([number[str(p.sample.truth["label"])] for _, p in flat])
    strict, lenient = np.zeros(len(flat)), np.zeros(len(flat))
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    for n, (_, p) in enumerate(flat):
        named = task.compare(p.score.answer or "", p.sample.truth)
        strict[n] = p.score.answer is not None and accuracy(named.answer, named.label, named.synonyms)
        lenient[n] = strict[n] or _names_it(p, classes, named.synonyms)
        said = named.label if strict[n] else next((c for c in classes if accuracy(named.answer, c)), OTHER_NAME)
        confusion[named.label][NO_ANSWER if p.score.answer is None else said] += 1

    def statistic(weights: Floats) -> dict[str, float]:
        weight = weights[image]
        there = np.bincount(label, weight, len(classes))
        right = np.bincount(label, weight * strict, len(classes))
        drawn = there > 0
        return {
            "top1_strict": _ratio(weight @ strict, weight.sum()),
            "top1_lenient": _ratio(weight @ lenient, weight.sum()),
            "mean_class_accuracy": float((right[drawn] / there[drawn]).mean()) if drawn.any() else float("nan"),
        }

    per_class = {
        name: {"strict": float(strict[label == n].mean()), "lenient": float(lenient[label == n].mean()),
               "n": int((label == n).sum())}
        for name, n in number.items()
    }  # fmt: skip
    numbers = {**numbers_of(task, [p for _, p in flat]), **statistic(np.ones(len(predictions)))}
    main = ("top1_strict", "top1_lenient", "mean_class_accuracy")
    return Measured(numbers, main, statistic, len(predictions), per_class, confusion)


def worst_images(predictions: ByImage) -> list[dict[str, Any]]:
    """The images with the lowest reward, the lowest first, at most ``MAX_WORST``.

    Args:
        predictions: the answers, image by image.

    Returns:
        Per image ``image`` (its file or key), ``reward`` (mean total over its questions) and ``questions`` (how many).
    """
    rows: list[dict[str, Any]] = [
        {
            "image": row[0].sample.images[0].key if row[0].sample.images else row[0].sample.id,
            "reward": sum(p.score.total for p in row) / len(row),
            "questions": len(row),
        }
        for row in predictions
        if row
    ]
    return sorted(rows, key=lambda row: row["reward"])[:MAX_WORST]


def _names_it(prediction: Prediction, classes: Sequence[str], synonyms: Sequence[str]) -> bool:
    """Whether the answer, or without answer tags all that follows the thought, names the class and no other one."""
    text = prediction.score.answer or prediction.completion.rpartition("</think>")[2]
    label = str(prediction.sample.truth["label"])
    found = set(names_in(str(text), sorted({*classes, *synonyms})))
    return bool(found) and found <= {label, *synonyms}


def measure_grounding(task: Task, predictions: ByImage, masks: Sequence[tuple[float, float]] | None = None) -> Measured:
    """Grounding: IoU of the answered box, 0 where none was read.

    Args:
        task: the task that asked; it says what the right format is.
        predictions: the answers, image by image.
        masks: intersection and union, in pixels, of the segmented answer and the true mask, for each answer.
    """
    flat = [(i, p) for i, row in enumerate(predictions) for p in row]
    image = np.array([i for i, _ in flat])
    rows = [_areas(p.score.answer, box_of(p.sample.truth)) for _, p in flat]
    parts = {"": np.array(rows, dtype=np.float64)}
    if masks is not None:
        parts["mask_"] = np.array(masks, dtype=np.float64)

    def statistic(weights: Floats) -> dict[str, float]:
        weight = weights[image]
        found: dict[str, float] = {}
        for prefix, table in parts.items():
            shared, union = table.T
            ious = shared / union
            if not prefix:
                found["mean_iou"] = _ratio(weight @ ious, weight.sum())
                found |= {f"acc{t}": _ratio(weight @ (ious >= t / 100), weight.sum()) for t in (50, 75)}
            found[f"{prefix}giou"] = _ratio(weight @ ious, weight.sum())
            found[f"{prefix}ciou"] = _ratio(weight @ shared, weight @ union)
        return found

    numbers = statistic(np.ones(len(predictions)))
    main = tuple(numbers)
    return Measured({**numbers_of(task, [p for _, p in flat]), **numbers}, main, statistic, len(predictions))


def _areas(answer: Sequence[float] | None, truth: Box) -> tuple[float, float]:
    """Intersection and union of the answered and the true box, in square pixels."""
    if answer is None:
        return 0.0, area(truth)
    x1, y1, x2, y2 = answer
    box: Box = (x1, y1, x2, y2)
    overlap = iou(box, truth)
    union = (area(box) + area(truth)) / (1 + overlap)
    return overlap * union, union


def _measure_own(task: Task, predictions: ByImage) -> Measured:
    """A task of the user's own: its metrics, drawn again by repeating the predictions of an image."""

    def statistic(weights: Floats) -> dict[str, float]:
        drawn = [p for row, weight in zip(predictions, weights, strict=True) for p in list(row) * int(weight)]
        numbers = task.metrics(drawn)
        return {name: float(numbers[name]) for name in task.headline}

    numbers = numbers_of(task, [p for row in predictions for p in row])
    return Measured(numbers, tuple(task.headline), statistic, len(predictions))


def _ratio(part: float, whole: float, undefined: float = float("nan")) -> float:
    return float(part / whole) if whole > 0 else undefined
