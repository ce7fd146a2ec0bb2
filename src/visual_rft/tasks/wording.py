"""In whose words a question is asked: what is checked of a style, and the user's own template.

Decision: a template is ``str.format`` with plain names alone, checked when the config is read, so that a misspelt field
is one line and not the end of a run.

>>> filled("Look closely. {prompt}", {"prompt": "Find every cat.", "category": "cat"})
'Look closely. Find every cat.'
>>> check_wording("detection", "method", ("method",), None, "Where is it?")
Traceback (most recent call last):
    ...
visual_rft.errors.ConfigError: task.template: holds neither {prompt} nor what is asked for, e.g. {category}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Any

from visual_rft.errors import ConfigError
from visual_rft.tasks.parsing.notations import NOTATIONS

UNWRITTEN = frozenset({"confidence", "confidence_brier"})
"""Rewards of what only the method's style asks for."""
FIELDS = frozenset({"prompt", "category", "categories", "subject", "expression", "question", "choices", "unit"})
"""What a template may hold; one of them it must, but the last two alone ask for nothing."""


def check_wording(
    task: str,
    style: str,
    styles: Sequence[str],
    notation: str | None,
    template: str | None,
    weights: Iterable[str] = (),
) -> None:
    """Raises ConfigError if a task cannot be asked in this style, or a template or weight does not go with it."""
    if style not in styles:
        known = ", ".join(styles)
        why = f"{task} knows {known}" if len(styles) > 1 else f"{task} answers without boxes in a notation"
        raise ConfigError(f"task.style: {style!r} cannot be asked for; {why}")
    if style == "native" and notation not in NOTATIONS:
        raise ConfigError(
            f"task.style: native needs to know how the family writes boxes, a notation of {', '.join(NOTATIONS)}"
        )
    unwritten = sorted(UNWRITTEN.intersection(weights)) if style != "method" else []
    if unwritten:
        raise ConfigError(f"task.weights.{unwritten[0]}: the style {style!r} writes no confidence; leave it out")
    if template is None:
        return
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"task.template: {error}; a brace that is meant is written twice") from None
    names = {name for _, name, _, _ in parts if name is not None}
    odd = sorted(names - FIELDS)
    if odd or any(spec or conversion for _, _, spec, conversion in parts):
        known = ", ".join(sorted(FIELDS))
        raise ConfigError(f"task.template: {{{odd[0] if odd else ''}}} is no plain field; known are {known}")
    if not names - {"choices", "unit"}:
        raise ConfigError("task.template: holds neither {prompt} nor what is asked for, e.g. {category}")


def filled(template: str, fields: Mapping[str, Any]) -> str:
    """A template with the fields of a question.

    Raises:
        ConfigError: if it wants a field that the question does not have.
    """
    texts = {key: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
             for key, value in fields.items()}  # fmt: skip
    try:
        return template.format(**texts)
    except KeyError as error:
        known = ", ".join(sorted(FIELDS & texts.keys()))
        raise ConfigError(f"task.template: the question has no {error}; it has {known}") from None
