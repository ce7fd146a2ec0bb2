"""One number: model text to it, or to the reason why not. The text is data: nothing here raises, nothing runs it.

Decision: a number counts only where it is the one thing that is said. Beside it may stand the words of a plain
sentence, but no second number, no sign of arithmetic and no doubt: "at least 3" or "3 or 4" must not earn what "3"
does.

>>> parse_number("<answer>3</answer>")
Parsed(value=3.0, notes=())
>>> parse_number("<answer>There are three cats.</answer>")
Parsed(value=3.0, notes=('text around the number', 'number in words'))
>>> parse_number("<answer>at least 3</answer>"), parse_number("<answer>3 or 4</answer>")
(Failure(reason='not a number'), Failure(reason='more than one number'))
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, answer_text
from visual_rft.tasks.parsing.spellings import plain
from visual_rft.tasks.parsing.structure import LONGEST_ANSWER, WIDE, read_structure, unfenced
from visual_rft.vision.boxes import is_finite_number

LONGEST_SENTENCE = 80
"""Characters of a sentence around a number."""
_EXACT = re.compile(r"-?\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_NUMERAL = re.compile(r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+|\d{1,12})(?:\.\d{1,12})?(?!\w)(?![.,]\d)", re.ASCII)
_AROUND = re.compile(r"[A-Za-z\s.:'*=\"-]*")
"""What may stand around a number: words, and the signs of a sentence, an equation's result and bold print."""
_WORD = re.compile(r"[a-z]+")
_NAMES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
WORDS = {name: float(value) for value, name in enumerate(_NAMES)}
_MORE = frozenset({
    "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million", "billion",
    "dozen", "score", "half", "third", "quarter", "pair", "couple", "single", "both", "double", "triple", "few",
    "several", "many", "some",
})  # fmt: skip
"""Words for other numbers, so that beside a number they make two of it."""
_DOUBT = frozenset({
    "not", "no", "never", "least", "most", "more", "less", "fewer", "than", "about", "around", "approximately",
    "roughly", "circa", "maybe", "perhaps", "possibly", "up", "over", "under", "almost", "nearly", "minus", "plus",
    "times", "divided", "by", "or", "and", "either", "between", "without", "except", "isn", "aren", "wasn", "if",
    "unless", "wrong", "false", "to", "through",
})  # fmt: skip
"""Words beside which a number is not simply said."""


def parse_number(text: str, unit: str | None = None) -> Parsed[float] | Failure:
    """Read one number.

    Args:
        text: a whole completion with its tags.
        unit: a word or sign that may follow the number, e.g. ``cm`` or ``%``.
    """
    found = answer_text(text)
    if isinstance(found, Failure):
        return found
    body, cut = found
    return Failure(Reason.TRUNCATED) if cut else number_in(body, unit)  # "1" may be the beginning of "12"


def number_in(body: str, unit: str | None = None) -> Parsed[float] | Failure:
    """The one number of an answer, the text between the tags."""
    if _EXACT.fullmatch(body):
        return Parsed(float(body))
    if len(body) > LONGEST_ANSWER:
        return Failure(Reason.ANSWER_TOO_LONG)
    if not body:
        return Failure(Reason.EMPTY_ANSWER)
    notes: list[str] = []
    if (ascii_text := plain(body)) != body:
        notes.append(WIDE)
    if ascii_text.startswith(("[", "{", '"', "'", "`")):
        notes.append("number inside quotes, a fence or a list")
        value = _inside(ascii_text)
        if is_finite_number(value):
            return Parsed(float(value), tuple(notes))
        if not isinstance(value, str):
            return Failure(Reason.NOT_A_NUMBER)
        ascii_text = value.strip()
    ascii_text = ascii_text.replace("\u2212", "-")
    if unit and ascii_text.casefold().endswith(unit.casefold()):
        ascii_text = ascii_text[: -len(unit)].strip()
    if _EXACT.fullmatch(ascii_text):
        return Parsed(float(ascii_text), tuple(notes) or ("unit written",))
    return _in_sentence(ascii_text, notes)


def _inside(text: str) -> Any:
    """The only value inside a fence, quotes, a list or an object; None if there is none or another."""
    structure = read_structure(text)
    value: Any = structure.value if isinstance(structure, Parsed) else unfenced(text).strip("`'\" \n")
    for _ in range(3):
        if isinstance(value, Mapping):
            value = list(value.values())
        if not isinstance(value, (list, tuple)):
            break
        value = value[0] if len(value) == 1 else None
    return value


def _in_sentence(text: str, notes: list[str]) -> Parsed[float] | Failure:
    """The number of a short sentence that says nothing but this number."""
    if len(text) > LONGEST_SENTENCE:
        return Failure(Reason.NOT_A_NUMBER)
    numerals = list(_NUMERAL.finditer(text))
    around = _NUMERAL.sub(" ", text)
    words = _WORD.findall(around.casefold())
    named = [WORDS[word] for word in words if word in WORDS]
    if len(numerals) + len(named) + sum(word in _MORE for word in words) > 1:
        return Failure(Reason.MORE_THAN_ONE_NUMBER)
    if not numerals and not named:
        return Failure(Reason.NOT_A_NUMBER)
    if not _AROUND.fullmatch(around):
        return Failure(Reason.MORE_THAN_ONE_NUMBER if re.search(r"\d", around) else Reason.NOT_A_NUMBER)
    if not _DOUBT.isdisjoint(words):
        return Failure(Reason.NOT_A_NUMBER)
    if around.strip():
        notes.append("text around the number" if numerals or len(words) > 1 else "number in words")
    if named:
        notes += [] if "number in words" in notes else ["number in words"]
        return Parsed(named[0], tuple(notes))
    return Parsed(float(numerals[0].group().replace(",", "")), tuple(notes) or ("thousands set apart",))
