"""Metrics and a few annotated pictures sent to TensorBoard, Weights & Biases or Trackio, through accelerate.

Decision: nothing is sent anywhere unless ``run.trackers`` names it. A name whose package is missing, or that does not
let this process in, is an error that leaves no run folder, not a run without its curves. The run folder holds
everything all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from PIL import Image

from visual_rft.config.config import Config
from visual_rft.errors import ConfigError
from visual_rft.parallel.processes import here
from visual_rft.report.pictures import annotated
from visual_rft.tasks import Sample, Score

PICTURES = 4
"""Questions of a batch that are sent as pictures."""
SIDE = 512
"""Width and height in pixels of a picture that is sent; trackers want them alike."""


def make_accelerator(config: Config, folder: Path) -> Accelerator:
    """The accelerator of a run, which knows its trackers.

    Args:
        config: the whole run.
        folder: the run folder; nothing is written yet.

    Raises:
        ConfigError: if a tracker's package is not installed.
    """
    for name in config.run.trackers:
        if find_spec(name) is None:
            raise ConfigError(f"run.trackers: {name!r} is not installed; run: pip install {name}")
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        log_with=list(config.run.trackers) or None,
        project_config=ProjectConfiguration(str(folder), logging_dir=str(folder / "tensorboard")),
    )


class Trackers:
    """Where metrics are sent besides the run folder.

    Args:
        accelerator: made by :func:`make_accelerator`.
        config: the whole run.
        steps_done: steps that the run has behind it; what was sent of later ones is made again.

    Raises:
        ConfigError: if a tracker does not start, with what it says, for example that nobody has logged in.
    """

    def __init__(self, accelerator: Accelerator, config: Config, steps_done: int = 0) -> None:
        self.accelerator = accelerator
        if accelerator.log_with and here().first:
            run = Path(config.run.folder)
            names: dict[str, dict[str, Any]] = {
                "wandb": {"name": run.name, "dir": str(run)},
                "trackio": {"name": run.name},
                # Or every step between the checkpoint and the crash stands in the curves twice.
                "tensorboard": {"purge_step": steps_done} if steps_done else {},
            }
            try:
                accelerator.init_trackers("visual-rft", flat(config.model_dump(mode="json")), names)
            except Exception as error:  # every tracker has errors of its own, and imports them only when it is used
                raise ConfigError(
                    f"run.trackers: {', '.join(config.run.trackers)} cannot be started ({type(error).__name__}: "
                    f"{' '.join(str(error).split())}); mend this, or leave it out: the run folder holds all the same"
                ) from error

    def metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Send the numbers among ``metrics``; ``step`` counts the steps done."""
        if self.accelerator.trackers:
            self.accelerator.log(numbers(metrics), step=step)

    def pictures(self, step: int, samples: Sequence[Sample], scores: Sequence[Sequence[Score]]) -> None:
        """Send the first questions of a batch, each with its truth and the answers of its group drawn."""
        if not self.accelerator.trackers:
            return
        drawn = []
        for sample, group in list(zip(samples, scores, strict=True))[:PICTURES]:
            if sample.images:
                picture = annotated(sample.images[0].load(), sample.truth, [score.answer for score in group])
                drawn.append(_square(picture))
        for tracker in self.accelerator.trackers:
            _send(tracker, "rollouts", drawn, step)

    def close(self) -> None:
        """Let every tracker finish what it has begun."""
        for tracker in self.accelerator.trackers:  # accelerate's end_training would also part the processes
            tracker.finish()


def _send(tracker: Any, name: str, pictures: Sequence[Image.Image], step: int) -> None:
    if not pictures:
        return
    arrays = [np.asarray(picture) for picture in pictures]
    if tracker.name == "tensorboard":
        tracker.log_images({name: np.stack(arrays)}, step=step, dataformats="NHWC")
    elif tracker.name == "trackio":  # accelerate's tracker has no pictures of its own
        import trackio

        tracker.log({f"{name}/{i}": trackio.Image(array) for i, array in enumerate(arrays)}, step=step)
    else:
        tracker.log_images({name: arrays}, step=step)


def _square(picture: Image.Image) -> Image.Image:
    """The picture in a square of ``SIDE`` pixels, on grey."""
    picture.thumbnail((SIDE, SIDE))
    square = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    square.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return square


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among ``metrics``.

    >>> numbers({"AP": 0.5, "failures": {}, "kl": float("nan"), "n_images": 2})
    {'AP': 0.5, 'n_images': 2}
    """
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and name != "step"
    }


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as trackers want it: one level, plain values.

    >>> flat({"run": {"steps": 3}, "model": {"lora": None}})
    {'run.steps': 3, 'model.lora': 'None'}
    """
    values: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values.update(flat(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return values
