"""One completion scored from plain JSON: what ``visual-rft score`` prints.

>>> score_completion("classification", '{"label": "cat"}', "<think>ears</think><answer>Cat.</answer>")["total"]
2.0
"""

from __future__ import annotations

from typing import Any

from visual_rft.config.sections import StyleKind
from visual_rft.errors import ConfigError, DataError
from visual_rft.files import parse_json
from visual_rft.tasks import check_options, load_task
from visual_rft.tasks.truth import image_size_of
from visual_rft.vision.coordinates import CoordinateSpace, Frame


def score_completion(
    task: str,
    truth: str,
    completion: str,
    coordinates: str | None = None,
    think: bool = True,
    weights: str | None = None,
    options: str | None = None,
    style: StyleKind = "method",
    notation: str | None = None,
) -> dict[str, Any]:
    """Score one completion.

    Args:
        task: name of the task, or ``file.py:Class``.
        truth: JSON object, boxes in pixels of the original image.
        completion: the model's text.
        coordinates: units of its boxes: ``relative`` (0..1000), ``pixels`` of the original image or location ``tokens``
            (y before x); None takes those of the notation, else ``relative``.
        think: whether the right format has a think block.
        weights: JSON object of reward weights; None takes the task's own.
        options: JSON object of task options.
        style: in whose words boxes are asked for, as in :class:`visual_rft.tasks.Task`.
        notation: the family's own way, for ``style="native"``.

    Returns:
        Every reward part by name, ``total``, ``answer`` (boxes in pixels), ``failure`` and ``notes``.

    Raises:
        DataError: if the truth is not a JSON object or lacks a field.
        ConfigError: if the task, a weight or an option is not known, or they do not go together.
    """
    known = _object(truth, "--truth", DataError)
    chosen = _object(weights, "--weights", ConfigError) if weights is not None else None
    others = _object(options or "{}", "--options", ConfigError)
    check_options(others)
    if notation is not None and style != "native":
        raise ConfigError("--notation is that of --style native")
    scorer = load_task(task, think=think, weights=chosen, style=style, notation=notation, **others)
    space = _space(coordinates, notation)
    score = scorer.score(completion, known, Frame.of(space, image_size_of(known)) if space else None)
    return {
        **score.parts,
        "total": score.total,
        "answer": score.answer,
        "failure": score.failure,
        "notes": list(score.notes),
    }


def _space(coordinates: str | None, notation: str | None) -> CoordinateSpace | None:
    """The units that are meant; None for 0..1000, which answers without boxes need no image for."""
    tokens = notation == CoordinateSpace.LOCATION_TOKENS
    if tokens and coordinates not in (None, "tokens"):
        raise ConfigError(f"--coordinates {coordinates}: the notation location_tokens writes tokens")
    if tokens or coordinates == "tokens":
        return CoordinateSpace.LOCATION_TOKENS
    return CoordinateSpace.PIXELS if coordinates == "pixels" else None


def _object(text: str, where: str, kind: type[ConfigError] | type[DataError]) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise kind(f"{where}: not valid JSON ({error}): {text[:80]}") from None
    if not isinstance(value, dict):
        raise kind(f"{where}: a JSON object is needed, this is {text[:80]}")
    return value
