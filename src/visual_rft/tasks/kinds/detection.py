"""Detection: find every object of one category, boxes with confidence (arXiv 2503.01785, section 3.2).

Decision: the category is in the question, so one image with three classes gives three questions; the default rewards
are the paper's, ``R = R_IoU + R_conf + R_format``. ``iou_balanced`` and ``confidence_brier`` close what these leave
open (docs/rewards.md).

>>> task = Detection()
>>> truth = {"boxes": [[10, 10, 50, 50]], "image_size": [100, 100]}
>>> good = "<think>one</think><answer>[{'Position': [100, 100, 500, 500], 'Confidence': 1.00}]</answer>"
>>> dict(task.score(good, truth).parts)
{'iou': 1.0, 'confidence': 1.0, 'format': 1.0}
>>> task.score("<think>none</think><answer>No Objects</answer>", truth).total
1.0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NotRequired, TypedDict

from visual_rft.config.sections import StyleKind
from visual_rft.config.sources import QuestionKind
from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import rewards
from visual_rft.tasks.base import UNITS, Comparison, Task
from visual_rft.tasks.metrics.detection import detection_metrics
from visual_rft.tasks.parsing.completion import Failure, Parsed, location_tokens, without_location_tokens
from visual_rft.tasks.parsing.detections import NO_OBJECTS, Detections, parse_detections
from visual_rft.tasks.parsing.notations import Notation, tagged
from visual_rft.tasks.patterns import box_list, largest_coordinate
from visual_rft.tasks.samples import Prediction
from visual_rft.tasks.truth import boxes_of, confidence_of, frame_of, image_size_of, place_of, ready_made
from visual_rft.vision.boxes import Box, Matching, is_finite_number, match_by_confidence, match_hungarian
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.drawing import Mark

STYLES: tuple[StyleKind, ...] = ("method", "native", "plain")
TOKENS = CoordinateSpace.LOCATION_TOKENS
_CORNERS = {False: "[x1, y1, x2, y2]", True: "<top><left><bottom><right>"}
MATCHING: dict[str, Callable[..., Matching]] = {"confidence": match_by_confidence, "hungarian": match_hungarian}


class DetectionAnswer(TypedDict):
    """An answer of the detection task, which ``parse`` gives."""

    boxes: list[list[float]]
    """N boxes ``[x1, y1, x2, y2]`` in pixels of the original image."""
    confidence: list[float]
    """N numbers in [0, 1]."""
    unread: NotRequired[int]
    """Boxes beyond the parser's cap, where there are any."""
    unstated: NotRequired[list[int]]
    """Places of the boxes that were written without a confidence, where there are any; ``confidence`` is 1 there."""


def answer_of(found: Detections, frame: Frame) -> DetectionAnswer:
    """Boxes that were read, as an answer."""
    answer: DetectionAnswer = {"boxes": frame.to_pixels_each(found.boxes), "confidence": list(found.confidence)}
    if found.unread:
        answer["unread"] = found.unread
    if found.unstated:
        answer["unstated"] = list(found.unstated)
    return answer


@dataclass
class Found:
    """Predicted boxes matched to the true ones.

    Attributes:
        matching: at the task's threshold.
        soft_matching: makes the matching without a threshold.
        unread: boxes beyond the parser's cap.
        unstated: places of the boxes that were written without a confidence.
    """

    matching: Matching
    soft_matching: Callable[[], Matching]
    unread: int
    unstated: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """The detection task.

    The truth is a :class:`~visual_rft.tasks.truth.DetectionTruth`: ``boxes`` and ``image_size``; with ``category``,
    items that name another label are dropped.

    Attributes:
        iou_threshold: least IoU of a valid match, in [0, 1].
        matching: ``confidence`` (the paper's: the most confident box chooses first) or ``hungarian``.
    """

    iou_threshold: float = 0.5
    matching: str = "confidence"

    name = "detection"
    answers_boxes = True
    questions: ClassVar[QuestionKind] = "present"
    default_weights: ClassVar[Mapping[str, float]] = {"iou": 1.0, "confidence": 1.0, "format": 1.0}
    styles = STYLES
    headline = ("AP", "AP50", "AP75", "mean_iou")
    measured_as = "coco"
    rewards: ClassVar[Mapping[str, Callable[[Comparison], float]]] = {
        "iou": lambda found: rewards.iou(found.matching, found.unread),
        "iou_balanced": lambda found: rewards.iou_balanced(found.matching, found.unread),
        "iou_soft": lambda found: rewards.iou_balanced(found.soft_matching(), found.unread),
        "confidence": lambda found: rewards.confidence(found.matching, found.unstated),
        "confidence_brier": lambda found: rewards.confidence_brier(found.matching, found.unstated),
        "count": lambda found: rewards.count(found.matching, found.unread),
        "average_precision": lambda found: rewards.average_precision(found.matching),
    }
    _nothing: ClassVar[Any] = {"boxes": [], "confidence": []}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_finite_number(self.iou_threshold) and 0 <= self.iou_threshold <= 1):
            raise ConfigError(f"task.options.iou_threshold: {self.iou_threshold!r} is not in [0, 1]")
        if not isinstance(self.matching, str) or self.matching not in MATCHING:
            raise ConfigError(f"task.options.matching: {self.matching!r} is not one of {', '.join(MATCHING)}")

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        thought = "how many there are and where"
        if self.words is not None:
            return ready_made(question) or self._asked(str(question["category"]), True, thought, space)
        return ready_made(question) or (
            f"Find every {question['category']} in the image. {self._steps(thought)} "
            f"the list [{{'Position': {_CORNERS[space is TOKENS]}, 'Confidence': number}}, ...]. "
            f"Positions are {UNITS[space]}, confidence is between 0 and 1 with two decimals. "
            f"If there is none, the answer is {NO_OBJECTS}."
        )

    def classes_prompt(self, names: Sequence[str]) -> str:
        """The question which of ``names`` are in the image: the first of two stages when classes are not given."""
        return (
            f"Which of these are in the image: {', '.join(names)}? {self._steps('what you see')} their names, "
            f"separated by commas. If there is none, the answer is {NO_OBJECTS}."
        )

    def box_prompt(self, question: Mapping[str, Any], box: Box, frame: Frame) -> str:
        """The question whether a box, in pixels of the original image, holds what was asked for."""
        place = frame.from_pixels(box)
        corners = location_tokens(place) if frame.tokens else str(list(place))
        return f"Is the box {corners} around one {question['category']}, as tight as it can be? Answer Yes or No."

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        frame = frame_of(truth, frame)
        boxes = boxes_of(truth)
        confidence = confidence_of(truth, boxes)
        rows = sorted(zip(boxes, confidence, strict=True), key=lambda row: (row[0][1], row[0][0]))
        places = ", ".join(place_of(box, truth) for box, _ in rows)
        thought = f"{len(rows)} found: {places}" if rows else "none"
        return self._answer(thought, rows, frame, truth.get("category"))

    def answer_pattern(self, space: CoordinateSpace, names: Sequence[str]) -> str | None:
        if self.words is not None:
            return None
        return f"({box_list(largest_coordinate(space))}|{NO_OBJECTS})"

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        frame = frame_of(truth, frame)
        category = truth.get("category")
        if category is not None and not isinstance(category, str):
            raise DataError(f"truth.category: {category!r} is not a name; leave it out to believe every label")
        said, extra = tagged(completion, self.bare)
        text = without_location_tokens(said, "[{x1}, {y1}, {x2}, {y2}]") if frame.tokens else said
        parsed = parse_detections(text, frame.extent, category)
        if isinstance(parsed, Failure):
            return parsed
        return Parsed(answer_of(parsed.value, frame), (*extra, *self._noted(said, parsed.notes)))

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Found:
        boxes, confidence, true_boxes = answer["boxes"], answer["confidence"], boxes_of(truth)
        match = MATCHING[self.matching]
        return Found(
            match(boxes, confidence, true_boxes, self.iou_threshold),
            lambda: match(boxes, confidence, true_boxes, 0.0),
            answer.get("unread", 0),
            answer.get("unstated", ()),
        )

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        return {**detection_metrics(predictions), **self._rates(predictions)}

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        frame = frame_of(truth, frame)
        boxes = boxes_of(truth)
        width, height = image_size_of(truth)
        whole: Box = (0.0, 0.0, width, height)
        if not boxes:
            return {"hallucinated": self._answer("x", [((0, 0, width / 2, height / 2), 1.0)], frame)}
        rows = [(box, 1.0) for box in boxes]
        wrong = {
            "shifted": self._answer("x", [(shifted(box, whole), 1.0) for box in boxes], frame),
            "duplicated": self._answer("x", [*rows, rows[0]], frame),
            "empty": self._wrap("x", NO_OBJECTS),
            "same y": self._answer("x", [(_upper_half(box), 1.0) for box in boxes], frame),
        }
        if all((box[2] - box[0]) * (box[3] - box[1]) < 0.9 * width * height for box in boxes):
            wrong["whole image"] = self._answer("x", [(whole, 1.0)], frame)
            elsewhere = shifted(boxes[0], whole)
            wrong["hallucinated"] = self._answer("x", [*rows, (elsewhere, 1.0)], frame)
        return wrong

    def marks(self, question: Mapping[str, Any], answer: Any) -> list[Mark]:
        rows = zip(answer["boxes"], answer.get("scores", answer["confidence"]), strict=True)
        marks: list[Mark] = [(box, f"{question['category']} {confidence:.2f}") for box, confidence in rows]
        return marks or [(None, f"no {question['category']}")]

    def _answer(self, thought: str, rows: Sequence[tuple[Box, float]], frame: Frame, label: str | None = None) -> str:
        if self.words is not None:
            return self._wrap(thought, written(self.words, [(box, label) for box, _ in rows], frame))
        if not rows:
            return self._wrap(thought, NO_OBJECTS)
        places = [frame.from_pixels(box) for box, _ in rows]
        corners = [location_tokens(place) if frame.tokens else str(list(place)) for place in places]
        items = ", ".join(
            f"{{'Position': {place}, 'Confidence': {confidence:.2f}}}"
            for place, (_, confidence) in zip(corners, rows, strict=True)
        )
        return self._wrap(thought, f"[{items}]")


def written(words: Notation, rows: Sequence[tuple[Box, str | None]], frame: Frame) -> str:
    """Boxes in pixels, each with its label, in a notation and the units of ``frame``."""
    places = [(frame.from_pixels(box), label) for box, label in rows]
    return words.write([(location_tokens(p) if frame.tokens else words.place(p), label) for p, label in places])


def shifted(box: Box, whole: Box) -> Box:
    """The box moved by 80 % of its size towards the farther side of the image: IoU below 0.12, or cut at the edge."""
    x1, y1, x2, y2 = box
    across = 0.8 * (x2 - x1) * (1 if x1 + x2 < whole[2] else -1)
    down = 0.8 * (y2 - y1) * (1 if y1 + y2 < whole[3] else -1)
    return x1 + across, y1 + down, x2 + across, y2 + down


def _upper_half(box: Box) -> Box:
    """The same x and top y, but only 40 % of the height: it shares three coordinates with the truth."""
    x1, y1, x2, y2 = box
    return x1, y1, x2, y1 + 0.4 * (y2 - y1)
