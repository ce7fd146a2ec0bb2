"""What a truth or an answer looks like on its picture: boxes with labels, or words.

Decision: read from the values themselves, not by the task that made them, so that a report never runs code that a
config names. ``boxes`` (with ``confidence``), ``box``, four numbers and ``label`` are drawn; whatever else a task of
your own uses is shown as JSON.

>>> of_answer({"boxes": [[1, 2, 3, 4]], "confidence": [0.9]})
Marks(boxes=[[1.0, 2.0, 3.0, 4.0]], labels=['0.90'], text=None)
>>> of_truth({"label": "red poppy"})
Marks(boxes=[], labels=[], text='red poppy')
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_SHOWN = frozenset({"image_size", "category", "space", "segmentation", "synonyms", "parents", "thought"})
"""Fields of a truth that are not the answer."""


@dataclass(frozen=True)
class Marks:
    """Boxes ``[x1, y1, x2, y2]`` in pixels of the original image with a label each, and words for what is no box."""

    boxes: list[list[float]]
    labels: list[str]
    text: str | None


def of_truth(truth: Mapping[str, Any]) -> Marks:
    """The right answer."""
    if _boxes(truth.get("boxes")) is not None:
        return of_answer({"boxes": truth["boxes"]})
    if _boxes([truth.get("box")]) is not None:
        return of_answer(truth["box"])
    if isinstance(truth.get("label"), str):
        return Marks([], [], truth["label"])
    rest = {name: value for name, value in truth.items() if name not in NOT_SHOWN}
    return Marks([], [], _json(next(iter(rest.values())) if len(rest) == 1 else rest))


def of_answer(answer: Any) -> Marks:
    """A parsed answer; nothing at all for None, which stands for an answer that could not be read."""
    if answer is None:
        return Marks([], [], None)
    if isinstance(answer, Mapping) and (boxes := _boxes(answer.get("boxes"))) is not None:
        confidence = answer.get("scores", answer.get("confidence"))
        several = confidence if isinstance(confidence, list) and len(confidence) == len(boxes) else [None] * len(boxes)
        labels = [f"{c:.2f}" if isinstance(c, (int, float)) else "" for c in several]
        return Marks(boxes, labels, None if boxes else "No Objects")
    if (boxes := _boxes([answer])) is not None:
        return Marks(boxes, [""], None)
    return Marks([], [], answer if isinstance(answer, str) else _json(answer))


def _boxes(value: Any) -> list[list[float]] | None:
    """A list of boxes; None if it is something else."""
    if not isinstance(value, (list, tuple)) or not all(_is_box(box) for box in value):
        return None
    return [[float(v) for v in box] for box in value]


def _is_box(box: Any) -> bool:
    return isinstance(box, (list, tuple)) and len(box) == 4 and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in box
    )  # fmt: skip


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
