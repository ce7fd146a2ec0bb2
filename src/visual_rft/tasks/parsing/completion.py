"""The text of a completion: its think and answer tags, location tokens, names. The text is data: nothing here raises.

Decision: the last complete ``<answer>`` outside ``<think>`` counts, so neither an answer tried in the reasoning nor a
second thought after the answer is read in its place.

>>> answer_text("<think>red, or <answer>blue</answer>?</think><answer>red</answer>")
('red', False)
>>> answer_text("I see a cat")
Failure(reason='no answer tag')
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

_TAG = re.compile(
    r"<(/?)(think|answer)>", re.IGNORECASE | re.ASCII
)  # ASCII: no other letter may pass for an "s" or a "k"
_PLAIN = re.compile(r"\s*<think>[^<]*</think>\s*<answer>([^<]*)</answer>\s*")
"""A completion exactly as asked, without any other ``<``: nearly all are, and one match then tells all there is to."""
_EMPTY_THOUGHT = re.compile(r"^<think>\s*</think>\s*")
_LOCATIONS = re.compile(r"<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>\s*<loc(\d{4})>")
_DROPPED = re.compile("['\u2019`]")
_PUNCTUATION = re.compile(r"[\W_]+")
_DASHES = re.compile("[\u2212\u2013\ufe63]")
_TELLING = re.compile(
    r"(?<=[^\W_])([+-]+)(?![^\W_])"  # HER2+, A-, C++
    r"|(?<=[^\W_])\s+(\++)(?=\W*$)"  # HER2 +
    r"|(?<=[^\W\d_])(#)(?![^\W_])"  # C#
    r"|^\s*([+-])(?=\d)"  # -1, but not the stroke of a list
    r"|([<>\u2264\u2265])\s*(?=\d)"  # < 5
    r"|([\u2640\u2642\u26a5])"  # female, male, both
)
"""Signs that tell names apart, where they cannot be mere punctuation."""
_SIGN = frozenset("+-#<>\u2264\u2265\u2640\u2642\u26a5")
_PLACES = {ord(sign): chr(0xE000 + number) for number, sign in enumerate(sorted(_SIGN))}
_SIGNS = {ord(place): chr(sign) for sign, place in _PLACES.items()}
_MARK = re.compile(r"[\ue000-\uf8ff]")
_UNTOLD = frozenset(map(chr, (0x34F, *range(0x180B, 0x180E), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
"""Marks that only choose how a sign is drawn."""
_RARE = range(0x13000, 0x13430)
"""Letters that nobody answers with (hieroglyphs)."""
_ARTICLE = re.compile(r"(?:an?|the) (?=.)")

T = TypeVar("T")


class Reason(StrEnum):
    """Why an answer, or an item of it, could not be read, as it is counted and reported."""

    NO_ANSWER_TAG = "no answer tag"
    """There is no ``<answer>`` outside the reasoning."""
    TRUNCATED = "truncated"
    """The answer was cut off before it could be read."""
    ANSWER_TOO_LONG = "answer too long"
    """More characters than are read of one answer."""
    EMPTY_ANSWER = "empty answer"
    """Nothing stands in the answer tag, or nothing but punctuation."""
    NOT_A_LIST = "not a list"
    """Boxes were asked for, and neither a list nor an object can be read."""
    BOXES_BESIDE_NO_OBJECTS = "boxes beside 'No Objects'"
    """The answer says both that there are objects and that there are none."""
    NO_VALID_ITEM = "no valid item"
    """No item of a list of boxes is valid; the reason of the last one follows in brackets."""
    NOT_A_NAME = "not a name"
    """A name was asked for, and the answer is a number with a point, a truth value or the like."""
    MORE_THAN_ONE_LABEL = "more than one label"
    """A list of names where one was asked for."""
    NOT_A_BOX = "not a box"
    """One box was asked for, and no four numbers stand together."""
    MORE_THAN_ONE_BOX = "more than one box"
    """Two boxes, or one and numbers that may be another, where one was asked for."""
    NOT_AN_OBJECT = "not an object"
    """An item of a list of boxes is no ``{...}``."""
    NO_POSITION = "no position"
    """An item has no key under which a box is looked for."""
    MORE_THAN_ONE_POSITION = "more than one position"
    """An item has several."""
    NO_CONFIDENCE = "confidence is not a number in [0, 1]"
    """An item's confidence is missing, text, or out of range."""
    ANOTHER_LABEL = "another label than the one asked for"
    """An item names another class than the question."""
    NO_LABEL = "no label"
    """An item of many-class detection names no class."""
    NOT_A_NUMBER = "not a number"
    """A number was asked for, and there is none, or one with a doubt ("at least 3")."""
    MORE_THAN_ONE_NUMBER = "more than one number"
    """Two numbers, or a fraction or a range, where one number was asked for."""
    NOT_A_POINT = "not a point"
    """A point was asked for, and no two numbers stand together."""
    MORE_THAN_ONE_POINT = "more than one point"
    """Two points, or one and numbers that may be another, where one was asked for."""
    NOT_A_CHOICE = "not one of the choices"
    """A choice was asked for, and the answer is neither its letter nor its text."""
    NOT_FOUR_NUMBERS = "position is not four finite numbers"
    """A box is something else than four finite numbers."""
    OUTSIDE_THE_IMAGE = "outside the image"
    """A corner lies outside the image by more than the tolerance."""
    NO_WIDTH = "x2 <= x1"
    """The right edge of a box is not right of its left edge."""
    NO_HEIGHT = "y2 <= y1"
    """The bottom edge of a box is not below its top edge."""


@dataclass(frozen=True)
class Failure:
    """No answer could be read.

    Attributes:
        reason: a :class:`Reason`, or a task's own short phrase that can be counted; kept as plain text.
    """

    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", str(self.reason))


class Parsed(NamedTuple, Generic[T]):
    """An answer, and what was tolerated, repaired or dropped to read it.

    Attributes:
        value: the answer; boxes in the units the model wrote, valid and inside the image.
        notes: e.g. ``"item 3: x2 <= x1"`` or ``"truncated"``; empty if the answer was exactly as asked.
    """

    value: T
    notes: tuple[str, ...] = ()


def location_tokens(box: tuple[int, int, int, int]) -> str:
    """A box in the notation of models that have a token per place: y before x, 0..1023.

    >>> location_tokens((10, 20, 110, 220))
    '<loc0020><loc0010><loc0220><loc0110>'
    """
    x1, y1, x2, y2 = box
    return "".join(f"<loc{value:04d}>" for value in (y1, x1, y2, x2))


def without_location_tokens(text: str, notation: str) -> str:
    """``text`` with four location tokens in a row written as a box.

    Args:
        text: a completion.
        notation: a box with the places {x1}, {y1}, {x2}, {y2}.

    >>> without_location_tokens("at <loc0020><loc0010><loc0220><loc0110>", "[{x1}, {y1}, {x2}, {y2}]")
    'at [10, 20, 110, 220]'
    """

    def box(found: re.Match[str]) -> str:
        y1, x1, y2, x2 = (int(value) for value in found.groups())
        return notation.format(x1=x1, y1=y1, x2=x2, y2=y2)

    return _LOCATIONS.sub(box, text)


def has_tag_format(text: str, think: bool = True, bare: bool = False) -> bool:
    """Whether ``text`` is exactly one think block (if ``think``) followed by one answer block and nothing else.

    Without ``think`` an empty think block may stand before: some chat templates open one, which can only be closed.
    A ``bare`` answer is a text without any of the tags.
    """
    if bare:
        rest = without_empty_thought(text)
        return bool(rest) and not _TAG.search(rest)
    if think and _PLAIN.fullmatch(text):
        return True
    lower = text.lower()  # tags are read in any case: <ANSWER> inside the block would be a second answer
    if lower.count("<answer>") != 1 or lower.count("</answer>") != 1:
        return False
    before, _, answer = text.partition("<answer>")
    if not answer.rstrip().endswith("</answer>"):
        return False
    before = before.strip()
    if not think:
        return not _EMPTY_THOUGHT.sub("", before, count=1)
    if lower.count("<think>") != 1 or lower.count("</think>") != 1:
        return False
    return before.startswith("<think>") and before.endswith("</think>")


def without_empty_thought(text: str) -> str:
    """``text`` without spaces around it and without an empty think block before it, which some chat templates open."""
    return _EMPTY_THOUGHT.sub("", text.strip(), count=1)


def answer_text(text: str) -> tuple[str, bool] | Failure:
    """The content of the last complete answer tag outside the reasoning, and whether it was cut off.

    A final ``<answer>`` that was never closed is used, marked as cut off, only if no complete one exists. A
    ``</think>`` without its ``<think>`` ends a reasoning that the prompt had opened.
    """
    plain = _PLAIN.fullmatch(text)
    if plain:
        return plain[1].strip(), False
    thinking, opened = False, -1
    last: tuple[int, int] | None = None
    for tag in _tags(text):
        closing, name = tag[1], tag[2].lower()
        if name == "think":
            if closing and not thinking:
                last, opened = None, -1
            thinking = not closing
        elif thinking:
            continue
        elif not closing:
            opened = tag.end()
        elif opened >= 0:
            last, opened = (opened, tag.start()), -1
    if last is not None:
        return text[last[0] : last[1]].strip(), False
    if opened >= 0 and not thinking:
        return text[opened:].strip(), True
    return Failure(Reason.NO_ANSWER_TAG)


def _tags(text: str) -> Iterator[re.Match[str]]:
    """The think and answer tags of a text. Looked for at each ``<`` only: a search without case tries every letter."""
    place = text.find("<")
    while place >= 0:
        tag = _TAG.match(text, place)
        if tag:
            yield tag
        place = text.find("<", place + 1)


def normalized(name: str) -> str:
    """A name without case, punctuation, ``_``, extra spaces and a leading article: what two equal names share.

    Signs that tell names apart stay: a ``+``, ``-`` or ``#`` that ends a word, ``-1``, ``< 5``, a name that is
    nothing but signs, and the vowel signs and tones of Hindi, Thai and others.

    >>> normalized("The German_Shepherd."), normalized("dog's toy")
    ('german shepherd', 'dogs toy')
    >>> normalized("HER2+"), normalized("her2-"), normalized("+"), normalized("- red-poppy")
    ('her2+', 'her2-', '+', 'red poppy')
    """
    folded = _DROPPED.sub("", unicodedata.normalize("NFKC", name).casefold())
    if folded.isascii():
        return folded if folded.isalnum() else _normalized(folded)
    marks = sorted({c for c in folded if unicodedata.category(c) in ("Mn", "Mc")} - _UNTOLD)
    if not marks:
        return _normalized(folded)
    # A vowel sign tells names apart, and is punctuation to a regular expression: it becomes a letter meanwhile.
    letters = list(zip(marks, (c for c in map(chr, _RARE) if c not in folded), strict=False))
    words = _normalized(folded.translate({ord(mark): letter for mark, letter in letters}))
    return words.translate({ord(letter): mark for mark, letter in letters})


def _normalized(folded: str) -> str:
    words = _PUNCTUATION.sub(" ", folded).strip()
    signs = not words or not _SIGN.isdisjoint(folded := _DASHES.sub("-", folded))
    if signs:
        words = _with_signs(folded)
    return _ARTICLE.sub("", words, count=1) if _ARTICLE.match(words) else words


def _with_signs(folded: str) -> str:
    """A name without punctuation, but with the signs that tell it from others."""
    if not _PUNCTUATION.sub("", folded):
        return "".join(c for c in folded if unicodedata.category(c) in ("Sm", "Sc", "So", "Pd"))
    # Each telling sign becomes a letter that nobody writes, so that it is no punctuation.
    kept = _TELLING.sub(lambda found: found[0].strip().translate(_PLACES), _MARK.sub(" ", folded))
    kept = re.sub(r"[^\w\ue000-\uf8ff]+|_+", " ", kept)
    return kept.translate(_SIGNS).strip()
