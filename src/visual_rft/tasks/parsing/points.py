"""Points: model text to them, or to the reason why not. The text is data: nothing here raises, nothing runs it.

Decision: ``(x,y)`` is asked for, one after another with commas between. Lists, objects with ``point_2d`` or ``x`` and
``y``, and one point within a sentence are read too and noted; of a box where a point was asked for the centre is taken.

>>> read_points("(10,20), (30,40)", (1000, 1000)).value.points
((10.0, 20.0), (30.0, 40.0))
>>> read_points('[{"point_2d": [10, 20], "label": "cat"}]', (1000, 1000))
Parsed(value=Points(points=((10.0, 20.0),), unread=0), notes=('points written as a list',))
>>> read_points("(10,2000)", (1000, 1000))
Failure(reason='outside the image')
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, normalized
from visual_rft.tasks.parsing.detections import NO_OBJECTS
from visual_rft.tasks.parsing.spellings import NOTHING_THERE, PAIR, TOLERANCE, corners_of, plain, positions_of, under
from visual_rft.tasks.parsing.structure import LONGEST_ANSWER, WIDE, read_structure, unfenced
from visual_rft.vision.boxes import is_finite_number, is_four_numbers

Point = tuple[float, float]
"""``(x, y)`` with x to the right and y down."""
MOST_POINTS = 100
"""Points kept of one answer; more are counted."""
_NUMBER = r"\s*([-+]?\d{1,12}(?:\.\d{0,12})?)\s*"
_POINT = re.compile(rf"\({_NUMBER},{_NUMBER}\)")
_EXACT = re.compile(r"\([-+]?\d{1,12}(?:\.\d{0,12})?, ?\d{1,12}(?:\.\d{0,12})?\)(?:, ?\([^()]{1,60}\))*")
_TOKENS = re.compile(r"<loc(\d{4})>\s*<loc(\d{4})>")
_MARKS = re.compile(r"</?points?>|<\|(?:point|box)_(?:start|end)\|>", re.IGNORECASE)
_KEYS = ("point_2d", "point", "points", "coordinate", "coordinates", "click", "position")


class Points(NamedTuple):
    """Points in the units the model wrote, inside the image, and how many more were written than are looked at."""

    points: tuple[Point, ...]
    unread: int = 0


def location_point(point: tuple[int, int]) -> str:
    """A point in the notation of models that have a token per place: y before x.

    >>> location_point((10, 20))
    '<loc0020><loc0010>'
    """
    return f"<loc{point[1]:04d}><loc{point[0]:04d}>"


def without_point_tokens(text: str, notation: str = "({x},{y})") -> str:
    """``text`` with every two location tokens in a row written as a point; ``notation`` has the places {x} and {y}.

    >>> without_point_tokens("<loc0020><loc0010>, <loc0040><loc0030>")
    '(10,20), (30,40)'
    """
    return _TOKENS.sub(lambda found: notation.format(x=int(found[2]), y=int(found[1])), text)


def read_points(body: str, extent: tuple[float, float]) -> Parsed[Points] | Failure:
    """Read the points of an answer, the text between the tags; none for ``No Objects``.

    Args:
        body: the answer.
        extent: (width, height) of the image in the units the model writes.
    """
    if len(body) > LONGEST_ANSWER:
        return Failure(Reason.ANSWER_TOO_LONG)
    if body == NO_OBJECTS:
        return Parsed(Points(()))
    if len(body) < 40 and normalized(unfenced(body)) in NOTHING_THERE:
        return Parsed(Points(()), ("'No Objects' written otherwise",))
    if not body:
        return Failure(Reason.EMPTY_ANSWER)
    notes = []
    text = plain(body)
    if text != body:
        notes.append(WIDE)
    if _MARKS.search(text):
        text = _MARKS.sub("", text).strip()
        notes.append("point marks")
    written = _in_brackets(text, notes)
    if written is None:
        written = _in_structure(text, notes)
    if isinstance(written, Failure):
        return written
    if written is None:
        return Failure(Reason.NOT_A_POINT)
    points: list[Point] = []
    for point in written[:MOST_POINTS]:
        inside = _inside(point, extent, notes)
        if isinstance(inside, Failure):
            return inside
        points.append(inside)
    unread = len(written) - len(points)
    if unread:
        notes.append(f"only the first {MOST_POINTS} of {len(written)} points read")
    return Parsed(Points(tuple(points), unread), tuple(dict.fromkeys(notes)))


def points_of(value: Any, extent: tuple[float, float], notes: list[str]) -> list[Point] | Failure:
    """The points of a value that is a point or a list of points, at most :data:`MOST_POINTS`."""
    points: list[Point] = []
    for point in _points_of(value, notes, 3):
        inside = Failure(Reason.NOT_A_POINT) if point is None else _inside(point, extent, notes)
        if isinstance(inside, Failure):
            return inside
        points.append(inside)
    if len(points) > MOST_POINTS:
        notes.append(f"only the first {MOST_POINTS} of {len(points)} points read")
    return points[:MOST_POINTS]


def _in_brackets(text: str, notes: list[str]) -> list[Point] | Failure | None:
    """The points that are written as ``(x,y)``, alone or in a sentence; None if there is none."""
    found = list(_POINT.finditer(text))
    if not found:
        return None
    around = _POINT.sub(" ", text)
    if PAIR.search(around):  # which numbers are meant is not ours to choose
        return Failure(Reason.MORE_THAN_ONE_POINT)
    if around.strip(" ,\n\t"):
        if NO_OBJECTS.casefold() in around.casefold():
            return Failure(Reason.BOXES_BESIDE_NO_OBJECTS)
        if re.search(r"\b(?:not|or|either|never|except|instead|maybe)\b", around.casefold()):
            return Failure(Reason.NOT_A_POINT)
        if len(found) > 1 and around.strip(" ,;[]\n\t"):
            return Failure(Reason.MORE_THAN_ONE_POINT)
        notes.append("text around the point")
    elif not _EXACT.fullmatch(text):
        notes.append("other spaces than asked")
    return [(float(x), float(y)) for x, y in (place.groups() for place in found)]


def _in_structure(text: str, notes: list[str]) -> list[Point] | Failure | None:
    """The points of a list or object; None if it is neither, a failure if an item is no point."""
    if re.fullmatch(r"\s*[-+]?[\d.]{1,20}\s*,\s*[-+]?[\d.]{1,20}\s*", text):
        text = f"[{text}]"
    structure = read_structure(text)
    if isinstance(structure, Failure):
        return None
    notes += [*structure.notes, "points written as a list"]
    found: list[Point] = []
    for point in _points_of(structure.value, notes, 4):
        if point is None:
            return Failure(Reason.NOT_A_POINT)
        found.append(point)
    return found


def _points_of(value: Any, notes: list[str], depth: int) -> Iterator[Point | None]:
    """Every point inside ``value``; None for whatever is no point."""
    box = list(value) if is_four_numbers(value) else corners_of(value) if isinstance(value, Mapping) else None
    if is_four_numbers(box):
        notes.append("the centre of a box")
        yield (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    elif isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_finite_number, value)):
        yield float(value[0]), float(value[1])
    elif isinstance(value, (list, tuple)) and depth:
        for item in value:
            yield from _points_of(item, notes, depth - 1)
    elif isinstance(value, Mapping) and depth:
        keys = {str(key).lower(): key for key in value}
        inner = under(_KEYS, value) or positions_of(value)
        if keys.keys() >= {"x", "y"}:
            inner = [*inner, [value[keys["x"]], value[keys["y"]]]]
        if len(inner) == 1:
            yield from _points_of(inner[0], notes, depth - 1)
        else:
            yield None
    else:
        yield None


def _inside(point: Point, extent: tuple[float, float], notes: list[str]) -> Point | Failure:
    """A point inside the image; one that is just outside is moved to the edge."""
    moved = []
    for value, most in zip(point, extent, strict=True):
        if not -TOLERANCE * most <= value <= (1 + TOLERANCE) * most:
            return Failure(Reason.OUTSIDE_THE_IMAGE)
        moved.append(min(max(value, 0.0), float(most)))
    if (moved[0], moved[1]) != point:
        notes.append("moved to the edge of the image")
    return moved[0], moved[1]
