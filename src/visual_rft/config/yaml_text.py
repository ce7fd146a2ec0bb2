"""YAML as people write it: one line for a mistake, with its place, and no key twice.

Decision: the library's safe loader, with two differences. A key that stands twice in a mapping is refused, because the
library silently takes the last one and half of what was written is lost. A mistake is told as ``line 2, column 5``
instead of a drawing of five lines about a ``<unicode string>``.

>>> parse_yaml("run: {steps: 3}")
{'run': {'steps': 3}}
>>> parse_yaml("run:\\n  steps: 3\\n  steps: 4")
Traceback (most recent call last):
    ...
visual_rft.errors.ConfigError: line 3: 'steps' is there already, in line 2; keep one of them
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import yaml

from visual_rft.errors import ConfigError, VisualRFTError

MAX_YAML_BYTES = 4_000_000
"""A config has about ten thousand; YAML is read at about half a million bytes a second."""
MAX_YAML_DEPTH = 200
"""Open brackets of a YAML file, those in quotes too: the time that its reader takes rises with their square."""
MAX_YAML_VALUES = 200_000
"""Values of a YAML file once its aliases are written out; nine lines of aliases can stand for a billion."""


class NotYaml(ConfigError):
    """A text is not YAML at all."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that stands twice."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        # Here and not where values are made: by then, what << merges in has been added to the keys.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    first = lines[key.value]
                    raise ConfigError(f"line {line}: {key.value!r} is there already, in line {first}; keep one of them")
                lines[key.value] = line
        return node


def parse_yaml(text: str) -> Any:
    """What a text in YAML says: plain values, None where it is empty.

    Raises:
        NotYaml: if it is not YAML, in one line that names the place; the caller adds the file.
        ConfigError: if it gives a key twice, is nested too deeply, or stands for more values than a config can have.
    """
    depth = 0
    try:
        for bracket in re.finditer(r"[\[\]{}]", text):
            depth = max(0, depth + (1 if bracket[0] in "[{" else -1))
            if depth > MAX_YAML_DEPTH:
                raise RecursionError
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _values(node, {}) > MAX_YAML_VALUES:
                raise ConfigError(f"stands for more than {MAX_YAML_VALUES:,} values once its aliases are written out")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ConfigError("is nested too deeply, or holds itself; a config has a few levels") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise NotYaml(f"{place}not valid YAML ({error.problem or error.context})") from None
    except (ValueError, yaml.YAMLError) as error:  # a date or number that cannot be, a character that no text may hold
        raise NotYaml(f"not valid YAML ({str(error).splitlines()[0]})") from None


def read_yaml(file: Path, error: type[VisualRFTError]) -> Any:
    """What a YAML file says; UTF-8, or UTF-16 if it says so (a redirection in PowerShell does).

    Raises:
        VisualRFTError: of the class ``error``, as :func:`parse_yaml`, or if the file cannot be read or is too long.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_YAML_BYTES + 1)
        if len(content) > MAX_YAML_BYTES:
            raise error(f"{file}: has more than {MAX_YAML_BYTES:,} bytes; a config is a few lines of text")
        return parse_yaml(_text(content))
    except ConfigError as cause:
        raise cause if str(cause).startswith(f"{file}: ") else error(f"{file}: {cause}") from None
    except OSError as cause:
        raise error(f"{file}: cannot be read ({cause.strerror})") from None
    except UnicodeError:
        raise error(f"{file}: cannot be read as text; save it as UTF-8") from None


def _text(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def _values(node: Any, known: dict[int, int]) -> int:
    """Values below a YAML node, each alias counted as what it stands for; a node within itself recurses."""
    if id(node) not in known:
        pairs = node.value if isinstance(node.value, list) else []
        inner = [part for pair in pairs for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in inner)
    return known[id(node)]
