"""How the Qwen3-VL family itself is asked for boxes and writes them, beside the tasks' own wording.

Decision: one fixed wording, so that the embedded model's tokenizer knows it as a few tokens: boxes as ``bbox_2d`` in
0..1000 with a label, as JSON in a fence, the layout the published models were taught.

>>> prompt("every red circle")
'Locate every red circle in the image. Report bbox coordinates in JSON format.'
>>> text = answer([((10, 20, 110, 220), "red circle")])
>>> text
'```json\\n[\\n\\t{"bbox_2d": [10, 20, 110, 220], "label": "red circle"}\\n]\\n```'
>>> read(text)
[((10.0, 20.0, 110.0, 220.0), 'red circle')]
"""

from __future__ import annotations

from collections.abc import Iterable

from visual_rft.tasks.parsing.completion import Failure
from visual_rft.tasks.parsing.notations import NOTATIONS
from visual_rft.tasks.parsing.structure import read_structure
from visual_rft.vision.boxes import Box, is_four_numbers

_WORDS = NOTATIONS["bbox_2d"]
NOTHING = _WORDS.nothing
"""The answer where nothing is there."""


def prompt(what: str) -> str:
    """The question for ``every red circle`` or ``the largest shape``."""
    return _WORDS.ask(what, "")


def answer(found: Iterable[tuple[tuple[int, ...], str]]) -> str:
    """The boxes, in 0..1000, each with its label."""
    return _WORDS.write([(str(list(box)), label) for box, label in found])


def read(text: str) -> list[tuple[Box, str]] | None:
    """The boxes of an answer with their labels; None where it is not such a list."""
    parsed = read_structure(text.strip())
    if isinstance(parsed, Failure) or not isinstance(parsed.value, list):
        return None
    found = []
    for item in parsed.value:
        position = item.get("bbox_2d") if isinstance(item, dict) else None
        if not is_four_numbers(position):
            return None
        x1, y1, x2, y2 = map(float, position)
        found.append(((x1, y1, x2, y2), str(item.get("label", ""))))
    return found
