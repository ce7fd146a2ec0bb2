"""A question ready for a model, its own or one behind a server. Light: no torch.

>>> from visual_rft.tasks import Sample, load_task
>>> from visual_rft.vision.coordinates import CoordinateSpace
>>> sample = Sample("a", (), "detection", {"category": "cat"}, {})
>>> Prompt.of(load_task("detection"), sample, CoordinateSpace.RELATIVE_1000).id
'a'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visual_rft.tasks import Sample, Task
from visual_rft.vision.coordinates import CoordinateSpace
from visual_rft.vision.images import ImageReference

MAX_USUAL_RATIO = 50
"""Longer by shorter side of an image; above it, whether a processor takes the image is found out before a run relies on
it. Qwen's refuses 200."""


@dataclass(frozen=True)
class Prompt:
    """A question ready for the policy: an id for error messages, the text, and its images in order."""

    id: str
    text: str
    images: tuple[ImageReference, ...]

    @classmethod
    def of(cls, task: Task, sample: Sample, space: CoordinateSpace) -> Prompt:
        """How ``task`` asks about ``sample`` a model that writes boxes in ``space``."""
        return cls(sample.id, task.prompt(sample.question, space), sample.images)

    @property
    def image_key(self) -> str:
        """Names the pixels of all its images; empty without images."""
        return "\n".join(reference.key for reference in self.images)


def is_stretched(size: Sequence[float]) -> bool:
    """Whether an image of (width, height) is so narrow that a processor may refuse it."""
    return max(size) > MAX_USUAL_RATIO * min(size)
