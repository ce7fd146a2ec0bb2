"""Model text to an answer, or to the reason why not. The text is data: nothing here raises, nothing runs it.

Decision: whatever was tolerated, repaired or dropped is noted by name. Items are checked one by one, so one malformed
item does not take the good ones with it. Tags are read in :mod:`visual_rft.tasks.parsing.completion`, lists and objects
in :mod:`visual_rft.tasks.parsing.structure`.

>>> text = "<think>one</think><answer>[{'Position': [10, 20, 110, 220], 'Confidence': 0.9}]</answer>"
>>> parse_detections(text, extent=(1000, 1000)).value.boxes
((10.0, 20.0, 110.0, 220.0),)
>>> parse_detections("I see a cat", extent=(1000, 1000))
Failure(reason='no answer tag')
>>> parse_box("<answer>(10,20),(110,220)</answer>", extent=(1000, 1000)).value
(10.0, 20.0, 110.0, 220.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, answer_text, normalized
from visual_rft.tasks.parsing.spellings import (
    CORNERS,
    FOUR,
    PAIR,
    boxes_in_text,
    corners_of,
    is_two_corners,
    plain,
    valid_box,
    without_box_tokens,
)
from visual_rft.tasks.parsing.structure import LONGEST_ANSWER, OBJECT, SALVAGED, WIDE, read_structure, unfenced
from visual_rft.vision.boxes import Box, is_finite_number, is_four_numbers

MOST_BOXES = 100
"""Boxes kept of one answer, as many as COCO's AP looks at; matching stays cheap whatever the model writes."""

NO_OBJECTS = "No Objects"
_NOTHING_THERE = {"no objects", "no object", "no objects found", "there are no objects", "none", "nothing"}
_POSITION_KEYS = ("position", "bbox_2d", "bbox", "box")
_CONFIDENCE_KEYS = ("confidence", "score")
_LABEL_KEYS = ("label", "category", "class", "name")

_NUMBERS = frozenset({int, float})


class Detections(NamedTuple):
    """Boxes with confidence.

    Attributes:
        boxes: N boxes.
        confidence: N numbers in [0, 1]; 1 where the answer gives none.
        unread: boxes beyond :data:`MOST_BOXES`, which were not looked at.
        unstated: places, ascending, of the boxes that were written without a confidence.
    """

    boxes: tuple[Box, ...]
    confidence: tuple[float, ...]
    unread: int = 0
    unstated: tuple[int, ...] = ()


def parse_detections(
    text: str, extent: tuple[float, float], category: str | None = None
) -> Parsed[Detections] | Failure:
    """Read ``[{'Position': [x1, y1, x2, y2], 'Confidence': c}, ...]`` or ``No Objects``.

    Args:
        text: a whole completion with its tags.
        extent: (width, height) of the image in the units the model writes.
        category: what was asked for; an item that names another label is dropped. None believes every label.

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
    if len(body) < 40 and normalized(unfenced(body)) in _NOTHING_THERE:
        return Parsed(Detections((), ()), (*notes, "'No Objects' written otherwise"))
    written = None
    if "{" not in body and len(body) <= LONGEST_ANSWER and "{" not in (text_alone := plain(body)):
        written = boxes_in_text(text_alone)
    if written is not None:
        notes.append("boxes written as text")
        structure = Parsed([{_LABEL_KEYS[0]: name, _POSITION_KEYS[0]: box} for name, box in written])
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
    if str in map(type, items) and any(isinstance(v, str) and normalized(v) in _NOTHING_THERE for v in items):
        return Failure(Reason.BOXES_BESIDE_NO_OBJECTS)
    boxes: list[Box] = []
    confidence: list[float] = []
    unread = max(0, len(items) - MOST_BOXES)
    unstated: list[int] = []
    last_failure: Failure | None = None
    if unread:
        notes.append(f"only the first {MOST_BOXES} of {len(items)} boxes read")
    for number, item in enumerate(items[:MOST_BOXES], start=1):
        checked = _as_asked(item, extent) or _detection(item, extent, category, notes)
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
    return Parsed(Detections(tuple(boxes), tuple(confidence), unread, tuple(unstated)), tuple(notes))


def parse_label(text: str) -> Parsed[str] | Failure:
    """Read one class name: the whole content of the answer tag, as it was written.

    Quotes, a code fence, and a list or object that holds a single name are removed.
    """
    found = answer_text(text)
    if isinstance(found, Failure):
        return found
    body, cut = found
    if cut:
        return Failure(Reason.TRUNCATED)
    if len(body) > LONGEST_ANSWER:
        return Failure(Reason.ANSWER_TOO_LONG)
    notes: tuple[str, ...] = ()
    if body.startswith(("[", "{", "(", '"', "'", "`")):
        structure = read_structure(body)
        value = structure.value if isinstance(structure, Parsed) else unfenced(body).strip("`'\"() \n")
        if isinstance(value, dict):
            value = [value[key] for key in _LABEL_KEYS if key in value] or list(value.values())
        if isinstance(value, (list, tuple, set)):
            if len(value) != 1:
                return Failure(Reason.MORE_THAN_ONE_LABEL if value else Reason.EMPTY_ANSWER)
            (value,) = value
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            return Failure(Reason.NOT_A_NAME)
        body, notes = str(value).strip(), ("name inside quotes, a fence or a list",)
    if not normalized(body):
        return Failure(Reason.EMPTY_ANSWER)
    return Parsed(body, notes)


def parse_box(text: str, extent: tuple[float, float]) -> Parsed[Box] | Failure:
    """Read one box, ``(x1,y1),(x2,y2)`` or ``[x1, y1, x2, y2]``, alone or under a position key.

    Args:
        text: a whole completion with its tags.
        extent: (width, height) of the image in the units the model writes.
    """
    found = answer_text(text)
    if isinstance(found, Failure):
        return found
    body, cut = found
    if len(body) > LONGEST_ANSWER:
        return Failure(Reason.ANSWER_TOO_LONG)
    asked, body = body, plain(body)
    for read in (_corners_alone, _structure_with_box, _text_around_box):
        position = read(body)
        if isinstance(position, Failure):
            return position
        if position is not None:
            notes = [*(["truncated"] if cut else []), *([WIDE] if body != asked else []), *position.notes]
            box = valid_box(position.value, extent, notes)
            return box if isinstance(box, Failure) else Parsed(box, tuple(notes))
    return Failure(Reason.TRUNCATED if cut else Reason.NOT_A_BOX)


def _corners_alone(body: str) -> Parsed[Any] | None:
    """The four numbers of ``(x1,y1),(x2,y2)`` and nothing else, box tokens aside; None if the answer is not that."""
    bare = without_box_tokens(body)
    corners = CORNERS.fullmatch(bare)
    if corners is None:
        return None
    return Parsed([float(v) for v in corners.groups()], () if bare == body else ("box tokens",))


def _structure_with_box(body: str) -> Parsed[Any] | Failure | None:
    """What stands for the position in a list or an object; None if the answer is neither, a failure if it holds two."""
    bare = without_box_tokens(body)
    structure = None if CORNERS.search(bare) else read_structure(bare)
    if not isinstance(structure, Parsed):
        return None
    position = _unwrapped(structure.value, (list, tuple))
    position = corners_of(position) or position
    if isinstance(position, dict):
        positions = _positions(position)
        if len(positions) > 1:
            return Failure(Reason.MORE_THAN_ONE_BOX)
        position = _unwrapped(positions[0], (list,)) if positions else None
        position = corners_of(position) or position
    elif isinstance(position, (list, tuple)) and any(isinstance(v, (list, tuple, dict)) for v in position):
        return Failure(Reason.MORE_THAN_ONE_BOX)
    return Parsed(position, (*structure.notes, "box written as a list"))


def _text_around_box(body: str) -> Parsed[Any] | Failure | None:
    """The four numbers of the only box in other text; None if there is no box, a failure if there may be another."""
    bare = without_box_tokens(body)
    boxes = [*CORNERS.finditer(bare), *FOUR.finditer(bare)]
    if not boxes:
        return None
    around = bare[: boxes[0].start()] + " " + bare[boxes[0].end() :]
    if len(boxes) > 1 or PAIR.search(around):  # which one is meant is not ours to choose
        return Failure(Reason.MORE_THAN_ONE_BOX)
    return Parsed([float(v) for v in boxes[0].groups()], ("text around the box",))


def _unwrapped(value: Any, kinds: tuple[type[list[Any] | tuple[Any, ...]], ...]) -> Any:
    """What is inside lists of one item each."""
    while isinstance(value, kinds) and len(value) == 1:
        (value,) = value
    return value


def _as_items(value: Any, notes: list[str]) -> list[Any] | None:
    """The items of whatever was written for a list; None if it is no list at all."""
    if is_four_numbers(value) or is_two_corners(value):
        notes.append("a single box for a list")
        return [value]
    if isinstance(value, dict) and not _positions(value) and corners_of(value) is None:
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
    if not value or (len(value) == 1 and isinstance(value[0], str) and normalized(value[0]) in _NOTHING_THERE):
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
        item = {_POSITION_KEYS[0]: list(item)}
    if not isinstance(item, dict):
        return Failure(Reason.NOT_AN_OBJECT)
    usual = len(item) == 2 and "Position" in item and "Confidence" in item
    positions = [item["Position"]] if usual else _positions(item) or [v for v in (corners_of(item),) if v]
    if len(positions) != 1:
        return Failure(Reason.MORE_THAN_ONE_POSITION if positions else Reason.NO_POSITION)
    confidence: Any = item["Confidence"] if usual else next(iter(_under(_CONFIDENCE_KEYS, item)), None)
    if confidence is not None and (not is_finite_number(confidence) or not 0 <= confidence <= 1):
        return Failure(Reason.NO_CONFIDENCE)
    if not usual:
        names = _under(_LABEL_KEYS, item)
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


def _under(keys: tuple[str, ...], item: Mapping[Any, Any]) -> list[Any]:
    """The values under any of ``keys``, in whatever case the keys are written."""
    return [value for key, value in item.items() if str(key).lower() in keys]


def _positions(item: Mapping[Any, Any]) -> list[Any]:
    return _under(_POSITION_KEYS, item)
