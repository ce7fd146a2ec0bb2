"""How model families were taught to be asked for boxes and to write them: facts, one entry each.

Decision: a notation is its question, its answer, and a pattern of the exact answer, so that prompt, gold answer and
``strict_format`` agree. Reading is the same for all (:mod:`visual_rft.tasks.parsing.detections`); what is not exact is
noted there.

>>> NOTATIONS["bbox_2d"].ask("every cat", "")
'Locate every cat in the image. Report bbox coordinates in JSON format.'
>>> NOTATIONS["box_tokens"].write([("(10,20),(110,220)", "cat")])
'<|object_ref_start|>cat<|object_ref_end|><|box_start|>(10,20),(110,220)<|box_end|>'
>>> NOTATIONS["location_tokens"].write([("<loc0020><loc0010><loc0220><loc0110>", "cat")])
'<loc0020><loc0010><loc0220><loc0110> cat'
>>> all(notation.is_exact(notation.nothing) for notation in NOTATIONS.values())
True
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from visual_rft.tasks.parsing.completion import Failure, answer_text, location_tokens, without_empty_thought
from visual_rft.tasks.parsing.detections import NO_OBJECTS
from visual_rft.tasks.parsing.structure import LONGEST_ANSWER

Place = tuple[int, int, int, int]
_NUMBERS = r"\d{1,5}, ?\d{1,5}, ?\d{1,5}, ?\d{1,5}"
_BRACKETS = rf"\[{_NUMBERS}\]"
_CORNERS = r"\(\d{1,5},\d{1,5}\),\(\d{1,5},\d{1,5}\)"
_LABEL = r'"(?:[^"\\]|\\.){0,200}"'
_ITEM = rf'\{{"bbox_2d": {_BRACKETS}(?:, "label": {_LABEL})?\}}'
_BOX_2D = re.compile(rf"```json\n\[(?:\n\t{_ITEM}(?:,\n\t{_ITEM})*\n)?\]\n```")
_TOKEN = rf"(?:<\|object_ref_start\|>[^<]{{0,200}}<\|object_ref_end\|>)?<\|box_start\|>{_CORNERS}<\|box_end\|>"
_TAG = rf"(?:<ref>[^<]{{0,200}}</ref>)?<box>\[{_BRACKETS}\]</box>"
_LOCATED = r"<loc\d{4}><loc\d{4}><loc\d{4}><loc\d{4}>(?: [^<;]{1,200}?)?"
_LIST = rf"(?:{_BRACKETS}|\[<loc\d{{4}}><loc\d{{4}}><loc\d{{4}}><loc\d{{4}}>\])"


@dataclass(frozen=True)
class Notation:
    """A way to ask for boxes and to write them.

    Attributes:
        question: what is asked, with the places {what} and {units}.
        place: how the corners of one box are written.
        item: how a box is written, with its label (None where it has none).
        around: what joins the items of an answer.
        nothing: the answer where nothing is there.
        exact: pattern of the whole answer.
        every: what stands for all objects of a name {}.
    """

    question: str
    place: Callable[[Place], str]
    item: Callable[[str, str | None], str]
    around: Callable[[Sequence[str]], str]
    nothing: str
    exact: re.Pattern[str]
    every: str = "every {}"

    def ask(self, what: str, units: str) -> str:
        """The question for ``every cat`` or ``the left cup``; ``units`` says what coordinates are measured in."""
        return self.question.format(what=what, units=units)

    def write(self, rows: Sequence[tuple[str, str | None]]) -> str:
        """The answer: for each box how its corners are written, and its label."""
        return self.around([self.item(place, label) for place, label in rows]) if rows else self.nothing

    def is_exact(self, text: str) -> bool:
        """Whether an answer, without tags, is written to the letter."""
        return self.exact.fullmatch(text) is not None


def _corners(place: Place) -> str:
    x1, y1, x2, y2 = place
    return f"({x1},{y1}),({x2},{y2})"


def _bbox_2d(place: str, label: str | None) -> str:
    return f'\t{{"bbox_2d": {place}' + (f', "label": {json.dumps(label)}}}' if label else "}")


def _joined(items: Sequence[str]) -> str:
    return "".join(items)


def _listed(place: Place) -> str:
    return str(list(place))


_EITHER = rf"|{NO_OBJECTS}"
_ASKED = "Please provide the bounding box coordinates of the region this sentence describes: <ref>{what}</ref>"

NOTATIONS: Mapping[str, Notation] = {
    # Qwen2.5-VL and Qwen3-VL, https://github.com/QwenLM/Qwen3-VL (cookbooks, 2D grounding)
    "bbox_2d": Notation(
        "Locate {what} in the image. Report bbox coordinates in JSON format.", _listed, _bbox_2d,
        lambda items: "```json\n[\n" + ",\n".join(items) + "\n]\n```", "```json\n[]\n```", _BOX_2D,
    ),
    # Qwen2-VL, arXiv 2409.12191, section 2.2.1
    "box_tokens": Notation(
        "Locate {what} in the image.", _corners,
        lambda place, label: (f"<|object_ref_start|>{label}<|object_ref_end|>" if label else "")
        + f"<|box_start|>{place}<|box_end|>",
        _joined, NO_OBJECTS, re.compile(rf"(?:{_TOKEN})+{_EITHER}"),
    ),
    # InternVL, arXiv 2312.14238 and its documentation of grounding
    "ref_tags": Notation(
        _ASKED, _listed, lambda place, label: (f"<ref>{label}</ref>" if label else "") + f"<box>[{place}]</box>",
        _joined, NO_OBJECTS, re.compile(rf"(?:{_TAG})+{_EITHER}"),
    ),
    # PaliGemma, arXiv 2407.07726, section 3.1
    "location_tokens": Notation(
        "detect {what}", location_tokens, lambda place, label: f"{place} {label}" if label else place,
        " ; ".join, NO_OBJECTS, re.compile(rf"{_LOCATED}(?: ; {_LOCATED})*{_EITHER}"), "{}",
    ),
    # Nobody's own: what a family without a format is asked for
    "lists": Notation(
        "Find {what} in the image and write a list of boxes, [[x1, y1, x2, y2], ...], [] for none. Coordinates are "
        "{units}.",
        _listed, lambda place, label: place if place.startswith("[") else f"[{place}]",
        lambda items: f"[{', '.join(items)}]", "[]", re.compile(rf"\[(?:{_LIST}(?:, {_LIST})*)?\]"),
    ),
}  # fmt: skip
"""By name, as ``Family.notation`` says it."""

_TAGS = re.compile(r"</?(?:think|answer)>", re.IGNORECASE | re.ASCII)
NO_TAG = "no answer tag"
EXTRA_TAGS = "answer tags that were not asked for"


def tagged(completion: str, bare: bool) -> tuple[str, tuple[str, ...]]:
    """A completion with its answer in tags, and what is noted of that.

    Args:
        completion: the model's text.
        bare: whether the answer was asked for without tags. Else a text without any is an answer only where it is
            written exactly as one of the families does.

    >>> tagged("<|box_start|>(10,20),(110,220)<|box_end|>", bare=False)
    ('<answer><|box_start|>(10,20),(110,220)<|box_end|></answer>', ('no answer tag',))
    >>> tagged("(10,20),(110,220)", bare=False)
    ('(10,20),(110,220)', ())
    """
    body = without_empty_thought(completion)
    if len(completion) <= LONGEST_ANSWER and not _TAGS.search(body):
        if bare:
            return f"<answer>{body}</answer>", ()
        if any(n.is_exact(body) for name, n in NOTATIONS.items() if name != "lists" and body != n.nothing):
            return f"<answer>{body}</answer>", (NO_TAG,)
    return completion, (EXTRA_TAGS,) if bare else ()


_AS_ASKED = frozenset(
    {
        "no confidence", "other keys than asked", "code fence", "boxes written as text", "box written as a list",
        "text around the box", "box tokens", "'No Objects' written otherwise", "nested list", "a single box for a list",
    }
)  # fmt: skip
"""What the readers note of an answer that is exact in a family's notation, and not in the method's."""
OTHERWISE = "written otherwise than asked"


def noted(text: str, notes: Sequence[str], words: Notation) -> tuple[str, ...]:
    """What is noted of an answer in tags that was asked for in a notation.

    >>> noted("<answer>[[1, 2, 3, 4]]</answer>", ["no confidence"], NOTATIONS["lists"])
    ()
    >>> noted("<answer>[1, 2, 3, 4]</answer>", [], NOTATIONS["lists"])
    ('written otherwise than asked',)
    """
    found = answer_text(text)
    if not isinstance(found, Failure) and words.is_exact(found[0]):
        return tuple(note for note in notes if note not in _AS_ASKED)
    return (*notes, OTHERWISE)
