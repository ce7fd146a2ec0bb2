"""Model text to an answer, or to the reason why not. The text is data: nothing here raises, nothing runs it.

Decision: strict JSON first, then a Python literal, then salvage of whole ``{...}`` objects; whatever was repaired or
dropped is noted by name. The last complete ``<answer>`` outside ``<think>`` counts. Items are checked one by one, so
one malformed item does not take the good ones with it.

>>> text = "<think>one</think><answer>[{'Position': [10, 20, 110, 220], 'Confidence': 0.9}]</answer>"
>>> parse_detections(text, extent=(1000, 1000)).boxes
((10.0, 20.0, 110.0, 220.0),)
>>> parse_detections("I see a cat", extent=(1000, 1000))
Failure(reason='no answer tag')
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

LONGEST_ANSWER = 20_000
"""Characters read of one answer; 100 boxes take about 6,000."""
MOST_BOXES = 100
"""Boxes kept of one answer, as many as COCO's AP looks at; matching stays cheap whatever the model writes."""
TOLERANCE = 0.01
"""Share of the image by which a coordinate may lie outside it; it is then moved to the edge."""

POSITION_KEYS = ("Position", "position", "bbox_2d", "bbox", "box")
CONFIDENCE_KEYS = ("Confidence", "confidence", "score")

_THINK = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_OPEN_ANSWER = re.compile(r"<answer>((?:(?!<answer>|</answer>).)*)\Z", re.DOTALL)
_FENCE = re.compile(r"\A\s*```\w*\s*(.*?)\s*(?:```)?\s*\Z", re.DOTALL)
_OBJECT = re.compile(r"\{[^{}]*\}", re.DOTALL)
_STRICT_FORMAT = re.compile(r"\A\s*<think>.*?</think>\s*<answer>.*?</answer>\s*\Z", re.DOTALL)
_STRICT_FORMAT_NO_THINK = re.compile(r"\A\s*<answer>.*?</answer>\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Failure:
    """No answer could be read; ``reason`` is a short fixed phrase that can be counted."""

    reason: str


@dataclass(frozen=True)
class Detections:
    """Boxes read from an answer.

    Attributes:
        boxes: ``(x1, y1, x2, y2)`` each, in the units the model wrote, valid and inside the image.
        confidence: one number in [0, 1] per box.
        notes: what was dropped or repaired, e.g. ``"item 3: x2 <= x1"`` or ``"truncated"``.
    """

    boxes: tuple[tuple[float, float, float, float], ...]
    confidence: tuple[float, ...]
    notes: tuple[str, ...] = ()


def has_tag_format(text: str, think: bool = True) -> bool:
    """Whether ``text`` is exactly one think block (if ``think``) followed by one answer block and nothing else."""
    pattern = _STRICT_FORMAT if think else _STRICT_FORMAT_NO_THINK
    tags = ("<think>", "</think>", "<answer>", "</answer>") if think else ("<answer>", "</answer>")
    return pattern.match(text) is not None and all(text.count(tag) == 1 for tag in tags)


def answer_text(text: str) -> tuple[str, bool] | Failure:
    """The content of the last complete answer tag outside the reasoning, and whether it was cut off.

    A final ``<answer>`` that was never closed is used, marked as cut off, only if no complete one exists.
    """
    outside = _THINK.sub("", text)
    complete = _ANSWER.findall(outside)
    if complete:
        return str(complete[-1]).strip(), False
    opened = _OPEN_ANSWER.search(outside)
    if opened:
        return opened.group(1).strip(), True
    return Failure("no answer tag")


def read_structure(text: str) -> tuple[Any, str | None] | Failure:
    """Text to a Python value by JSON, then literal, then salvage of whole objects.

    Returns:
        The value and a note (None for strict JSON or a literal), or a :class:`Failure`.
    """
    if len(text) > LONGEST_ANSWER:
        return Failure("answer too long")
    fenced = _FENCE.match(text) if text.lstrip().startswith("```") else None
    body = fenced.group(1) if fenced else text
    value = _parse(body)
    if value is not _NOTHING:
        return value, None
    objects = [item for item in map(_parse, _OBJECT.findall(body)) if isinstance(item, dict)]
    if objects:
        return objects, "salvaged whole objects from a malformed list"
    return Failure("not a list")


def parse_detections(text: str, extent: tuple[float, float]) -> Detections | Failure:
    """Read ``[{'Position': [x1, y1, x2, y2], 'Confidence': c}, ...]`` or ``No Objects``.

    Args:
        text: a whole completion with its tags.
        extent: (width, height) of the image in the units the model writes.

    Returns:
        The valid boxes, or a failure if no answer could be read or no item of a non-empty list was valid.
    """
    found = answer_text(text)
    if isinstance(found, Failure):
        return found
    body, cut = found
    if body.strip(" .'\"\n").lower().replace("_", " ") in {"no objects", "no object"}:
        return Detections((), ())
    structure = read_structure(body)
    if isinstance(structure, Failure):
        return Failure("truncated") if cut else structure
    value, note = structure
    notes = [mark for mark in ("truncated" if cut else None, note) if mark]
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, (list, tuple)):
        return Failure("not a list")
    if len(items) > MOST_BOXES:
        notes.append(f"only the first {MOST_BOXES} of {len(items)} boxes read")
    boxes, confidence = [], []
    for number, item in enumerate(items[:MOST_BOXES], start=1):
        checked = _detection(item, extent)
        if isinstance(checked, Failure):
            notes.append(f"item {number}: {checked.reason}")
        else:
            boxes.append(checked[0])
            confidence.append(checked[1])
    if items and not boxes:
        return Failure("no valid item")
    return Detections(tuple(boxes), tuple(confidence), tuple(notes))


def _detection(item: Any, extent: tuple[float, float]) -> tuple[tuple[float, float, float, float], float] | Failure:
    if not isinstance(item, Mapping):
        return Failure("not an object")
    position = next((item[key] for key in POSITION_KEYS if key in item), None)
    if position is None:
        return Failure("no position")
    while isinstance(position, list) and len(position) == 1 and isinstance(position[0], list):
        position = position[0]
    if not isinstance(position, (list, tuple)) or len(position) != 4 or not all(map(_is_number, position)):
        return Failure("position is not four finite numbers")
    confidence = next((item[key] for key in CONFIDENCE_KEYS if key in item), None)
    if not _is_number(confidence) or not 0 <= confidence <= 1:
        return Failure("confidence is not a number in [0, 1]")
    limits = (*extent, *extent)
    if any(not -TOLERANCE * limit <= v <= (1 + TOLERANCE) * limit for v, limit in zip(position, limits, strict=True)):
        return Failure("outside the image")
    x1, y1, x2, y2 = (min(max(float(v), 0.0), float(limit)) for v, limit in zip(position, limits, strict=True))
    if x2 <= x1:
        return Failure("x2 <= x1")
    if y2 <= y1:
        return Failure("y2 <= y1")
    return (x1, y1, x2, y2), float(confidence)


def _is_number(value: Any) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


_NOTHING = object()


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _NOTHING
