"""A config for people: every field with its meaning, and a run as commented YAML.

>>> print(commented({"run": {"steps": 200}, "objective": {"beta": 0.04}}))
# The policy loss, and how rewards become advantages (docs/objectives.md).
objective:
  # Weight of the KL divergence to the reference; 0 keeps no reference.
  beta: 0.04
<BLANKLINE>
# The loop and what it leaves behind.
run:
  # Steps of the loop; one optimiser step each, times updates_per_rollout.
  steps: 200
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import yaml

from visual_rft.config.config import Config
from visual_rft.config.sections import Section, section_of


def describe() -> str:
    """Every field with its default and meaning, for ``--fields``."""
    lines = []
    for name, info in Config.model_fields.items():
        section = section_of(info.annotation)
        assert section is not None
        lines += [f"{name}: {_first_line(section)}", *_describe_fields(section, f"--{name}")]
    return "\n".join(lines)


def _describe_fields(section: type[Section], prefix: str) -> list[str]:
    lines = []
    for field in _fields_of(section, prefix):
        default = "a list; entries are numbered" if field.is_list else f"default: {field.default}"
        lines.append(f"  {field.flag} ({default})\n      {field.meaning}")
    return lines


@dataclass(frozen=True)
class Field:
    """A field as a flag of the command line.

    Attributes:
        flag: e.g. ``--run.steps``; of a list of sections its first entry, ``--data.train.0``.
        meaning: of the field, one line.
        values: that it may have, where these are few words; empty otherwise.
        default: of the field.
        is_list: whether it is a list of sections, whose fields follow.
    """

    flag: str
    meaning: str
    values: tuple[str, ...]
    default: Any
    is_list: bool


def fields() -> Iterator[Field]:
    """Every field of a config, in the order of ``--fields``."""
    for name, info in Config.model_fields.items():
        section = section_of(info.annotation)
        assert section is not None
        yield from _fields_of(section, f"--{name}")


def _fields_of(section: type[Section], prefix: str) -> Iterator[Field]:
    for name, info in section.model_fields.items():
        inner = section_of(info.annotation)
        default = info.get_default(call_default_factory=True)
        is_list = inner is not None and default is not None
        flag = f"{prefix}.{name}.0" if is_list else f"{prefix}.{name}"
        meaning = " ".join((info.description or "").split())
        yield Field(flag, meaning, tuple(_values_of(info.annotation)), default, is_list)
        if inner is not None:
            yield from _fields_of(inner, flag)


def _values_of(annotation: Any) -> Iterator[str]:
    """The words that a type allows: those of a ``Literal``, ``true`` and ``false``."""
    if annotation is bool:
        yield from ("true", "false")
    elif get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for inner in get_args(annotation):
            yield from _values_of(inner)


def _first_line(section: type[Section]) -> str:
    return (section.__doc__ or "").splitlines()[0]


def commented(values: Mapping[str, Any]) -> str:
    """The values of a config as YAML, each with its meaning above it.

    Args:
        values: valid sections of a config, as a file holds them.
    """
    blocks = []
    for name, info in Config.model_fields.items():
        section = section_of(info.annotation)
        if section is None or name not in values:
            continue
        lines = [f"# {_first_line(section)}", f"{name}:"]
        for key, value in sorted(values[name].items(), key=lambda pair: list(section.model_fields).index(pair[0])):
            lines += as_comment(_meaning(section, key), "  ")
            if inner := _entries(section, key, value):
                lines += as_comment(f"An entry has {', '.join(inner)}.", "  ")
            written = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=100)
            lines += [f"  {line}" for line in written.splitlines()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_comment(text: str, indent: str = "") -> list[str]:
    """``text`` as comment lines of at most 118 characters; an empty text is an empty comment."""
    first, more = f"{indent}# ", f"{indent}#   "
    lines = textwrap.wrap(
        text, 118, initial_indent=first, subsequent_indent=more, break_long_words=False, break_on_hyphens=False
    )
    return lines or [first.rstrip()]


def _meaning(section: type[Section], key: str) -> str:
    return " ".join((section.model_fields[key].description or "").replace("``", "").split())


def _entries(section: type[Section], key: str, value: Any) -> list[str]:
    """The fields that an entry of a list of sections may have."""
    inner = section_of(section.model_fields[key].annotation)
    return list(inner.model_fields) if inner is not None and isinstance(value, list) else []
