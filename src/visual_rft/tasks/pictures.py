"""The truth in green and an answer in red, on one picture.

Decision: a task says how an answer is drawn (``Task.marks``). One of the user's that does not, because it answers with
a number or a word, may still have a truth with boxes or points; these are drawn from the truth itself, so that a
contact sheet shows where the labels are.

>>> with_truth([(None, "2")], {"boxes": [[1, 2, 30, 40]], "image_size": [100, 80]})
[((1, 2, 30, 40), ''), (None, '2')]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from visual_rft.errors import DataError
from visual_rft.tasks.base import Task
from visual_rft.tasks.parsing.completion import Parsed
from visual_rft.tasks.samples import Sample
from visual_rft.tasks.truth import labelled_boxes
from visual_rft.vision.boxes import is_finite_number
from visual_rft.vision.coordinates import Frame
from visual_rft.vision.drawing import PREDICTED, TRUTH, Mark, draw_marks

LEAST_SIDE = 512
"""Pixels; a smaller picture is enlarged by a whole number, so that boxes and labels can be told apart."""


def truth_and_answer(task: Task, sample: Sample, answer: Any, frame: Frame | None = None) -> Image.Image:
    """A sample's first picture with its truth and an answer drawn.

    Args:
        task: says how an answer is drawn.
        sample: the question.
        answer: as in :class:`visual_rft.tasks.Score`; None draws the words "no answer".
        frame: units of the gold answer, which stands for the truth; default 0..1000.
    """
    gold = task.parse(task.gold(sample.truth, frame), sample.truth, frame)
    truth = with_truth(task.marks(sample.question, gold.value) if isinstance(gold, Parsed) else [], sample.truth)
    said = [(None, "no answer")] if answer is None else task.marks(sample.question, answer)
    captions = [text for box, text in truth if box is None and (None, text) not in said]
    picture = sample.images[0].load()
    factor = max(1, -(-LEAST_SIDE // min(picture.size)))
    picture = picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
    for marks, colour in (([(box, "") for box, _ in truth if box], TRUTH), (said, PREDICTED),
                          ([(None, "")] + [(None, f"truth: {text}") for text in captions], TRUTH)):  # fmt: skip
        enlarged = [(box and [factor * v for v in box], text) for box, text in marks]
        picture = draw_marks(picture, enlarged, colour, least_side=1)
    return picture


POINT = 0.015
"""Half the side of the square that stands for a point, as a share of the image's longer side."""


def with_truth(marks: Sequence[Mark], truth: Mapping[str, Any]) -> list[Mark]:
    """``marks``, and the boxes and points of the truth where no mark has a place in the picture.

    Args:
        marks: what the task draws of the gold answer.
        truth: as in :class:`visual_rft.tasks.Sample`; ``box``, ``boxes``, ``point`` and ``points`` are looked at.
    """
    if any(box is not None for box, _ in marks):
        return list(marks)
    try:
        places: list[Mark] = [(box, "") for box in labelled_boxes(truth)]
    except DataError:  # a task of the user's may mean something else by the name
        places = []
    points = truth.get("points", [truth["point"]] if "point" in truth else [])
    size = truth.get("image_size")
    half = POINT * max(size) if isinstance(size, (list, tuple)) and all(map(is_finite_number, size)) else 4.0
    for point in points if isinstance(points, (list, tuple)) else ():
        if isinstance(point, (list, tuple)) and len(point) == 2 and all(map(is_finite_number, point)):
            x, y = point
            places.append(((x - half, y - half, x + half, y + half), ""))
    return [*places, *marks]
