"""Boxes as models were taught to write them before fine-tuning. The text is data: nothing here raises or is run.

Decision: whatever a family's own documentation shows is read, so that the first answers of a run are not worth nothing
for their spelling; each is noted, so that ``strict_format`` still asks for the form that the prompt describes.

>>> corners_of({"x1": 10, "y1": 20, "x2": 110, "y2": 220}), corners_of([[10, 20], [110, 220]])
([10, 20, 110, 220], [10, 20, 110, 220])
>>> boxes_in_text("<|object_ref_start|>cat<|object_ref_end|><|box_start|>(10,20),(110,220)<|box_end|>")
[('cat', [10.0, 20.0, 110.0, 220.0])]
>>> plain("\\uff3b10\\uff0c20\\uff3d")
'[10,20]'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from visual_rft.tasks.parsing.completion import Failure, Reason
from visual_rft.vision.boxes import Box, is_finite_number, is_four_numbers

TOLERANCE = 0.01
"""Share of the image by which a coordinate may lie outside it; it is then moved to the edge."""
_NUMBER = r"\s*([-+]?\d{1,12}(?:\.\d{0,12})?)\s*"
CORNERS = re.compile(rf"\({_NUMBER},{_NUMBER}\)\s*(?:,\s*)?\({_NUMBER},{_NUMBER}\)")
"""``(x1,y1),(x2,y2)``."""
FOUR = re.compile(rf"[\[(]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])]")
"""``[x1, y1, x2, y2]``, also in round brackets."""
PAIR = re.compile(r"\d\s*,\s*[-+]?\d")
"""Two numbers with a comma between: what may be another box."""
_SPACED = re.compile(
    r"<box>\s*" + r"[\s,]+".join([r"([-+]?\d{1,12}(?:\.\d{0,12})?)"] * 4) + r"\s*</box>", re.IGNORECASE
)
BOX_TOKENS = re.compile(r"<\|box_(?:start|end)\|>|</?box>", re.IGNORECASE)
"""Qwen2-VL's and InternVL's marks around a box."""
# A bounded name: of thousands of opened marks each would otherwise be looked through to the end.
_NAMED = re.compile(
    r"<\|object_ref_start\|>(.{0,200}?)<\|object_ref_end\|>|<ref>(.{0,200}?)</ref>", re.IGNORECASE | re.DOTALL
)
POSITION_KEYS = ("position", "bbox_2d", "bbox", "box")
CONFIDENCE_KEYS = ("confidence", "score")
LABEL_KEYS = ("label", "category", "class", "name")
NOTHING_THERE = {"no objects", "no object", "no objects found", "there are no objects", "none", "nothing"}
"""What says, normalised, that there is nothing."""
_CORNER_KEYS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"),
                ("left", "top", "right", "bottom"))  # fmt: skip
_WIDE = {
    **{0xFF01 + i: 0x21 + i for i in range(0x5E)},  # every sign of ASCII has a full-width twin
    **str.maketrans("\u3000\u3001\u3010\u3011\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b", " ,[]\"\"\"\"''''"),
}


def plain(text: str) -> str:
    """``text`` with full-width digits, commas, brackets and quotes, and curly quotes, as ASCII writes them."""
    return text if text.isascii() else text.translate(_WIDE)


def without_box_tokens(text: str) -> str:
    """``text`` without marks around boxes; four numbers between spaces in such marks become ``[x1, y1, x2, y2]``."""
    if "<" not in text:
        return text.strip()
    return BOX_TOKENS.sub("", _SPACED.sub(r"[\1, \2, \3, \4]", text)).strip()


def is_two_corners(value: Any) -> bool:
    """Whether ``value`` is ``[[x1, y1], [x2, y2]]``: two lists or tuples of two finite numbers."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(
        isinstance(point, (list, tuple)) and len(point) == 2 and all(map(is_finite_number, point)) for point in value
    )  # fmt: skip


def corners_of(value: Any) -> list[Any] | None:
    """The four values of a box that is written as two corner points, or as an object with a key per side; else None."""
    if is_two_corners(value):
        return [*value[0], *value[1]]
    if isinstance(value, Mapping):
        keys = {key.lower(): key for key in value if isinstance(key, str)}
        for names in _CORNER_KEYS:
            if keys.keys() >= set(names):
                return [value[keys[name]] for name in names]
    return None


def under(keys: tuple[str, ...], item: Mapping[Any, Any]) -> list[Any]:
    """The values under any of ``keys``, in whatever case the keys are written."""
    return [value for key, value in item.items() if str(key).lower() in keys]


def positions_of(item: Mapping[Any, Any]) -> list[Any]:
    """What an object holds under the keys for a box."""
    return under(POSITION_KEYS, item)


def boxes_in_text(body: str) -> list[tuple[str | None, list[float]]] | None:
    """The boxes of an answer that is neither list nor object, each with the name that stands before it in a family's
    marks; None if there is no box, or numbers beside the boxes that may be another.
    """
    found: list[tuple[str | None, list[float]]] = []
    name: str | None = None
    beside = []
    end = 0
    text = _SPACED.sub(r"[\1, \2, \3, \4]", body)
    text = BOX_TOKENS.sub(" ", text)
    places = sorted((*_NAMED.finditer(text), *CORNERS.finditer(text), *FOUR.finditer(text)), key=lambda f: f.start())
    for place in places:
        if place.start() < end:  # inside a name, or the second half of what was read
            continue
        beside.append(text[end : place.start()])
        end = place.end()
        if place.re is _NAMED:
            name = next((group.strip() for group in place.groups() if group is not None), None)
        else:
            found.append((name, [float(number) for number in place.groups()]))
    beside.append(text[end:])
    return None if not found or PAIR.search(" ".join(beside)) else found


def valid_box(position: Any, extent: tuple[float, float], notes: list[str]) -> Box | Failure:
    """Four numbers as a valid box inside the image; a coordinate just outside is moved to the edge."""
    if not is_four_numbers(position):
        return Failure(Reason.NOT_FOUR_NUMBERS)
    x1, y1, x2, y2 = position
    width, height = extent
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        over, under = TOLERANCE * width, TOLERANCE * height
        if min(x1, x2) < -over or max(x1, x2) > width + over or min(y1, y2) < -under or max(y1, y2) > height + under:
            return Failure(Reason.OUTSIDE_THE_IMAGE)
        x1, x2 = (min(max(v, 0), width) for v in (x1, x2))
        y1, y2 = (min(max(v, 0), height) for v in (y1, y2))
        if x2 <= x1:
            return Failure(Reason.NO_WIDTH)
        if y2 <= y1:
            return Failure(Reason.NO_HEIGHT)
        notes.append("moved to the edge of the image")
    return float(x1), float(y1), float(x2), float(y2)
