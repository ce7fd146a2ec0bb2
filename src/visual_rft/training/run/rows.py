"""A question and an answer as they stand in the lines of a run folder (docs/run-folder.md).

Decision: rollouts, examples and held-out answers say the same things by the same names; what draws one draws all.

    {**question_row(sample, images, size, prompt.text), "completions": [completion_row(text, score)]}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visual_rft.tasks.samples import Sample, Score


def question_row(sample: Sample, images: Sequence[str], size: Sequence[int] | None, prompt: str) -> dict[str, Any]:
    """What was asked: id, task, pictures, (width, height) of the first as it was, prompt, question and truth."""
    return {
        "id": sample.id,
        "task": sample.task,
        "images": list(images),
        "image_size": size and list(size),
        "prompt": prompt,
        "question": dict(sample.question),
        "truth": dict(sample.truth),
    }


def completion_row(text: str, score: Score) -> dict[str, Any]:
    """What was written and what it is worth; boxes of the answer are in pixels of the original image."""
    return {
        "text": text,
        "rewards": dict(score.parts),
        "total": score.total,
        "answer": score.answer,
        "failure": score.failure,
        "notes": list(score.notes),
    }
