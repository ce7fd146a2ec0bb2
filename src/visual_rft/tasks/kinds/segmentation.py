"""Segmentation by words: a box and points are answered, and a promptable segmenter makes the mask of them.

Decision: the model writes what a segmenter is prompted with, as in Seg-Zero (arXiv 2503.06520); the reward is the IoU
of the mask that comes out with the true one, so that what is trained is what is wanted. ``segmenter`` names a model of
the SAM family; without one the box itself stands for the mask, and nothing but the truth is needed. Where the thing is
not in the image the answer is ``No Objects``.

>>> task = Segmentation()
>>> truth = {"segmentation": [[10, 10, 50, 10, 50, 50, 10, 50]], "image_size": [100, 100]}
>>> right = "<think>it</think><answer>{'Position': [100, 100, 500, 500], 'Points': [[300, 300]]}</answer>"
>>> dict(task.score(right, truth).parts)
{'mask_iou': 1.0, 'format': 1.0}
>>> task.score(right, {"segmentation": None, "image_size": [100, 100]}).parts["mask_iou"]
0.0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import rewards
from visual_rft.tasks.base import UNITS, Comparison, Task
from visual_rft.tasks.kinds.detection import shifted
from visual_rft.tasks.kinds.pointing import written_points
from visual_rft.tasks.parsing.completion import Failure, Parsed, location_tokens, without_location_tokens
from visual_rft.tasks.parsing.detections import NO_OBJECTS
from visual_rft.tasks.parsing.points import Point, location_point, without_point_tokens
from visual_rft.tasks.parsing.prompts import parse_prompt
from visual_rft.tasks.samples import Prediction, Sample, Score
from visual_rft.tasks.truth import frame_of, image_size_of, place_of, ready_made
from visual_rft.vision.boxes import Box, as_box
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.drawing import Mark
from visual_rft.vision.images import ImageFile
from visual_rft.vision.masks import Mask, box_as_mask, box_of_mask, holds, inner_point, mask_iou, true_mask
from visual_rft.vision.segmenter import load_segmenter

_FORM = {
    False: "{'Position': [x1, y1, x2, y2], 'Points': [[x, y], ...]}",
    True: "{'Position': <top><left><bottom><right>, 'Points': [<y><x>, ...]}",
}


@dataclass(frozen=True)
class Segmented:
    """The answered box and points beside the true mask; None where there is nothing.

    Attributes:
        box, points: what was answered, in pixels.
        mask: makes the mask of the answer.
        truth: the true mask.
    """

    box: Box | None
    points: Sequence[Point]
    mask: Callable[[], Mask]
    truth: Mask | None

    def worth(self, value: Callable[[Mask, Box], float]) -> float:
        """``value`` of the true mask and the answered box; where one of them is missing, whether both are."""
        if self.truth is None or self.box is None:
            return float(self.truth is None and self.box is None)
        return value(self.truth, self.box)

    @property
    def points_inside(self) -> float:
        """Share of the answered points that lie on the true mask; 0 without points."""
        return self.worth(lambda truth, _: sum(holds(truth, p) for p in self.points) / max(1, len(self.points)))


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """The segmentation task.

    The truth is a :class:`~visual_rft.tasks.truth.SegmentationTruth`: ``segmentation``, null for no target, and
    ``image_size``.

    Attributes:
        segmenter: folder or hub id of a SAM model of transformers; None takes the box for the mask.
    """

    segmenter: str | None = None

    name = "segmentation"
    questions = "refer"
    default_weights: ClassVar[Mapping[str, float]] = {"mask_iou": 1.0, "format": 1.0}
    headline = ("mask_iou", "mask_hit_rate")
    answers_boxes = True
    rewards: ClassVar[Mapping[str, Callable[[Comparison], float]]] = {
        "mask_iou": lambda s: s.worth(lambda truth, _: mask_iou(s.mask(), truth)),
        "box_iou": lambda s: s.worth(lambda truth, box: rewards.box_iou(box, box_of_mask(truth))),
        "points": lambda s: s.points_inside,
    }
    _nothing: ClassVar[Any] = {"boxes": [], "points": []}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.segmenter is None or (isinstance(self.segmenter, str) and self.segmenter)):
            raise ConfigError(f"task.options.segmenter: {self.segmenter!r} is not a folder or hub id")

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        return ready_made(question) or (
            f"Find {question['expression']} in the image. {self._steps('which object is meant')} its box and points "
            f"on it as {_FORM[space is CoordinateSpace.LOCATION_TOKENS]}. Coordinates are {UNITS[space]}. "
            f"If it is not in the image, the answer is {NO_OBJECTS}."
        )

    def completed(self, sample: Sample) -> Sample:
        if self.segmenter is None or "image" in sample.truth:
            return sample
        image = sample.images[0]
        if not isinstance(image, ImageFile):
            raise DataError("task.options.segmenter needs images that are files of their own, e.g. of a jsonl source")
        return replace(sample, truth={**sample.truth, "image": str(image.path)})

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        mask = _mask_of(truth)
        if mask is None:
            return self._wrap("it is not there", NO_OBJECTS)
        box = box_of_mask(mask)
        where = place_of(box, truth)
        thought = f"{truth['thought']}, {where}" if truth.get("thought") else where
        return self._answer(thought, box, [inner_point(mask)], frame_of(truth, frame))

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        frame = frame_of(truth, frame)
        if frame.tokens:
            completion = without_location_tokens(completion, "[{x1}, {y1}, {x2}, {y2}]")
            completion = without_point_tokens(completion, "[{x}, {y}]")
        parsed = parse_prompt(completion, frame.extent)
        if isinstance(parsed, Failure):
            return parsed
        boxes = [] if parsed.value.box is None else [list(frame.to_pixels(parsed.value.box))]
        points = [list(frame.point_to_pixels(point)) for point in parsed.value.points]
        return Parsed({"boxes": boxes, "confidence": [1.0] * len(boxes), "points": points}, parsed.notes)

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Segmented:
        box = as_box(answer["boxes"][0]) if answer["boxes"] else None
        points = [(x, y) for x, y in answer["points"]]
        mask = _mask_of(truth)

        def made() -> Mask:
            assert box is not None
            return self._mask(box, points, truth)

        return Segmented(box, points, made, mask)

    def not_full(self, score: Score) -> dict[str, float]:
        """As every task, but for what the segmenter, or a box in place of a mask, cannot do better."""
        return {name: v for name, v in super().not_full(score).items() if name not in ("mask_iou", "box_iou")}

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """``mask_iou`` over questions (0 where nothing was read), ``mask_hit_rate`` at IoU 0.5; 0..1."""
        ious = [self._iou(p) for p in predictions]
        return {
            "mask_iou": sum(ious) / len(ious),
            "mask_hit_rate": sum(value >= 0.5 for value in ious) / len(ious),
            **self._rates(predictions),
        }

    def _iou(self, prediction: Prediction) -> float:
        known = prediction.score.parts.get("mask_iou")
        if known is not None or prediction.score.answer is None:
            return known or 0.0
        return self.rewards["mask_iou"](self.compare(prediction.score.answer, prediction.sample.truth))

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        frame, mask = frame_of(truth, frame), _mask_of(truth)
        width, height = image_size_of(truth)
        whole: Box = (0.0, 0.0, width, height)
        if mask is None:
            return {"hallucinated": self._answer("x", whole, [(width / 2, height / 2)], frame)}
        box = box_of_mask(mask)
        moved = shifted(box, whole)
        gold = self.gold(truth, frame)
        wrong = {
            "empty": self._wrap("x", ""),
            "nothing there": self._wrap("x", NO_OBJECTS),
            "shifted": self._answer("x", moved, [((moved[0] + moved[2]) / 2, (moved[1] + moved[3]) / 2)], frame),
            "only in the thought": gold.replace("answer>", "think>"),
        }
        if mask.mean() < 0.5:
            wrong["whole image"] = self._answer("x", whole, [], frame)
        return wrong

    def marks(self, question: Mapping[str, Any], answer: Any) -> list[Mark]:
        said = str(question.get("expression", ""))
        boxes: list[Mark] = [(box, "") for box in answer["boxes"]]
        return [*boxes, *written_points(answer["points"]), (None, said if boxes else f"no {said}")]

    def _mask(self, box: Box, points: Sequence[Point], truth: Mapping[str, Any]) -> Mask:
        """The mask of an answer: the segmenter's, or the box itself.

        Raises:
            DataError: if the segmenter does not know which picture is meant, or it is not of the stated size.
        """
        size = image_size_of(truth)
        if self.segmenter is None:
            return box_as_mask(box, size)
        file = truth.get("image")
        if not isinstance(file, str):
            raise DataError('truth.image: is missing; the segmenter needs the picture, write {"image": "file", ...}')
        picture = ImageFile(Path(file)).load()
        if picture.size != tuple(size):
            raise DataError(f"truth.image_size: {list(size)} is not that of {file}, {list(picture.size)}")
        return load_segmenter(self.segmenter).mask(picture, box, points, key=file)

    def _answer(self, thought: str, box: Box, points: Sequence[Point], frame: Frame) -> str:
        corners = frame.from_pixels(box)
        places = [frame.point_from_pixels(point) for point in points]
        written = location_tokens(corners) if frame.tokens else str(list(corners))
        dots = ", ".join(location_point(p) if frame.tokens else str(list(p)) for p in places)
        return self._wrap(thought, f"{{'Position': {written}, 'Points': [{dots}]}}")


def _mask_of(truth: Mapping[str, Any]) -> Mask | None:
    """The true mask; None where the thing is not in the image.

    Raises:
        DataError: if it is missing or no mask.
    """
    if "segmentation" not in truth:
        raise DataError("truth.segmentation: is missing; write polygons or an RLE, or null where nothing is meant")
    if truth["segmentation"] is None:
        return None
    return true_mask(truth["segmentation"], image_size_of(truth), "truth")
