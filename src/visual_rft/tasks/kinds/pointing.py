"""Pointing: a point on what is meant, or on every object of a category. A click on a screen is this, too.

Decision: a point is a hit if it lies in the true box, or mask, and each place wants a point of its own, so that
scattered points do not pay. The centre of the place is the gold answer.

>>> task = Pointing()
>>> truth = {"box": [10, 10, 50, 50], "image_size": [100, 100]}
>>> dict(task.score("<think>the button</think><answer>(200,300)</answer>", truth).parts)
{'hit': 1.0, 'format': 1.0}
>>> task.score("<think>a guess</think><answer>(200,300), (900,900)</answer>", truth).failure
'more than one point'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import rewards
from visual_rft.tasks.base import UNITS, Comparison, Task
from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, answer_text
from visual_rft.tasks.parsing.detections import NO_OBJECTS
from visual_rft.tasks.parsing.points import Point, location_point, read_points, without_point_tokens
from visual_rft.tasks.samples import Prediction
from visual_rft.tasks.truth import box_of, boxes_of, frame_of, image_size_of, place_of, ready_made
from visual_rft.vision.boxes import Box
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.drawing import Mark
from visual_rft.vision.masks import Mask, box_of_mask, holds, inner_point, true_mask

DRAWN = 3.0
"""Pixels from a point to the sides of the square that stands for it."""


@dataclass(frozen=True)
class Place:
    """Where a point is a hit: a box, or a mask in it; and the point of the gold answer."""

    box: Box
    mask: Mask | None = None

    @property
    def gold(self) -> Point:
        """The centre of the box, or a point deep inside the mask."""
        if self.mask is not None:
            return inner_point(self.mask)
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    def holds(self, point: Point) -> bool:
        """Whether a point, in pixels, is a hit."""
        if self.mask is not None:
            return holds(self.mask, point)
        x1, y1, x2, y2 = self.box
        return x1 <= point[0] <= x2 and y1 <= point[1] <= y2


def hits_of(points: Sequence[Point], boxes: Sequence[Box]) -> dict[int, int]:
    """Which box each point takes, as many as can be, each box by one point: box by point, by their numbers."""
    return _matched([[place for place, box in enumerate(boxes) if Place(box).holds(point)] for point in points])


def _matched(inside: Sequence[Sequence[int]]) -> dict[int, int]:
    """A largest matching of points to the places that they lie in (augmenting paths)."""
    taken: dict[int, int] = {}

    def find(point: int, seen: set[int]) -> bool:
        for place in inside[point]:
            if place not in seen:
                seen.add(place)
                if place not in taken or find(taken[place], seen):
                    taken[place] = point
                    return True
        return False

    for point in range(len(inside)):
        find(point, set())
    return {point: place for place, point in taken.items()}


def written_points(points: Sequence[Sequence[float]]) -> list[Mark]:
    """How points, in pixels, are drawn."""
    return [([x - DRAWN, y - DRAWN, x + DRAWN, y + DRAWN], "") for x, y in points]


@dataclass(frozen=True)
class PointedTo:
    """The answered points beside the true places.

    Attributes:
        points: N, in pixels of the image.
        unread: points beyond the parser's cap.
        places: M.
        reach: half the diagonal of the image, in pixels.
    """

    points: Sequence[Point]
    unread: int
    places: Sequence[Place]
    reach: float

    @property
    def hits(self) -> int:
        """Places with a point of their own."""
        return len(_matched([[n for n, place in enumerate(self.places) if place.holds(p)] for p in self.points]))

    @property
    def near(self) -> float:
        """Sum over the places of the nearness of their nearest points, each point used once, over the greater number.

        A hit counts as at the centre, so that the gold answer of an odd mask is full.
        """
        pairs = sorted(
            ((1.0 if place.holds(p) else rewards.point_near(p, place.gold, self.reach), i, j)
             for i, p in enumerate(self.points) for j, place in enumerate(self.places)), reverse=True
        )  # fmt: skip
        used: tuple[set[int], set[int]] = (set(), set())
        total = 0.0
        for value, i, j in pairs:
            if i not in used[0] and j not in used[1]:
                used[0].add(i)
                used[1].add(j)
                total += value
        most = max(len(self.points) + self.unread, len(self.places))
        return total / most if most else 1.0


@dataclass(frozen=True, kw_only=True)
class Pointing(Task):
    """The pointing task.

    The truth is a :class:`~visual_rft.tasks.truth.PointingTruth`: ``box``, ``boxes`` or ``segmentation``, and
    ``image_size``.

    Attributes:
        every: ask for a point on every object of a category, not for one on what an expression means.
    """

    every: bool = False

    name = "pointing"
    questions = "refer"
    default_weights: ClassVar[Mapping[str, float]] = {"hit": 1.0, "format": 1.0}
    headline = ("hit_rate",)
    rewards: ClassVar[Mapping[str, Callable[[Comparison], float]]] = {
        "hit": lambda p: rewards.point_hits(p.hits, len(p.points) + p.unread, len(p.places)),
        "near": lambda p: p.near,
    }
    _nothing: ClassVar[Any] = {"points": []}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.every, bool):
            raise ConfigError(f"task.options.every: {self.every!r} is not true or false")
        if self.every:
            object.__setattr__(self, "questions", "present")  # what a source asks where the config does not say

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        one = "<y><x>" if space is CoordinateSpace.LOCATION_TOKENS else "(x,y)"
        asked = ready_made(question)
        if asked:
            return asked
        if self.every:
            return (
                f"Point to every {question['category']} in the image. {self._steps('how many there are and where')} "
                f"a point on each as {one}, {one}. Coordinates are {UNITS[space]}. "
                f"If there is none, the answer is {NO_OBJECTS}."
            )
        return (
            f"Point to {question['expression']} in the image. {self._steps('which object is meant')} "
            f"one point on it as {one}. Coordinates are {UNITS[space]}."
        )

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        frame, places = frame_of(truth, frame), self._places(truth)
        where = ", ".join(place_of(place.box, truth) for place in places)
        thought = f"{truth['thought']}, {where}" if truth.get("thought") else where or "none"
        return self._answer(thought, [place.gold for place in places], frame)

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        frame = frame_of(truth, frame)
        found = answer_text(completion)
        if isinstance(found, Failure):
            return found
        body, cut = found
        if cut:
            return Failure(Reason.TRUNCATED)
        read = read_points(without_point_tokens(body) if frame.tokens else body, frame.extent)
        if isinstance(read, Failure):
            return read
        points, unread = read.value
        if not self.every and len(points) + unread != 1:
            return Failure(Reason.MORE_THAN_ONE_POINT if points else Reason.NOT_A_POINT)
        answer: dict[str, Any] = {"points": [list(frame.point_to_pixels(point)) for point in points]}
        if unread:
            answer["unread"] = unread
        return Parsed(answer, read.notes)

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> PointedTo:
        width, height = image_size_of(truth)
        points = [(x, y) for x, y in answer["points"]]
        reach = (width * width + height * height) ** 0.5 / 2
        return PointedTo(points, answer.get("unread", 0), self._places(truth), reach)

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """``hit_rate``: places that were hit, of ``every`` over the larger number of points and places; 0..1.

        ``precision`` and ``recall`` are of all points and places together.
        """
        compared = [self.compare(p.score.answer or self._nothing, p.sample.truth) for p in predictions]
        hits, points = sum(c.hits for c in compared), sum(len(c.points) + c.unread for c in compared)
        places = sum(len(c.places) for c in compared)
        worth = [
            self.rewards["hit"](c) if p.score.answer is not None else 0.0
            for c, p in zip(compared, predictions, strict=True)
        ]
        return {
            "hit_rate": sum(worth) / len(worth),
            "precision": hits / points if points else -1.0,
            "recall": hits / places if places else -1.0,
            **self._rates(predictions),
        }

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        frame, places = frame_of(truth, frame), self._places(truth)
        width, height = image_size_of(truth)
        gold = self.gold(truth, frame)
        wrong = {"empty": self._wrap("x", ""), "only in the thought": gold.replace("answer>", "think>")}
        corners = [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)]
        beside = [corner for corner in corners if not any(place.holds(corner) for place in places)]
        if beside:
            wrong["beside"] = self._answer("x", beside[:1], frame)
            wrong["scattered"] = self._answer("x", [*(place.gold for place in places), *beside], frame)
        if places:
            wrong["nothing there"] = self._wrap("x", NO_OBJECTS)
            twice = [place.gold for place in places for _ in range(2)]
            wrong["every point twice"] = self._answer("x", twice, frame)
        return wrong

    def marks(self, question: Mapping[str, Any], answer: Any) -> list[Mark]:
        said = question.get("category" if self.every else "expression", question.get("problem", ""))
        return [*written_points(answer["points"]), (None, str(said))]

    def _places(self, truth: Mapping[str, Any]) -> list[Place]:
        """Where points are hits.

        Raises:
            DataError: if the truth has none of the fields, or one that is not what it should be.
        """
        if truth.get("segmentation") is not None:
            mask = true_mask(truth["segmentation"], image_size_of(truth), "truth")
            return [Place(box_of_mask(mask), mask)]
        if "boxes" in truth:
            boxes = boxes_of(truth)
            if not self.every and len(boxes) != 1:
                raise DataError(
                    f"truth.boxes: {len(boxes)} boxes where one point is asked for; set task.options.every: true to "
                    "ask for all of them"
                )
            return [Place(box) for box in boxes]
        return [Place(box_of(truth))]

    def _answer(self, thought: str, points: Sequence[Point], frame: Frame) -> str:
        if not points:
            return self._wrap(thought, NO_OBJECTS)
        places = [frame.point_from_pixels(point) for point in points]
        return self._wrap(thought, ", ".join(location_point(p) if frame.tokens else f"({p[0]},{p[1]})" for p in places))
