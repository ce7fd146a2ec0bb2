"""A list or object as a model writes one, to a Python value. The text is data: nothing here raises, nothing runs it.

Decision: strict JSON first, then a Python literal, then salvage of whole ``{...}`` objects, so that a list that was cut
off keeps the objects before the cut.

>>> read_structure("[{'a': 1}, {'a': 2}, {'a'")
Parsed(value=[{'a': 1}, {'a': 2}], notes=('salvaged whole objects from a malformed list',))
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason
from visual_rft.tasks.parsing.spellings import plain

LONGEST_ANSWER = 20_000
"""Characters read of one answer; 100 boxes take about 6,000."""
WIDE = "full-width or curly signs"
"""What is noted where the text had to be written in ASCII first."""
SALVAGED = "salvaged whole objects from a malformed list"

# No two neighbouring parts of a pattern may both match a space: on 800 spaces, _FENCE took a second that way.
_FENCE = re.compile(r"```(?:\w*(?=\s*[\n\[{]))?(.*?)(?:```\s*)?", re.DOTALL)
OBJECT = re.compile(r"\{[^{}]*\}", re.DOTALL)
_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_]\w*)\s*:")
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")
_ENDLESS_NUMBER = re.compile(r"(?<!\w)\d\w{255}")
"""256 digits: 2^1024 in hexadecimal, the first whole number that no float holds. Python refuses to write numbers of
4,300 decimal digits as text, and a literal can give one, so no such number may reach a comparison or a message."""
_UNREADABLE = object()
_JSON = json.JSONDecoder()


def read_structure(text: str) -> Parsed[Any] | Failure:
    """Text to a Python value by JSON, then literal, then salvage of whole objects."""
    if len(text) > LONGEST_ANSWER:
        return Failure(Reason.ANSWER_TOO_LONG)
    notes: tuple[str, ...] = ()
    if text.startswith("```"):
        text, notes = unfenced(text), ("code fence",)
    value = _parse(text)
    if value is not _UNREADABLE:
        return Parsed(value, notes)
    if (ascii_text := plain(text)) != text:
        text, notes = unfenced(ascii_text), (*notes, WIDE)
        value = _parse(text)
        if value is not _UNREADABLE:
            return Parsed(value, notes)
    objects = [value for found in OBJECT.findall(text) if isinstance(value := _salvaged(found), dict)]
    if objects:
        return Parsed(objects, (*notes, SALVAGED))
    return Failure(Reason.NOT_A_LIST)


def unfenced(text: str) -> str:
    """``text`` without a code fence around it, if there is one."""
    fenced = _FENCE.fullmatch(text)
    return fenced[1].strip() if fenced else text


def _salvaged(found: str) -> Any:
    """One ``{...}`` out of a malformed list, also with bare keys, or with an apostrophe inside single quotes."""
    value = _parse(found)
    if value is _UNREADABLE:
        value = _parse(_APOSTROPHE.sub("\u2019", _BARE_KEY.sub(r'\1"\2":', found)))
    return value


def _parse(text: str) -> Any:
    text = text.strip()
    if len(text) > 255 and _ENDLESS_NUMBER.search(text):
        return _UNREADABLE
    try:
        # Python's single quotes: with no double quote and no backslash in the text, the two notations have the same
        # strings, and JSON is ten times as fast as a literal.
        quoted = text.replace("'", '"') if '"' not in text and "\\" not in text else text
        value, end = _JSON.raw_decode(quoted)
        if end == len(quoted):
            return value
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler warns about "\d" in a model's string
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _UNREADABLE
