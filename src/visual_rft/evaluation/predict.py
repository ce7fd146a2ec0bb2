"""Answering held-out questions.

Decision: greedy decoding; what the answers are worth is the task's own business (``Task.metrics``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from visual_rft.policy.inputs import Prompt
from visual_rft.policy.policy import Policy
from visual_rft.tasks.base import Prediction, Sample, Task


def predict(
    policy: Policy,
    task: Task,
    samples: Sequence[Sample],
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Answer every question greedily.

    Args:
        policy: the model.
        task: writes the prompts and reads the answers.
        samples: the questions.
        batch: questions answered at once.
        progress: called with (done, all) after each batch.
    """
    predictions: list[Prediction] = []
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            chunk = samples[start : start + batch]
            prefix = policy.encode([Prompt.of(task, sample, policy.space) for sample in chunk])
            completions = policy.sample(prefix, 1, greedy=True)
            for sample, frame, (text,) in zip(chunk, prefix.frames, completions.text, strict=True):
                predictions.append(Prediction(sample, text, task.score(text, sample.truth, frame)))
            if progress is not None:
                progress(len(predictions), len(samples))
    return predictions


def evaluation_line(task: Task, metrics: Mapping[str, Any]) -> str:
    """The main numbers of ``task.metrics`` in one line."""
    numbers = " ".join(f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in task.headline)
    return (
        f"{numbers} format {metrics['format_rate']:.0%} parsed {metrics['parse_rate']:.0%} "
        f"({metrics['n_images']} images, {metrics['n_questions']} questions)"
    )
