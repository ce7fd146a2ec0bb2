"""The truth in green and an answer in red, on one picture."""

from __future__ import annotations

from typing import Any

from PIL import Image

from visual_rft.tasks.base import Sample, Task
from visual_rft.tasks.parsing.completion import Parsed
from visual_rft.vision.coordinates import Frame
from visual_rft.vision.drawing import PREDICTED, TRUTH, draw_marks

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
    truth = task.marks(sample.question, gold.value) if isinstance(gold, Parsed) else []
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
