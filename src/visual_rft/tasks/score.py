"""One completion scored from plain JSON: what ``visual-rft score`` prints.

>>> score_completion("classification", '{"label": "cat"}', "<think>ears</think><answer>Cat.</answer>")["total"]
2.0
"""

from __future__ import annotations

import json
from typing import Any

from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import load_task
from visual_rft.tasks.truth import image_size_of
from visual_rft.vision.coordinates import CoordinateSpace, Frame


def score_completion(
    task: str,
    truth: str,
    completion: str,
    coordinates: str = "relative",
    think: bool = True,
    weights: str | None = None,
    options: str | None = None,
) -> dict[str, Any]:
    """Score one completion.

    Args:
        task: name of the task, or ``file.py:Class``.
        truth: JSON object, boxes in pixels of the original image.
        completion: the model's text.
        coordinates: units of its boxes: ``relative`` (0..1000) or ``pixels`` of the original image.
        think: whether the right format has a think block.
        weights: JSON object of reward weights; None takes the task's own.
        options: JSON object of task options.

    Returns:
        Every reward part by name, ``total``, ``answer`` (boxes in pixels), ``failure`` and ``notes``.

    Raises:
        DataError: if the truth is not a JSON object or lacks a field.
        ConfigError: if the task, a weight or an option is not known.
    """
    known = _object(truth, "--truth", DataError)
    chosen = _object(weights, "--weights", ConfigError) if weights is not None else None
    scorer = load_task(task, think=think, weights=chosen, **_object(options or "{}", "--options", ConfigError))
    frame = Frame.of(CoordinateSpace.PIXELS, image_size_of(known)) if coordinates == "pixels" else None
    score = scorer.score(completion, known, frame)
    return {
        **score.parts,
        "total": score.total,
        "answer": score.answer,
        "failure": score.failure,
        "notes": list(score.notes),
    }


def _object(text: str, where: str, kind: type[ConfigError] | type[DataError]) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise kind(f"{where}: not valid JSON ({error}): {text[:80]}") from None
    if not isinstance(value, dict):
        raise kind(f"{where}: a JSON object is needed, this is {text[:80]}")
    return value
