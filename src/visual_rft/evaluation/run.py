"""Evaluate a model on held-out questions, or ask it about one image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from visual_rft.config import Config, ModelConfig, RolloutConfig
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError
from visual_rft.evaluation.detection import detection_metrics, predict
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.tasks import Sample, load_task
from visual_rft.vision.drawing import draw_boxes
from visual_rft.vision.images import ImageFile


def evaluate(config: Config, policy: Policy | None = None) -> dict[str, Any]:
    """Detection metrics of ``config.model`` (or ``policy``) on ``config.data.evaluation``.

    Raises:
        VisualRFTError: if the data or model cannot be used.
    """
    samples = load_samples(config.data.evaluation)
    policy = policy or load_policy(config.model, config.rollout).to(best_device())
    task = load_task(**config.task.model_dump())

    def progress(done: int, count: int) -> None:
        print(f"evaluated {done}/{count} questions", file=sys.stderr, flush=True)

    return detection_metrics(predict(policy, task, samples, progress=progress))


def predict_image(image: Path, category: str, model: str = "tiny", out: Path | None = None) -> dict[str, Any]:
    """Find every ``category`` in one image and write the picture with the boxes drawn.

    Args:
        image: an image file.
        category: what to look for.
        model: ``tiny``, a folder or a hub id.
        out: where the picture goes; default beside the image, ``NAME.boxes.png``.

    Returns:
        The model's text, ``boxes`` in pixels of the image, ``confidence`` each, ``failure`` and the ``picture``'s path.

    Raises:
        DataError: if the image cannot be read or the picture cannot be written.
        ModelError: if the model cannot be loaded.
    """
    reference = ImageFile(image)
    picture = reference.load()
    truth = {"boxes": [], "image_size": list(picture.size)}
    sample = Sample(image.name, (reference,), "detection", {"category": category}, truth)
    policy = load_policy(ModelConfig(path=model), RolloutConfig()).to(best_device())
    (prediction,) = predict(policy, load_task("detection"), [sample])
    answer = prediction.score.answer or {"boxes": [], "confidence": []}
    labels = [f"{category} {c:.2f}" for c in answer["confidence"]]
    target = out or image.with_suffix(".boxes.png")
    try:
        draw_boxes(picture, answer["boxes"], labels).save(target)
    except (OSError, ValueError) as error:
        raise DataError(f"{target}: cannot write the picture ({error})") from None
    return {
        "text": prediction.completion,
        **answer,
        "failure": prediction.score.failure,
        "picture": str(target),
    }


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
