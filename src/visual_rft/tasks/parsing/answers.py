"""One name or one box: model text to an answer, or to the reason why not. The text is data: nothing here raises.

Decision: whatever was tolerated, repaired or dropped is noted by name. Tags are read in
:mod:`visual_rft.tasks.parsing.completion`, lists and objects in :mod:`visual_rft.tasks.parsing.structure`.

>>> parse_box("<answer>(10,20),(110,220)</answer>", extent=(1000, 1000)).value
(10.0, 20.0, 110.0, 220.0)
>>> parse_label("<answer>Red poppy.</answer>").value
'Red poppy.'
"""

from __future__ import annotations

from typing import Any

from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, answer_text, normalized
from visual_rft.tasks.parsing.spellings import (
    CORNERS,
    FOUR,
    LABEL_KEYS,
    PAIR,
    corners_of,
    plain,
    positions_of,
    valid_box,
    without_box_tokens,
)
from visual_rft.tasks.parsing.structure import LONGEST_ANSWER, WIDE, read_structure, unfenced
from visual_rft.vision.boxes import Box


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
            value = [value[key] for key in LABEL_KEYS if key in value] or list(value.values())
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
        positions = positions_of(position)
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
