"""Whether what a run folder holds has the shapes that docs/run-folder.md says.

Decision: the folder may come from a stranger, or from a disk that lost half of it; what is drawn goes through here
once, so that nothing further on has to ask what it is.

>>> is_question({"images": ["a.png"], "truth": {"boxes": []}}), is_question({"images": 5})
(True, False)
>>> is_completion({"rewards": {}, "answer": {"boxes": [[1, 2, 3, 4]], "unstated": [7]}})
False
>>> leakage_of({"leakage": {"leaked": 1, "held_out_images": 4, "pairs": [{"held_out": "a.png"}]}})
('1 of 4 held-out images are training images or look like one: a.png',)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visual_rft.vision.boxes import is_finite_number

MAX_NAMED = 5
"""Held-out images that are named in a sentence; the others are counted."""


def shaped(content: Mapping[str, Any], file: Path, problems: list[str], **kinds: type) -> dict[str, Any]:
    """``content`` without the fields that are not of the kind they should be; each is named."""
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind | None)]
    if wrong:
        problems.append(f"{file}: {', '.join(wrong)}: not what it should be; left out")
    return {
        name: value for name, value in content.items() if name not in wrong and (value is not None or name not in kinds)
    }


def numbers_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The numbers of a line of metrics, None for those that were not finite."""
    return {name: value for name, value in row.items() if value is None or isinstance(value, (int, float))}


def is_question(row: Any) -> bool:
    """Whether the fields that a report shows of a question have their shapes."""
    size = row.get("image_size")
    return (
        isinstance(row.get("images", []), list)
        and all(isinstance(row.get(name), Mapping | None) for name in ("question", "truth"))
        and (size is None or (isinstance(size, list) and len(size) == 2 and all(_is_size(side) for side in size)))
    )


def _is_size(side: Any) -> bool:
    return isinstance(side, (int, float)) and 0 < side < 1e9


def is_completion(row: Any) -> bool:
    """Whether those of an answer have theirs."""
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(name), kind) for name, kind in (("rewards", dict | None), ("notes", list | None)))
        and _is_answer(row.get("answer"))
    )


def _is_answer(answer: Any) -> bool:
    """Whether the places and numbers that are looked up by box are there; anything else is shown as it is."""
    if not isinstance(answer, Mapping):
        return True
    boxes, places, ranks = answer.get("boxes"), answer.get("unstated", ()), answer.get("token_scores") or ()
    if not places and not ranks:
        return True
    count = len(boxes) if isinstance(boxes, list) else 0
    return (
        isinstance(places, (list, tuple))
        and all(type(n) is int and 0 <= n < count for n in places)
        and isinstance(ranks, (list, tuple))
        and len(ranks) in (0, count)
        and all(map(is_finite_number, ranks))
    )


def is_example(row: Any) -> bool:
    """Whether a line is a question with its one answer, if any."""
    return isinstance(row, dict) and is_question(row) and is_completion(row.get("completion") or {})


def leakage_of(data: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What ``data.json`` says of held-out images that are trained on, in a sentence; () where there are none."""
    said = (data or {}).get("leakage")
    if not isinstance(said, Mapping) or not is_finite_number(said.get("leaked")) or said["leaked"] < 1:
        return ()
    leaked, pairs = said["leaked"], said.get("pairs")
    named = (
        [str(pair.get("held_out")) for pair in pairs if isinstance(pair, Mapping)] if isinstance(pairs, list) else []
    )
    more = f" and {leaked - MAX_NAMED} more" if leaked > MAX_NAMED and len(named) > MAX_NAMED else ""
    names = f": {', '.join(named[:MAX_NAMED])}{more}" if named else ""
    return (f"{leaked} of {said.get('held_out_images')} held-out images are training images or look like one{names}",)
