"""Many-class detection: every object of a list of classes in one answer, with a label on each box.

Decision: one question per image, so that a data set of eighty classes costs one answer and not eighty. A box finds a
true box only of its own class; otherwise the rewards are those of detection.

>>> task = ManyClasses()
>>> truth = {"boxes": [[10, 10, 50, 50], [60, 60, 90, 90]], "labels": ["cat", "dog"], "categories": ["cat", "dog"],
...          "image_size": [100, 100]}
>>> cat = "{'Position': [100, 100, 500, 500], 'Label': 'cat', 'Confidence': 1.0}"
>>> score = task.score(f"<think>two</think><answer>[{cat}]</answer>", truth)
>>> score.parts["iou_balanced"], score.answer["labels"]
(0.5, ['cat'])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visual_rft.config.sources import QuestionKind
from visual_rft.errors import DataError
from visual_rft.tasks.base import UNITS
from visual_rft.tasks.kinds.detection import MATCHING, Detection, Found, answer_of, shifted, written
from visual_rft.tasks.parsing.completion import Failure, Parsed, location_tokens, normalized, without_location_tokens
from visual_rft.tasks.parsing.detections import NO_OBJECTS, parse_detections
from visual_rft.tasks.parsing.notations import tagged
from visual_rft.tasks.truth import boxes_of, confidence_of, frame_of, image_size_of, names_of, place_of, ready_made
from visual_rft.vision.boxes import Box, Matching
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.drawing import Mark

_CORNERS = {False: "[x1, y1, x2, y2]", True: "<top><left><bottom><right>"}
Row = tuple[Box, str, float]
"""A box, its class and its confidence."""


@dataclass(frozen=True, kw_only=True)
class ManyClasses(Detection):
    """The many-class detection task; its options are those of detection.

    The truth is a :class:`~visual_rft.tasks.truth.ManyClassTruth`: ``boxes``, ``labels``, ``categories`` and
    ``image_size``.
    """

    name = "many_classes"
    styles = ("method", "native")  # a plain list has no labels
    questions: ClassVar[QuestionKind] = "every"
    default_weights: ClassVar[Mapping[str, float]] = {"iou_balanced": 1.0, "confidence_brier": 1.0, "format": 1.0}
    _nothing: ClassVar[Any] = {"boxes": [], "confidence": [], "labels": []}

    def answer_pattern(self, space: CoordinateSpace, names: Sequence[str]) -> str | None:
        return None  # that of detection has no labels

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        if asked := ready_made(question):
            return asked
        names = question.get("categories") or [question["category"]]
        tokens = space is CoordinateSpace.LOCATION_TOKENS
        thought = "how many there are of each and where"
        if self.words is not None:
            listed = ", every ".join(names) if "every" in self.words.every else " ; ".join(names)
            return self._asked(listed, True, thought, space)
        return (
            f"Find every object of these classes in the image: {', '.join(names)}. "
            f"{self._steps(thought)} "
            f"the list [{{'Position': {_CORNERS[tokens]}, 'Label': class, 'Confidence': number}}, ...]. "
            f"Positions are {UNITS[space]}, confidence is between 0 and 1 with two decimals. "
            f"If there is none, the answer is {NO_OBJECTS}."
        )

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        boxes, labels = boxes_of(truth), labels_of(truth)
        confidence = confidence_of(truth, boxes)
        rows = sorted(zip(boxes, labels, confidence, strict=True), key=lambda row: (row[1], row[0][1], row[0][0]))
        places = ", ".join(f"{label} {place_of(box, truth)}" for box, label, _ in rows)
        return self._labelled(f"{len(rows)} found: {places}" if rows else "none", rows, frame_of(truth, frame))

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        frame = frame_of(truth, frame)
        said, extra = tagged(completion, self.bare)
        text = without_location_tokens(said, "[{x1}, {y1}, {x2}, {y2}]") if frame.tokens else said
        parsed = parse_detections(text, frame.extent, classes=names_of(truth, "categories"))
        if isinstance(parsed, Failure):
            return parsed
        answer = {**answer_of(parsed.value, frame), "labels": list(parsed.value.labels)}
        return Parsed(answer, (*extra, *self._noted(said, parsed.notes)))

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Found:
        true = list(zip(labels_of(truth), boxes_of(truth), strict=True))
        said = list(zip(answer["labels"], answer["boxes"], answer["confidence"], strict=True))
        return Found(
            self._matched(said, true, self.iou_threshold),
            lambda: self._matched(said, true, 0.0),
            answer.get("unread", 0),
            answer.get("unstated", ()),
        )

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        frame = frame_of(truth, frame)
        width, height = image_size_of(truth)
        whole: Box = (0.0, 0.0, width, height)
        rows = [(box, label, 1.0) for box, label in zip(boxes_of(truth), labels_of(truth), strict=True)]
        names = names_of(truth, "categories")
        if not rows:
            anything: Row = ((0.0, 0.0, width / 2, height / 2), names[0] if names else "thing", 1.0)
            return {"hallucinated": self._labelled("x", [anything], frame)}
        wrong = {
            "shifted": self._labelled("x", [(shifted(box, whole), label, 1.0) for box, label, _ in rows], frame),
            "duplicated": self._labelled("x", [*rows, rows[0]], frame),
            "empty": self._wrap("x", NO_OBJECTS),
        }
        if len(rows) > 1:
            wrong["one missing"] = self._labelled("x", rows[1:], frame)
        if len(names) > 1:
            others = {name: names[(n + 1) % len(names)] for n, name in enumerate(names)}
            wrong["other labels"] = self._labelled("x", [(box, others[label], c) for box, label, c in rows], frame)
        return wrong

    def marks(self, question: Mapping[str, Any], answer: Any) -> list[Mark]:
        sure = answer.get("scores", answer["confidence"])
        rows = zip(answer["boxes"], answer["labels"], sure, strict=True)
        return [(box, f"{label} {c:.2f}") for box, label, c in rows] or [(None, "nothing of all")]

    def _matched(
        self, said: Sequence[tuple[str, Box, float]], true: Sequence[tuple[str, Box]], threshold: float
    ) -> Matching:
        """Boxes matched to true ones of their own class; numbered as they were given."""
        iou, index = [0.0] * len(said), [-1] * len(said)
        for name in dict.fromkeys(label for label, *_ in said):
            here = [n for n, row in enumerate(said) if row[0] == name]
            there = [n for n, row in enumerate(true) if normalized(row[0]) == normalized(name)]
            boxes, sure = [said[n][1] for n in here], [said[n][2] for n in here]
            matching = MATCHING[self.matching](boxes, sure, [true[n][1] for n in there], threshold)
            for n, value, place in zip(here, matching.iou, matching.truth_index, strict=True):
                iou[n], index[n] = value, there[place] if place >= 0 else -1
        return Matching(tuple(iou), tuple(index), tuple(row[2] for row in said), len(true))

    def _labelled(self, thought: str, rows: Sequence[Row], frame: Frame) -> str:
        if self.words is not None:
            return self._wrap(thought, written(self.words, [(box, label) for box, label, _ in rows], frame))
        if not rows:
            return self._wrap(thought, NO_OBJECTS)
        items = []
        for box, label, confidence in rows:
            place = frame.from_pixels(box)
            corners = location_tokens(place) if frame.tokens else str(list(place))
            items.append(f"{{'Position': {corners}, 'Label': {label!r}, 'Confidence': {confidence:.2f}}}")
        return self._wrap(thought, f"[{', '.join(items)}]")


def labels_of(truth: Mapping[str, Any]) -> tuple[str, ...]:
    """``truth["labels"]``, checked: one of the categories for each box.

    Raises:
        DataError: if they are not.
    """
    labels, names = names_of(truth, "labels"), names_of(truth, "categories")
    if len(labels) != len(boxes_of(truth)):
        raise DataError(f"truth.labels: {len(labels)} names for {len(boxes_of(truth))} boxes")
    if "categories" not in truth:
        raise DataError('truth.categories: is missing; write the classes that were asked for, {"categories": [...]}')
    unknown = next((label for label in labels if label not in names), None)
    if unknown is not None:
        raise DataError(f"truth.labels: {unknown!r} is not one of truth.categories")
    return labels
