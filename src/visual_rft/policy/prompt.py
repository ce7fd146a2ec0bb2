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
from pathlib import Path

from visual_rft.config.config import Config
from visual_rft.errors import ModelError
from visual_rft.files import json_or_nothing
from visual_rft.policy.families import family_of
from visual_rft.policy.stored.places import model_folder
from visual_rft.tasks import Mixture, Sample, Task, Tasks, task_of
from visual_rft.vision.coordinates import CoordinateSpace
from visual_rft.vision.images import ImageReference

MAX_USUAL_RATIO = 50
"""Longer by shorter side of an image; above it, whether a processor takes the image is found out before a run relies on
it. Qwen's refuses 200."""


@dataclass(frozen=True)
class Prompt:
    """A question ready for the policy: an id for error messages, the text, its images in order, and its task, which
    says what form a constrained answer has."""

    id: str
    text: str
    images: tuple[ImageReference, ...]
    task: str = ""

    @classmethod
    def of(cls, tasks: Tasks, sample: Sample, space: CoordinateSpace) -> Prompt:
        """How the task of ``sample`` asks a model that writes boxes in ``space``."""
        return cls(sample.id, tasks.of(sample).worded(sample.question, space), sample.images, sample.task)

    @property
    def image_key(self) -> str:
        """Names the pixels of all its images; empty without images."""
        return "\n".join(reference.key for reference in self.images)


def is_stretched(size: Sequence[float]) -> bool:
    """Whether an image of (width, height) is so narrow that a processor may refuse it."""
    return max(size) > MAX_USUAL_RATIO * min(size)


def tasks_for(config: Config) -> Tasks:
    """What the sources of a config ask: its task, or several.

    Raises:
        ConfigError, ModelError: as :func:`task_for`.
    """
    if len(config.tasks) == 1:
        return task_for(config.of_task(next(iter(config.tasks))))
    return Mixture({called: task_for(config.of_task(called)) for called in config.tasks}, config.task.called)


def task_for(config: Config) -> Task:
    """The task of a config, which asks in the words of the model's family where ``task.style`` is ``native``.

    Raises:
        ConfigError: as :func:`visual_rft.tasks.load_task`.
        ModelError: if the family has to be known and is not.
    """
    if config.task.style != "native":
        return task_of(config.task)
    given = config.model.family
    if given is not None and given.notation is not None:
        return task_of(config.task, given.notation)
    return task_of(config.task, family_of(_model_type(config.model.path), given).notation)


def _model_type(path: str) -> str:
    """The family's name in the ``config.json`` of a model, or of the base of an adapter."""
    source = model_folder(path)
    adapter = json_or_nothing(Path(source) / "adapter_config.json")
    if adapter:
        return _model_type(str(adapter.get("base_model_name_or_path")))
    known = json_or_nothing(Path(source) / "config.json").get("model_type")
    if known is not None:
        return str(known)
    from transformers import AutoConfig  # of a hub id, where it is not in this machine's cache

    try:
        return str(AutoConfig.from_pretrained(source).model_type)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.path: the family of {path!r} cannot be read ({' '.join(str(error).split())})"
        ) from None
