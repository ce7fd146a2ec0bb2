"""What a segmenter is prompted with, a box and points: model text to them, or to the reason why not. Nothing raises.

Decision: one object with a box and a list of points is asked for; a box alone is read too, since a segmenter can do
with it, and noted. Keys that begin with ``point`` hold points, as Seg-Zero's ``points_1`` and ``points_2`` do.

>>> parse_prompt("<answer>{'Position': [10, 20, 110, 220], 'Points': [[60, 70]]}</answer>", (1000, 1000)).value
BoxAndPoints(box=(10.0, 20.0, 110.0, 220.0), points=((60.0, 70.0),))
>>> parse_prompt("<answer>No Objects</answer>", (1000, 1000)).value.box is None
True
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from visual_rft.tasks.parsing.answers import parse_box
from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, answer_text, normalized
from visual_rft.tasks.parsing.detections import NO_OBJECTS
from visual_rft.tasks.parsing.points import Point, points_of
from visual_rft.tasks.parsing.spellings import NOTHING_THERE, corners_of, positions_of, valid_box
from visual_rft.tasks.parsing.structure import LONGEST_ANSWER, read_structure, unfenced
from visual_rft.vision.boxes import Box


class BoxAndPoints(NamedTuple):
    """A box, None for nothing, and points on the object, in the units the model wrote."""

    box: Box | None
    points: tuple[Point, ...]


def parse_prompt(text: str, extent: tuple[float, float]) -> Parsed[BoxAndPoints] | Failure:
    """Read ``{'Position': [x1, y1, x2, y2], 'Points': [[x, y], ...]}`` or ``No Objects``.

    Args:
        text: a whole completion with its tags.
        extent: (width, height) of the image in the units the model writes.
    """
    found = answer_text(text)
    if isinstance(found, Failure):
        return found
    body, cut = found
    if body == NO_OBJECTS and not cut:
        return Parsed(BoxAndPoints(None, ()))
    if len(body) < 40 and not cut and normalized(unfenced(body)) in NOTHING_THERE:
        return Parsed(BoxAndPoints(None, ()), ("'No Objects' written otherwise",))
    structure = read_structure(body) if len(body) <= LONGEST_ANSWER and "{" in body else None
    if NO_OBJECTS.casefold() in body.casefold():
        return Failure(Reason.BOXES_BESIDE_NO_OBJECTS)
    if isinstance(structure, Parsed):
        value: Any = structure.value
        notes = list(structure.notes)
        if isinstance(value, list) and len(value) == 1:
            (value,) = value
            notes.append("an object inside a list")
        if isinstance(value, Mapping) and (keys := [key for key in value if str(key).lower().startswith("point")]):
            return _of_object(value, keys, extent, notes + (["truncated"] if cut else []))
    box = parse_box(text, extent)
    return box if isinstance(box, Failure) else Parsed(BoxAndPoints(box.value, ()), (*box.notes, "no points"))


def _of_object(
    value: Mapping[Any, Any], keys: list[Any], extent: tuple[float, float], notes: list[str]
) -> Parsed[BoxAndPoints] | Failure:
    positions = positions_of(value) or [corners for corners in (corners_of(value),) if corners]
    if len(positions) != 1:
        return Failure(Reason.MORE_THAN_ONE_POSITION if positions else Reason.NO_POSITION)
    if value.keys() != {"Position", "Points"}:
        notes.append("other keys than asked")
    box = valid_box(corners_of(positions[0]) or positions[0], extent, notes)
    if isinstance(box, Failure):
        return box
    points: list[Point] = []
    for key in keys:
        read = points_of(value[key], extent, notes)
        if isinstance(read, Failure):
            return read
        points += read
    return Parsed(BoxAndPoints(box, tuple(points)), tuple(notes) if points else (*notes, "no points"))
