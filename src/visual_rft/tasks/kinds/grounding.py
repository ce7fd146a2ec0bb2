"""Reasoning grounding: one box for an expression that takes reasoning to resolve (arXiv 2503.01785, section 4.4).

Decision: the answer is ``(x1,y1),(x2,y2)``, the form the Qwen-VL families write boxes in; ``R = IoU + R_format``.

>>> task = Grounding()
>>> truth = {"box": [10, 10, 50, 50], "image_size": [100, 100]}
>>> dict(task.score("<think>the left one</think><answer>(100,100),(500,500)</answer>", truth).parts)
{'iou': 1.0, 'format': 1.0}
>>> task.score("<think>the left one</think><answer>(500,500),(100,100)</answer>", truth).failure
'x2 <= x1'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visual_rft.errors import ConfigError
from visual_rft.tasks import rewards
from visual_rft.tasks.base import UNITS, Comparison, Task
from visual_rft.tasks.kinds.detection import STYLES, written
from visual_rft.tasks.parsing.answers import parse_box
from visual_rft.tasks.parsing.completion import Failure, Parsed, location_tokens, without_location_tokens
from visual_rft.tasks.parsing.notations import tagged
from visual_rft.tasks.patterns import corners, largest_coordinate
from visual_rft.tasks.samples import Prediction
from visual_rft.tasks.truth import box_of, frame_of, image_size_of, place_of, ready_made
from visual_rft.vision.boxes import Box, area, iou, is_finite_number
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.drawing import Mark

_ARTICLE = re.compile(r"^(?:an?|the) ")
_CORNERS = {False: "(x1,y1),(x2,y2)", True: "<top><left><bottom><right>"}


@dataclass(frozen=True)
class Pointed:
    """The answered box beside the true one."""

    box: Box
    truth: Box
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Grounding(Task):
    """The reasoning grounding task.

    The truth is a :class:`~visual_rft.tasks.truth.GroundingTruth`: ``box`` and ``image_size``.

    Attributes:
        hit_threshold: least IoU that the reward ``hit`` counts, in [0, 1].
    """

    hit_threshold: float = 0.5

    name = "grounding"
    answers_boxes = True
    questions = "refer"
    default_weights: ClassVar[Mapping[str, float]] = {"iou": 1.0, "format": 1.0}
    styles = STYLES
    headline = ("mean_iou", "hit_rate")
    answers_boxes = True
    measured_as = "box"
    rewards: ClassVar[Mapping[str, Callable[[Comparison], float]]] = {
        "iou": lambda p: rewards.box_iou(p.box, p.truth),
        "giou": lambda p: rewards.box_giou(p.box, p.truth),
        "hit": lambda p: rewards.box_hit(p.box, p.truth, p.threshold),
        "point": lambda p: rewards.box_point(p.box, p.truth),
    }
    _nothing: ClassVar[Any] = (0.0, 0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_finite_number(self.hit_threshold) and 0 <= self.hit_threshold <= 1):
            raise ConfigError(f"task.options.hit_threshold: {self.hit_threshold!r} is not in [0, 1]")

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        if self.words is not None:
            name = str(question.get("expression"))
            return ready_made(question) or self._asked(name, False, "which object is meant", space)
        return ready_made(question) or (
            f"Find {question['expression']} in the image. {self._steps('which object is meant')} "
            f"its box as {_CORNERS[space is CoordinateSpace.LOCATION_TOKENS]}. Coordinates are {UNITS[space]}."
        )

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        box = box_of(truth)
        where = place_of(box, truth)
        thought = f"{truth['thought']}, {where}" if truth.get("thought") else where
        return self._answer(thought, box, frame_of(truth, frame), _ARTICLE.sub("", str(truth.get("thought", ""))))

    def answer_pattern(self, space: CoordinateSpace, names: Sequence[str]) -> str | None:
        return None if self.words is not None else corners(largest_coordinate(space))

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        frame = frame_of(truth, frame)
        said, extra = tagged(completion, self.bare)
        text = without_location_tokens(said, "({x1},{y1}),({x2},{y2})") if frame.tokens else said
        parsed = parse_box(text, frame.extent)
        if isinstance(parsed, Failure):
            return parsed
        return Parsed(list(frame.to_pixels(parsed.value)), (*extra, *self._noted(said, parsed.notes)))

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Pointed:
        return Pointed(tuple(answer), box_of(truth), self.hit_threshold)

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """``mean_iou`` over questions (0 where no box was read), ``hit_rate`` at IoU 0.5; 0..1."""
        ious = [iou(tuple(p.score.answer), box_of(p.sample.truth)) if p.score.answer else 0.0 for p in predictions]
        return {
            "mean_iou": sum(ious) / len(ious),
            "hit_rate": sum(value >= 0.5 for value in ious) / len(ious),
            **self._rates(predictions),
        }

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        frame = frame_of(truth, frame)
        box = box_of(truth)
        width, height = image_size_of(truth)
        x1, y1, x2, y2 = box
        across = 0.8 * (x2 - x1) * (1 if x1 + x2 < width else -1)
        wrong = {
            "empty": self._wrap("x", ""),
            "same y": self._answer("x", (x1, y1, x2, y1 + 0.4 * (y2 - y1)), frame),
            "shifted": self._answer("x", (x1 + across, y1, x2 + across, y2), frame),
            "only in the thought": self._answer("x", box, frame).replace("answer>", "think>"),
            "two boxes": self._wrap("x", "(0,0),(500,500),(500,500),(1000,1000)"),
        }
        if area(box) < 0.9 * width * height:
            wrong["whole image"] = self._answer("x", (0.0, 0.0, width, height), frame)
        return wrong

    def marks(self, question: Mapping[str, Any], answer: Any) -> list[Mark]:
        return [(answer, ""), (None, str(question.get("expression", "")))]

    def _answer(self, thought: str, box: Box, frame: Frame, label: str | None = None) -> str:
        if self.words is not None:
            return self._wrap(thought, written(self.words, [(box, label)], frame))
        x1, y1, x2, y2 = place = frame.from_pixels(box)
        return self._wrap(thought, location_tokens(place) if frame.tokens else f"({x1},{y1}),({x2},{y2})")
