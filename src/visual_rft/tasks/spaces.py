"""Wrong units of boxes, found out from the boxes: the number one reason for an IoU reward that stays at zero.

Decision: evidence first, words after. A hint is given only where the boxes as they are understood fit nothing and the
same numbers in other units fit well, so a model that merely points badly hears nothing. It names what to set.

>>> from visual_rft.tasks import load_task
>>> truth = {"boxes": [[300, 200, 500, 400]], "image_size": [640, 480]}
>>> said = "<answer>[{'Position': [301, 199, 498, 402], 'Confidence': 0.9}]</answer>"  # pixels, read as 0..1000
>>> hint = wrong_space_hint(load_task("detection"), [Answered(said, truth, Frame((640, 480), (1000, 1000)))] * 8)
>>> hint.partition(": ")[2]
'read as pixels of the image they do (0.97); set model.family.coordinates: pixels'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from visual_rft.tasks.base import Task
from visual_rft.tasks.mixture import Tasks
from visual_rft.tasks.parsing.completion import Failure
from visual_rft.tasks.samples import Sample
from visual_rft.tasks.truth import frame_of, image_size_of, labelled_boxes
from visual_rft.vision.boxes import Box, as_box, iou
from visual_rft.vision.coordinates import CoordinateSpace, Frame

MAX_QUESTIONS_LOOKED_AT = 1000
"""Questions of a data set that are looked at, spread over it."""
LEAST_ANSWERS = 8
"""Answers to say anything about."""
WATCHED_ANSWERS = 256
"""Completions of a run that are looked at: the first 32 groups of 8."""
MISSED, MET = 0.1, 0.4
"""Mean IoU below which answers fit nothing, and above which they fit. Boxes at random places of an image overlap an
object by 0.1 or less; a base model that finds objects roughly reaches 0.5 (docs/tiny.md)."""
LEAST_BOXES = 20
"""True boxes to say anything about."""
NEAR_EDGE = 0.9
"""Share of a side (of the image, or of 1000) that the farthest box must reach. Boxes that stop short of it may all lie
in one corner and fit either units; if boxes end anywhere, all 40 ends of 20 boxes stop short in 1.5 % of data sets
(0.9 ** 40)."""
LONGEST_SIDE = 950
"""Pixels below which all sides of a table's images must be. Boxes rightly in 0..1000 all end inside such an image by
chance in at most 13 % of data sets (0.95 ** 40), where sides are 640 practically never (0.64 ** 40)."""
SHORTEST_SIDE = 1100
"""Pixels above which all sides of a file's images must be. Boxes rightly in pixels all stop at 1000 by chance in at
most 2 % of data sets ((1000 / 1100) ** 40)."""


class Answered(NamedTuple):
    """A completion, the truth, and the units in which its boxes are understood (None: 0..1000)."""

    text: str
    truth: Mapping[str, Any]
    frame: Frame | None


def wrong_space_hint(task: Task, answers: Sequence[Answered]) -> str | None:
    """What to change if answers meet nothing in their units, but their objects in others; None if all is well.

    Args:
        task: the one that asked; where its answers hold no boxes (``Task.answers_boxes``) there is no hint.
        answers: about images with objects; those without are passed over.
    """
    if not task.answers_boxes:
        return None
    asked: list[float] = []
    others: dict[str, list[float]] = {}
    claimed = False
    for answered in answers:
        true = labelled_boxes(answered.truth)
        if not true or "image_size" not in answered.truth:
            continue
        claimed = claimed or "space" in answered.truth
        frame, size = frame_of(answered.truth, answered.frame), image_size_of(answered.truth)
        bare = {key: value for key, value in answered.truth.items() if key != "space"}
        asked.append(_fit(task, answered.text, bare, frame, true))
        for name, other in _candidates(size):
            if other.extent != frame.extent:
                others.setdefault(name, []).append(_fit(task, answered.text, bare, other, true))
    if len(asked) < LEAST_ANSWERS or _mean(asked) >= MISSED:
        return None
    fitting = {name: _mean(values) for name, values in others.items() if len(values) == len(asked)}
    best = max(fitting, key=lambda name: fitting[name], default="")
    if not best or fitting[best] < MET:
        return None
    remedy = f"correct 'space' of the data's truth to {best}" if claimed else f"set model.family.coordinates: {best}"
    return (
        f"boxes meet no object in the units they are asked for (mean IoU {_mean(asked):.2f} of {len(asked)} answers): "
        f"read as {_WORDS[best]} they do ({fitting[best]:.2f}); {remedy}"
    )


class SpaceWatch:
    """Looks at the first answers of a run, and says once what their units seem to be.

    Args:
        tasks: that asked, each of which is watched apart.
    """

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self.answered: dict[str, list[Answered]] = {name: [] for name in tasks.each}

    def look(
        self, samples: Sequence[Sample], frames: Sequence[Frame | None], texts: Sequence[Sequence[str]]
    ) -> str | None:
        """The hint of :func:`wrong_space_hint` when enough answers of a task were seen; None before and ever after.

        Args:
            samples: B questions.
            frames: units of the answers to each.
            texts: G completions of each.
        """
        hints = []
        for name, task in self.tasks.each.items():
            seen = self.answered[name]
            if len(seen) >= WATCHED_ANSWERS:
                continue
            rows = [row for row in zip(samples, frames, texts, strict=True) if self.tasks.of(row[0]) is task]
            seen += [Answered(text, sample.truth, frame) for sample, frame, group in rows for text in group]
            if len(seen) >= WATCHED_ANSWERS:
                hints.append(wrong_space_hint(task, seen))
        return next((hint for hint in hints if hint is not None), None)


_WORDS = {"relative_1000": "0..1000", "pixels": "pixels of the image"}


def _candidates(size: tuple[int, int]) -> list[tuple[str, Frame]]:
    spaces = (CoordinateSpace.RELATIVE_1000, CoordinateSpace.PIXELS)
    return [(space.value, Frame.of(space, size)) for space in spaces]


def _fit(task: Task, text: str, truth: Mapping[str, Any], frame: Frame, true: Sequence[Box]) -> float:
    """Mean over the answered boxes of the IoU with the best true one; 0 where none can be read."""
    parsed = task.parse(text, truth, frame)
    said = [] if isinstance(parsed, Failure) else _boxes_in(parsed.value)
    return _mean([max(iou(box, other) for other in true) for box in said]) if said else 0.0


def _boxes_in(value: Any) -> list[Box]:
    """The boxes of an answer, in either form that ``Task.answers_boxes`` names."""
    if isinstance(value, Mapping):
        return [as_box(box) for box in value.get("boxes", ())]
    return [as_box(value)] if isinstance(value, list) and len(value) == 4 else []


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def gold_space_hint(truths: Iterable[Mapping[str, Any]]) -> str | None:
    """What is wrong with the units of true boxes, judged by where they lie; None if nothing seems to be.

    Boxes said to be 0..1000 that never go beyond the pixels of smaller images are pixels; boxes said to be pixels that
    stop at 1000 in images that do not are 0..1000, and those that lie within one pixel are shares of the image.

    Args:
        truths: of the questions, boxes in pixels; ``space`` names the units in which a published table has them.
    """
    tables: list[tuple[Box, tuple[int, int]]] = []
    files: list[tuple[Box, tuple[int, int]]] = []
    for truth in truths:
        boxes = labelled_boxes(truth)
        if not boxes or "image_size" not in truth:
            continue
        size = image_size_of(truth)
        if truth.get("space") == CoordinateSpace.RELATIVE_1000:
            written = Frame.of(CoordinateSpace.RELATIVE_1000, size)
            tables += [(tuple(map(float, written.from_pixels(box))), size) for box in boxes]  # type: ignore[misc]
        else:
            files += [(box, size) for box in boxes]
    if len(tables) >= LEAST_BOXES:
        reach = max(max(box[2] / width, box[3] / height) for box, (width, height) in tables)
        if NEAR_EDGE <= reach <= 1.0 and max(max(size) for _, size in tables) < LONGEST_SIDE:
            return (
                f"the {len(tables)} boxes of the solutions all end inside their image if they are pixels, and one "
                "reaches its edge: they seem to be pixels, not 0..1000; write them as 0..1000 of the image, or read "
                "the data as a coco or jsonl source"
            )
    if len(files) >= LEAST_BOXES:
        reach = max(max(box[2], box[3]) for box, _ in files)
        if reach <= 1.0:
            return (
                f"all {len(files)} boxes lie within the first pixel of their image: they seem to be shares of its "
                "size, 0..1; multiply them by width and height"
            )
        if NEAR_EDGE * 1000 <= reach <= 1000 and min(min(size) for _, size in files) > SHORTEST_SIDE:
            return (
                f"none of the {len(files)} boxes goes beyond 1000, though every image does: they seem to be 0..1000, "
                "not pixels; multiply them by width / 1000 and height / 1000"
            )
    return None
