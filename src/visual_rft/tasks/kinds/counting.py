"""Counting: how many objects of one category are in the image, and with ``points`` where.

Decision: the number is the answer, and it is worth what it says: one number, without a doubt beside it. With points it
is also asked where the objects are, so that a guessed number is not worth as much as a count: they are asked for where
the reward ``points`` has a weight.

>>> task = Counting()
>>> truth = {"boxes": [[10, 10, 50, 50], [60, 60, 90, 90]], "image_size": [100, 100]}
>>> dict(task.score("<think>two</think><answer>2</answer>", truth).parts)
{'exact': 1.0, 'close': 1.0, 'format': 1.0}
>>> pointing = Counting(weights={"exact": 1, "points": 1})
>>> dict(pointing.score("<think>two</think><answer>2: (300,300), (10,10)</answer>", truth).parts)
{'exact': 1.0, 'points': 0.5}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visual_rft.tasks import rewards
from visual_rft.tasks.base import UNITS, Comparison, Task
from visual_rft.tasks.kinds.pointing import hits_of, written_points
from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, answer_text, normalized
from visual_rft.tasks.parsing.numbers import number_in
from visual_rft.tasks.parsing.points import Point, location_point, read_points, without_point_tokens
from visual_rft.tasks.parsing.spellings import NOTHING_THERE
from visual_rft.tasks.samples import Prediction
from visual_rft.tasks.truth import boxes_of, count_of, frame_of, ready_made
from visual_rft.vision.boxes import Box
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.drawing import Mark

MOST = 100_000
"""The largest number that is read as a count."""


@dataclass(frozen=True)
class Counted:
    """The number that was said beside the true one, and the points beside the true boxes."""

    said: int
    true: int
    points: Sequence[Point]
    unread: int
    boxes: Sequence[Box]


@dataclass(frozen=True, kw_only=True)
class Counting(Task):
    """The counting task.

    The truth is a :class:`~visual_rft.tasks.truth.CountingTruth`: ``count``, or ``boxes``, which points need.
    """

    name = "counting"
    questions = "present"
    default_weights: ClassVar[Mapping[str, float]] = {"exact": 1.0, "close": 0.5, "format": 1.0}
    headline = ("accuracy", "mean_error")
    rewards: ClassVar[Mapping[str, Callable[[Comparison], float]]] = {
        "exact": lambda c: rewards.count_exact(c.said, c.true),
        "close": lambda c: rewards.count_close(c.said, c.true),
        "points": lambda c: rewards.point_hits(len(hits_of(c.points, c.boxes)), len(c.points) + c.unread, len(c.boxes)),
    }
    _nothing: ClassVar[Any] = {"count": -1, "points": []}

    @property
    def points(self) -> bool:
        """Whether points are asked for."""
        return bool(self._weights.get("points"))

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        asked = ready_made(question)
        if asked:
            return asked
        text = f"How many of {question['category']} are in the image? {self._steps('where they are')} the number"
        if not self.points:
            return f"{text} and nothing else."
        one = "<y><x>" if space is CoordinateSpace.LOCATION_TOKENS else "(x,y)"
        return (
            f"{text}, then a point on each as 2: {one}, {one}. Coordinates are {UNITS[space]}. "
            "If there is none, the answer is 0."
        )

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        count = count_of(truth)
        thought = str(truth.get("thought", f"{count} found" if count else "none"))
        if not self.points:
            return self._wrap(thought, str(count))
        return self._answer(thought, count, [_centre(box) for box in boxes_of(truth)], frame_of(truth, frame))

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        found = answer_text(completion)
        if isinstance(found, Failure):
            return found
        body, cut = found
        if cut:  # "1" may be the beginning of "12"
            return Failure(Reason.TRUNCATED)
        number, colon, rest = body.partition(":")
        places = rest.strip() if colon and number.strip().isdigit() else ""
        counted = number_in(number.strip() if places else body.rstrip(" :"))
        if isinstance(counted, Failure) and len(body) < 40 and normalized(body) in NOTHING_THERE:
            counted = Parsed(0.0, ("0 written otherwise",))
        if isinstance(counted, Failure):
            return counted
        if not (0 <= counted.value <= MOST and counted.value == int(counted.value)):
            return Failure(Reason.NOT_A_NUMBER)
        answer: dict[str, Any] = {"count": int(counted.value), "points": []}
        notes = list(counted.notes)
        if counted.notes == () and (number if places else body).strip() != str(answer["count"]):
            notes.append("number written otherwise")
        if places:
            frame = frame_of(truth, frame)
            read = read_points(without_point_tokens(places) if frame.tokens else places, frame.extent)
            if isinstance(read, Failure):
                return read
            answer["points"] = [list(frame.point_to_pixels(point)) for point in read.value.points]
            if read.value.unread:
                answer["unread"] = read.value.unread
            notes += read.notes if self.points else ["points beside the number"]
        elif self.points and answer["count"]:
            notes.append("no points")
        return Parsed(answer, tuple(notes))

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Counted:
        boxes = boxes_of(truth) if self.points or "boxes" in truth else ()
        points = [(x, y) for x, y in answer["points"]]
        return Counted(answer["count"], count_of(truth), points, answer.get("unread", 0), boxes)

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """``accuracy`` (0..1) and ``mean_error`` (objects) over questions; an answer that was not read counts as 0."""
        pairs = [((p.score.answer or {"count": 0})["count"], count_of(p.sample.truth)) for p in predictions]
        return {
            "accuracy": sum(p.score.answer is not None and said == true
                            for p, (said, true) in zip(predictions, pairs, strict=True)) / len(pairs),
            "mean_error": sum(abs(said - true) for said, true in pairs) / len(pairs),
            **self._rates(predictions),
        }  # fmt: skip

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        count = count_of(truth)
        wrong = {
            "one more": self._wrap("x", str(count + 1)),
            "a range": self._wrap("x", f"{count} or {count + 1}"),
            "a word": self._wrap("x", "many"),
            "only in the thought": self._wrap(str(count), "x"),
        }
        if self.points and count:
            wrong["no points"] = self._wrap("x", str(count))
        return wrong

    def marks(self, question: Mapping[str, Any], answer: Any) -> list[Mark]:
        return [*written_points(answer["points"]), (None, str(answer["count"]))]

    def _answer(self, thought: str, count: int, points: Sequence[Point], frame: Frame) -> str:
        if not points:
            return self._wrap(thought, str(count))
        places = [frame.point_from_pixels(point) for point in points]
        return self._wrap(
            thought, f"{count}: " + ", ".join(location_point(p) if frame.tokens else f"({p[0]},{p[1]})" for p in places)
        )


def _centre(box: Box) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
