"""Detection: find every object of one category, boxes with confidence (arXiv 2503.01785, section 3.2).

Decision: the category is in the question, so one image with three classes gives three questions; the rewards are the
paper's, ``R = R_IoU + R_conf + R_format``, each part in [0, 1].

>>> task = Detection()
>>> truth = {"boxes": [[10, 10, 50, 50]], "image_size": [100, 100]}
>>> good = "<think>one</think><answer>[{'Position': [100, 100, 500, 500], 'Confidence': 1.00}]</answer>"
>>> dict(task.score(good, truth).parts)
{'iou': 1.0, 'confidence': 1.0, 'format': 1.0}
>>> task.score("<think>none</think><answer>No Objects</answer>", truth).total
1.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visual_rft.errors import ConfigError
from visual_rft.tasks.answers import Failure, has_tag_format, parse_detections
from visual_rft.tasks.base import Score
from visual_rft.vision.boxes import FloatArray, Matching, as_boxes, match_by_confidence
from visual_rft.vision.coordinates import CoordinateSpace, Frame

NO_OBJECTS = "No Objects"
_UNITS = {
    CoordinateSpace.RELATIVE_1000: "integers from 0 to 1000 measured from the top left corner",
    CoordinateSpace.PROCESSED_PIXELS: "integers in pixels measured from the top left corner",
    CoordinateSpace.PIXELS: "integers in pixels measured from the top left corner",
}


def iou_reward(matching: Matching, truth_count: int) -> float:
    """``R_IoU``: mean over the *predicted* boxes of the IoU with the matched true box, 0 where unmatched. In [0, 1].

    With no prediction it is 1 if there was nothing to find, else 0.
    """
    if len(matching.iou) == 0:
        return float(truth_count == 0)
    return float(matching.iou.mean())


def confidence_reward(matching: Matching, confidence: FloatArray, truth_count: int) -> float:
    """``R_conf``: mean over the predicted boxes of ``c`` where matched and ``1 - c`` where not. In [0, 1].

    With no prediction it is 1 if there was nothing to find, else 0.
    """
    if len(confidence) == 0:
        return float(truth_count == 0)
    return float(np.where(matching.matched, confidence, 1 - confidence).mean())


def _default_frame(truth: Mapping[str, Any]) -> Frame:
    width, height = truth["image_size"]
    return Frame.of(CoordinateSpace.RELATIVE_1000, (width, height))


@dataclass(frozen=True)
class Detection:
    """The detection task.

    Attributes:
        think: whether the prompt asks for reasoning first and the format reward wants it.
        iou_threshold: least IoU of a valid match, in [0, 1].
        weights: factor of each reward part in the total; a part that is not named has weight 0.
    """

    think: bool = True
    iou_threshold: float = 0.5
    weights: Mapping[str, float] = field(default_factory=lambda: {"iou": 1.0, "confidence": 1.0, "format": 1.0})
    name: str = "detection"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - {"iou", "confidence", "format"})
        if unknown:
            raise ConfigError(f"task.weights: unknown reward {unknown[0]!r}; choose from iou, confidence, format")

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        before, after = self._phrases(space)
        return f"{before}{question['category']}{after}"

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        frame = frame or _default_frame(truth)
        boxes = as_boxes(truth["boxes"])
        order = np.lexsort((boxes[:, 0], boxes[:, 1])) if len(boxes) else np.zeros(0, dtype=int)
        units = frame.from_pixels(boxes[order])
        confidence = np.asarray(truth.get("confidence", np.ones(len(boxes))))[order]
        items = ", ".join(
            f"{{'Position': [{x1}, {y1}, {x2}, {y2}], 'Confidence': {c:.2f}}}"
            for (x1, y1, x2, y2), c in zip(units.tolist(), confidence.tolist(), strict=True)
        )
        answer = f"<answer>[{items}]</answer>" if len(boxes) else f"<answer>{NO_OBJECTS}</answer>"
        return f"<think>{self._thought(boxes[order], frame)}</think>{answer}" if self.think else answer

    def score(self, completion: str, truth: Mapping[str, Any], frame: Frame | None = None) -> Score:
        true_boxes = as_boxes(truth["boxes"])
        frame = frame or _default_frame(truth)
        parts = {"iou": 0.0, "confidence": 0.0, "format": float(has_tag_format(completion, self.think))}
        parsed = parse_detections(completion, frame.extent)
        if isinstance(parsed, Failure):
            return Score(parts, self._total(parts), failure=parsed.reason)
        predicted = frame.to_pixels(parsed.boxes)
        confidence = np.asarray(parsed.confidence)
        matching = match_by_confidence(predicted, confidence, true_boxes, self.iou_threshold)
        parts["iou"] = iou_reward(matching, len(true_boxes))
        parts["confidence"] = confidence_reward(matching, confidence, len(true_boxes))
        answer = {"boxes": predicted.tolist(), "confidence": confidence.tolist()}
        return Score(parts, self._total(parts), answer=answer, notes=parsed.notes)

    def vocabulary(self) -> Sequence[str]:
        before, after = self._phrases(CoordinateSpace.RELATIVE_1000)
        places = [f"{v} {h}" for v in ("top", "middle", "bottom") for h in ("left", "centre", "right")]
        return [
            before, after, "<think>", "</think>", "<answer>", "</answer>", "[{'Position': [", "], 'Confidence': ",
            "}, {'Position': [", "}]</answer>", f"<answer>{NO_OBJECTS}</answer>", "</think><answer>[{'Position': [",
            "none", " found: ", ", ", *places,
        ]  # fmt: skip

    def _total(self, parts: Mapping[str, float]) -> float:
        return sum(self.weights.get(name, 0.0) * value for name, value in parts.items())

    def _phrases(self, space: CoordinateSpace) -> tuple[str, str]:
        steps = (
            "First say inside <think></think> how many there are and where. Then write inside <answer></answer>"
            if self.think
            else "Write inside <answer></answer>"
        )
        return "Find every ", (
            f" in the image. {steps} the list [{{'Position': [x1, y1, x2, y2], 'Confidence': number}}, ...]. "
            f"Positions are {_UNITS[space]}, confidence is between 0 and 1 with two decimals. "
            f"If there is none, the answer is {NO_OBJECTS}."
        )

    @staticmethod
    def _thought(boxes: FloatArray, frame: Frame) -> str:
        """The reasoning a supervised answer shows: how many and roughly where, e.g. ``2 found: top left, ...``."""
        if len(boxes) == 0:
            return "none"
        width, height = frame.image_size
        places = []
        for x1, y1, x2, y2 in boxes.tolist():
            column = min(2, int(3 * (x1 + x2) / 2 / width))
            row = min(2, int(3 * (y1 + y2) / 2 / height))
            places.append(f"{('top', 'middle', 'bottom')[row]} {('left', 'centre', 'right')[column]}")
        return f"{len(boxes)} found: {', '.join(places)}"
