"""Lists of boxes: model text to boxes with confidence and label, or to the reason why not. Nothing here raises.

Decision: whatever was tolerated, repaired or dropped is noted by name. Items are checked one by one, so one malformed
item does not take the good ones with it.

>>> text = "<think>one</think><answer>[{'Position': [10, 20, 110, 220], 'Confidence': 0.9}]</answer>"
>>> parse_detections(text, extent=(1000, 1000)).value.boxes
((10.0, 20.0, 110.0, 220.0),)
>>> parse_detections("I see a cat", extent=(1000, 1000))
Failure(reason='no answer tag')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, answer_text, normalized
from visual_rft.tasks.parsing.spellings import (
    CONFIDENCE_KEYS,
    LABEL_KEYS,
    NOTHING_THERE,
    POSITION_KEYS,
    boxes_in_text,
    corners_of,
    is_two_corners,
    plain,
    positions_of,
    under,
    valid_box,
)
from visual_rft.tasks.parsing.structure import LONGEST_ANSWER, OBJECT, SALVAGED, read_structure, unfenced
from visual_rft.vision.boxes import Box, is_finite_number, is_four_numbers

MOST_BOXES = 100
"""Boxes kept of one answer, as many as COCO's AP looks at; matching stays cheap whatever the model writes."""

NO_OBJECTS = "No Objects"
_NUMBERS = frozenset({int, float})


class Detections(NamedTuple):
    """Boxes with confidence.

    Attributes:
        boxes: N boxes.
        confidence: N numbers in [0, 1]; 1 where the answer gives none.
        unread: boxes beyond :data:`MOST_BOXES`, which were not looked at.
        unstated: places, ascending, of the boxes that were written without a confidence.
        labels: N class names, where classes were asked for; else none.
    """

    boxes: tuple[Box, ...]
    confidence: tuple[float, ...]
    unread: int = 0
    unstated: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()


def parse_detections(
    text: str, extent: tuple[float, float], category: str | None = None, classes: Sequence[str] | None = None
) -> Parsed[Detections] | Failure:
    """Read ``[{'Position': [x1, y1, x2, y2], 'Confidence': c}, ...]`` or ``No Objects``.

    Args:
        text: a whole completion with its tags.
        extent: (width, height) of the image in the units the model writes.
        category: what was asked for; an item that names another label is dropped. None believes every label.
        classes: of which each item names one under ``Label``; an item that names none of them is dropped, and with no
            classes every label is believed. None asks for no labels.

    Returns:
        The valid boxes, or a failure if no answer could be read or no item of a non-empty list was valid.
    """
    found = answer_text(text)
    if isinstance(found, Failure):
        return found
    body, cut = found
    notes = ["truncated"] if cut else []
    if body == NO_OBJECTS:
        return Parsed(Detections((), ()), tuple(notes))
    if len(body) < 40 and normalized(unfenced(body)) in NOTHING_THERE:
        return Parsed(Detections((), ()), (*notes, "'No Objects' written otherwise"))
    written = None
    if "{" not in body and len(body) <= LONGEST_ANSWER and "{" not in (text_alone := plain(body)):
        written = boxes_in_text(text_alone)
    if written is not None:
        notes.append("boxes written as text")
        structure = Parsed([{LABEL_KEYS[0]: name, POSITION_KEYS[0]: box} for name, box in written])
        if NO_OBJECTS.casefold() in body.casefold():
            return Failure(Reason.BOXES_BESIDE_NO_OBJECTS)
    else:
        read = read_structure(body)
        if isinstance(read, Failure):
            return Failure(Reason.TRUNCATED) if cut else read
        structure = read
    notes += structure.notes
    if SALVAGED in notes and NO_OBJECTS.casefold() in OBJECT.sub("", body).casefold():
        return Failure(Reason.BOXES_BESIDE_NO_OBJECTS)
    items = _as_items(structure.value, notes)
    if items is None:
        return Failure(Reason.NOT_A_LIST)
    if str in map(type, items) and any(isinstance(v, str) and normalized(v) in NOTHING_THERE for v in items):
        return Failure(Reason.BOXES_BESIDE_NO_OBJECTS)
    boxes: list[Box] = []
    confidence: list[float] = []
    unread = max(0, len(items) - MOST_BOXES)
    unstated: list[int] = []
    labels: list[str] = []
    known = None if classes is None else {normalized(name): name for name in classes}
    last_failure: Failure | None = None
    if unread:
        notes.append(f"only the first {MOST_BOXES} of {len(items)} boxes read")
    for number, item in enumerate(items[:MOST_BOXES], start=1):
        if known is None:
            checked = _as_asked(item, extent) or _detection(item, extent, category, notes)
        else:
            label = _label_of(item, known)
            checked = label if isinstance(label, Failure) else _labelled(item, extent, notes)
            labels += [label] if isinstance(label, str) and not isinstance(checked, Failure) else []
        if isinstance(checked, Failure):
            last_failure = checked
            notes.append(f"item {number}: {checked.reason}")
        else:
            if checked[1] is None:
                unstated.append(len(boxes))
            boxes.append(checked[0])
            confidence.append(1.0 if checked[1] is None else checked[1])
    if last_failure is not None and not boxes:
        return Failure(f"{Reason.NO_VALID_ITEM} ({last_failure.reason})")
    if unstated:
        notes.append("no confidence")
    return Parsed(Detections(tuple(boxes), tuple(confidence), unread, tuple(unstated), tuple(labels)), tuple(notes))


def _as_items(value: Any, notes: list[str]) -> list[Any] | None:
    """The items of whatever was written for a list; None if it is no list at all."""
    if is_four_numbers(value) or is_two_corners(value):
        notes.append("a single box for a list")
        return [value]
    if isinstance(value, dict) and not positions_of(value) and corners_of(value) is None:
        inner = [v for v in value.values() if isinstance(v, list)]
        if len(inner) == 1:
            notes.append("list inside an object")
            return list(inner[0])
    if isinstance(value, dict):
        notes.append("a single object for a list")
        return [value]
    while isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], (list, tuple)):
        if is_four_numbers(value[0]) or is_two_corners(value[0]):
            break
        notes.append("nested list")
        (value,) = value
    if not isinstance(value, (list, tuple)):
        return None
    if isinstance(value, tuple):
        notes.append("objects without a list")
    if not value or (len(value) == 1 and isinstance(value[0], str) and normalized(value[0]) in NOTHING_THERE):
        notes.append("'No Objects' written otherwise")
        return []
    return list(value)


def _as_asked(item: Any, extent: tuple[float, float]) -> tuple[Box, float | None] | None:
    """The box and confidence of an item that is exactly as asked, else None.

    What :func:`_detection` would return, without a call per check: this runs for every box of every completion, and
    nearly all are as asked.
    """
    if type(item) is not dict or len(item) != 2:
        return None
    position: Any = item.get("Position")
    sure: Any = item.get("Confidence")
    if type(position) is not list or len(position) != 4 or type(sure) not in _NUMBERS:
        return None
    x1, y1, x2, y2 = position
    if type(x1) in _NUMBERS and type(y1) in _NUMBERS and type(x2) in _NUMBERS and type(y2) in _NUMBERS:
        width, height = extent
        if 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height and 0 <= sure <= 1:
            return (float(x1), float(y1), float(x2), float(y2)), float(sure)
    return None


def _detection(
    item: Any, extent: tuple[float, float], category: str | None, notes: list[str]
) -> tuple[Box, float | None] | Failure:
    """The box of an item, and its confidence; None where it gives none."""
    if is_four_numbers(item) or is_two_corners(item):
        item = {POSITION_KEYS[0]: list(item)}
    if not isinstance(item, dict):
        return Failure(Reason.NOT_AN_OBJECT)
    usual = len(item) == 2 and "Position" in item and "Confidence" in item
    positions = [item["Position"]] if usual else positions_of(item) or [v for v in (corners_of(item),) if v]
    if len(positions) != 1:
        return Failure(Reason.MORE_THAN_ONE_POSITION if positions else Reason.NO_POSITION)
    confidence: Any = item["Confidence"] if usual else next(iter(under(CONFIDENCE_KEYS, item)), None)
    if confidence is not None and (not is_finite_number(confidence) or not 0 <= confidence <= 1):
        return Failure(Reason.NO_CONFIDENCE)
    if not usual:
        names = under(LABEL_KEYS, item)
        names = [name for name in names if isinstance(name, str)] or [str(name) for name in names if name is not None]
        if category is not None and any(normalized(name) != normalized(category) for name in names):
            return Failure(Reason.ANOTHER_LABEL)
        if "other keys than asked" not in notes:
            notes.append("other keys than asked")
    (position,) = positions
    while isinstance(position, list) and len(position) == 1 and isinstance(position[0], list):
        notes.append("nested position")
        (position,) = position
    if (corners := corners_of(position)) is not None:
        notes.append("position as corner points")
        position = corners
    box = valid_box(position, extent, notes)
    return box if isinstance(box, Failure) else (box, None if confidence is None else float(confidence))


def _label_of(item: Any, known: Mapping[str, str]) -> str | Failure:
    """The class that an item names, spelled as in the question; ``known`` holds the classes by normalised name."""
    names = [name for name in under(LABEL_KEYS, item) if name is not None] if isinstance(item, Mapping) else []
    if len({normalized(str(name)) for name in names}) != 1 or not isinstance(names[0], (str, int)):
        return Failure(Reason.MORE_THAN_ONE_LABEL if names else Reason.NO_LABEL)
    name = normalized(str(names[0]))
    if known and name not in known:
        return Failure(Reason.ANOTHER_LABEL)
    return known.get(name, str(names[0])) if name else Failure(Reason.NO_LABEL)


def _labelled(
    item: Mapping[str, Any], extent: tuple[float, float], notes: list[str]
) -> tuple[Box, float | None] | Failure:
    """As :func:`_detection`; an item that is as asked has a label besides."""
    if item.keys() == {"Position", "Label", "Confidence"}:
        return _detection({key: item[key] for key in ("Position", "Confidence")}, extent, None, notes)
    return _detection(item, extent, None, notes)
