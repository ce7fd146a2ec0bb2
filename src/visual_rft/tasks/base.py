"""What passes between the rooms, and what a task is.

Decision: a task is one object with five short methods and no registration; it is found by name in a plain dict
(:func:`visual_rft.tasks.load_task`). Questions and truths are plain mappings that can be written as JSON, so a reward
can be called from any trainer and a rollout can be logged as it is. This room never imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.images import ImageReference


@dataclass(frozen=True)
class Sample:
    """One labelled question.

    Attributes:
        id: unique within its data set; used in file names, logs and error messages.
        images: the pictures the question is about, in the order they are shown.
        task: name of the task that asks and scores it.
        question: what the task needs to write the prompt, e.g. ``{"category": "red circle"}``.
        truth: what the task needs to score an answer, in pixels of the original image, e.g.
            ``{"boxes": [[x1, y1, x2, y2]], "image_size": [width, height]}``.
    """

    id: str
    images: tuple[ImageReference, ...]
    task: str
    question: Mapping[str, Any]
    truth: Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """What one completion is worth.

    Attributes:
        parts: reward parts by name, each in [0, 1], before weights.
        total: weighted sum of the parts.
        answer: the parsed answer in pixels of the original image, JSON-able; None if it could not be parsed.
        failure: why the completion could not be parsed, or None.
        notes: what the parser dropped or repaired on the way, one short text each.
    """

    parts: Mapping[str, float]
    total: float
    answer: Any = None
    failure: str | None = None
    notes: Sequence[str] = field(default_factory=tuple)


class Task(Protocol):
    """A visual task with verifiable rewards."""

    @property
    def name(self) -> str:
        """The name by which it is chosen."""

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        """The text shown with the image, for a model that writes coordinates in ``space``."""

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        """The completion that deserves full marks, boxes in the units of ``frame``; supervised training learns it.

        Args:
            truth: as in :class:`Sample`.
            frame: as in :meth:`score`.
        """

    def score(self, completion: str, truth: Mapping[str, Any], frame: Frame | None = None) -> Score:
        """Score one completion. Never raises for anything the model wrote.

        Args:
            completion: the model's text, without the prompt.
            truth: as in :class:`Sample`.
            frame: units of the coordinates in ``completion``; default 0..1000 on ``truth["image_size"]``.
        """

    def vocabulary(self) -> Sequence[str]:
        """Fixed phrases of prompts and answers (a tokenizer trained for the task learns them whole)."""
