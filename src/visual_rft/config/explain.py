"""What is wrong with a value of a config, in one line and in words of a config.

Decision: the validating library speaks of its own classes (``valid dictionary or instance of LoraConfig``); a person
wrote YAML, and is told what is there, what belongs there, and an example. Rules of our own already say so themselves.

>>> from pydantic import ValidationError
>>> from visual_rft.config.sections import ModelConfig
>>> try:
...     ModelConfig.model_validate({"lora": True})
... except ValidationError as error:
...     explain(error, ModelConfig)
'lora: is true, but takes fields of its own: write {} for their defaults, or e.g. {rank: 16}'
"""

from __future__ import annotations

import difflib
import json
from typing import Any

from pydantic import ValidationError

from visual_rft.config.sections import Section, section_of

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text (in quotes, if it looks like something else)",
    "dict": "a mapping such as {name: value}",
}
"""What belongs there, by the beginning of the library's name for the mistake."""
_EXAMPLES = {"lora": "{rank: 16}", "family": "{coordinates: pixels}"}


def explain(error: ValidationError, root: type[Section]) -> str:
    """The first problem of a validation error in one line, with its path and, for a misspelt key, a suggestion.

    Args:
        error: what validation raised.
        root: the section that was validated.
    """
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    path = ".".join(location)
    kind, value = first["type"], first["input"]
    if kind == "extra_forbidden":
        known = _fields_at(location[:-1], root)
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"{path}: unknown key; {hint}"
    if kind == "value_error":
        message = first["msg"].removeprefix("Value error, ")
    elif kind == "model_type":
        example = _EXAMPLES.get(location[-1], "{field: value}") if location else "{section: {field: value}}"
        if location and location[-1].isdigit():
            hint = f"write {_as_list('train', value)[1:-1]}"
        else:
            hint = f"write {{}} for their defaults, or e.g. {example}"
        message = f"is {_shown(value)}, but takes fields of its own: {hint}"
    elif kind == "tuple_type":
        message = f"is {_shown(value)}, but is a list: write {_as_list(location[-1], value)}"
    elif kind == "literal_error":
        options = [word.strip("' ") for word in str(first["ctx"]["expected"]).replace(" or ", ", ").split(", ")]
        close = difflib.get_close_matches(str(value), options, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(options)}"
        message = f"{_shown(value)} is not known; {hint}"
    elif kind.split("_")[0] in _KINDS:
        message = f"is {_shown(value)}, but must be {_KINDS[kind.split('_')[0]]}"
    else:
        message = f"{first['msg'].replace('Input should', 'must')}, this is {_shown(value)}"
    return f"{path}: {message}" if path else message


def _as_list(field: str, value: Any) -> str:
    """A value as the list that was wanted."""
    if field not in ("train", "evaluation"):
        return f"[{_shown(value)}]" if isinstance(value, (str, int, float)) else "[a, b]"
    if isinstance(value, dict):
        return "[{source: ..., path: ...}], a line for each source"
    return f"[{{source: coco, path: {value if isinstance(value, str) else 'DIR'}}}]"


def _shown(value: Any) -> str:
    """A value as it would stand in YAML, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # a date, which YAML has and JSON has not
        text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields_at(location: list[str], root: type[Section]) -> list[str]:
    """Field names of the section at a path such as ``["data", "train", "0"]``."""
    section = root
    for part in location:
        if not part.isdigit():
            inner = section_of(section.model_fields[part].annotation)
            assert inner is not None
            section = inner
    return list(section.model_fields)
