"""Ask a model about one image and draw the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from visual_rft.config import ModelConfig, RolloutConfig
from visual_rft.errors import DataError
from visual_rft.evaluation.answering import best_device
from visual_rft.policy.inputs import Prompt
from visual_rft.policy.loading import load_policy
from visual_rft.tasks import load_task
from visual_rft.tasks.answers import Parsed
from visual_rft.vision.drawing import draw_marks
from visual_rft.vision.images import ImageFile


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
