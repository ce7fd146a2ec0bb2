"""A second question about every box that was answered: does the thing lie there?

Decision: the share of *Yes* against *No*, each a whole answer, as the policy gives them after the question. Nothing is
sampled, so the same box has the same share every time, and the questions about one image share its vision pass.
A model of a size that talks knows more about a box it is shown than about one it writes; the embedded one was never
asked such questions.

>>> round(share_of_yes(-0.1, -3.1), 3)
0.953
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from visual_rft.answering.questions import Answer
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks.base import Task
from visual_rft.tasks.parsing.completion import Parsed
from visual_rft.vision.boxes import Box
from visual_rft.vision.coordinates import Frame

YES, NO = "Yes", "No"


@runtime_checkable
class AsksAboutBoxes(Protocol):
    """A task that can ask whether the thing in question lies in a box."""

    def box_prompt(self, question: Mapping[str, Any], box: Box, frame: Frame) -> str:
        """The question, to be answered with *Yes* or *No*; ``box`` is in pixels of the original image."""


Shares = Callable[[Sequence[Prompt], int], list[float]]
"""How far a model answers each prompt with *Yes*, so many at once: ``Answerer.shares_of_yes``."""


def asked_about_boxes(shares_of_yes: Shares, task: Task, answers: Sequence[Answer], batch: int) -> list[Answer]:
    """The answers, each with ``asked``: the share of *Yes* for every box that was read of it.

    Args:
        shares_of_yes: asks the model.
        task: the task that asked.
        answers: what was answered about one image.
        batch: greatest number of questions at once.
    """
    assert isinstance(task, AsksAboutBoxes)  # checked where the task is made
    boxes: list[list[Box]] = []
    prompts: list[Prompt] = []
    for answer in answers:
        parsed = task.parse(answer.text, answer.sample.truth, answer.frame)
        value = parsed.value if isinstance(parsed, Parsed) and answer.frame is not None else {"boxes": []}
        boxes.append(value["boxes"])
        for number, box in enumerate(boxes[-1]):
            assert answer.frame is not None
            label = {"category": value["labels"][number]} if "labels" in value else {}
            text = task.box_prompt({**answer.sample.question, **label}, box, answer.frame)
            prompts.append(Prompt(f"{answer.sample.id} (box {number + 1})", text, answer.sample.images))
    shares = iter(shares_of_yes(prompts, batch))
    return [answer._replace(asked=[next(shares) for _ in row]) for answer, row in zip(answers, boxes, strict=True)]


def share_of_yes(yes: float, no: float) -> float:
    """Probability of *Yes* among the two, in [0, 1], from their log-probabilities."""
    return 1 / (1 + math.exp(min(no - yes, 700.0)))
