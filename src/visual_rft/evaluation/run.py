"""Evaluate a model on held-out questions, or ask it about one image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from visual_rft.config import Config, ModelConfig, RolloutConfig
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError
from visual_rft.evaluation.predict import predict
from visual_rft.policy.inputs import Prompt
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.tasks import load_task, task_of
from visual_rft.tasks.answers import Parsed
from visual_rft.vision.drawing import draw_marks
from visual_rft.vision.images import ImageFile


def evaluate(config: Config, policy: Policy | None = None) -> dict[str, Any]:
    """Metrics of ``config.model`` (or ``policy``) on ``config.data.evaluation``.

    Raises:
        VisualRFTError: if the data or model cannot be used.
    """
    task = task_of(config.task)
    samples = load_samples(config.data.evaluation, task)
    policy = policy or load_policy(config.model, config.rollout).to(best_device())

    def progress(done: int, count: int) -> None:
        print(f"evaluated {done}/{count} questions", file=sys.stderr, flush=True)

    return task.metrics(predict(policy, task, samples, progress=progress))


def predict_image(
    image: Path, ask: str, model: str = "tiny", out: Path | None = None, task: str = "detection"
) -> dict[str, Any]:
    """Ask about one image and write the picture with the answer drawn.

    Args:
        image: an image file.
        ask: what to find (a category, an expression), or for classification what kind of thing to name.
        model: ``tiny``, a folder or a hub id.
        out: where the picture goes; default beside the image, ``NAME.answer.png``.
        task: what kind of question it is, as in :func:`visual_rft.load_task`.

    Returns:
        The model's ``text``, the ``answer`` with boxes in pixels of the image, ``failure``, ``notes`` and the
        ``picture``'s path.

    Raises:
        DataError: if the image cannot be read or the picture cannot be written.
        ModelError: if the model cannot be loaded.
        ConfigError: if there is no such task.
    """
    asked = load_task(task)
    picture = ImageFile(image).load()
    question = {"category": ask, "subject": ask, "expression": ask}
    policy = load_policy(ModelConfig(path=model), RolloutConfig()).to(best_device())
    with torch.no_grad():
        prefix = policy.encode([Prompt(image.name, asked.prompt(question, policy.space), (ImageFile(image),))])
        ((text,),) = policy.sample(prefix, 1, greedy=True).text
    parsed = asked.parse(text, {"image_size": list(picture.size)}, prefix.frames[0])
    answer = parsed.value if isinstance(parsed, Parsed) else None
    target = out or image.with_suffix(".answer.png")
    try:
        draw_marks(picture, [] if answer is None else asked.marks(question, answer)).save(target)
    except (OSError, ValueError) as error:
        raise DataError(f"{target}: cannot write the picture ({error})") from None
    return {
        "text": text,
        "answer": answer,
        "failure": None if isinstance(parsed, Parsed) else parsed.reason,
        "notes": list(parsed.notes) if isinstance(parsed, Parsed) else [],
        "picture": str(target),
    }


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
