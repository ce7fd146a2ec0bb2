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

from typing import Any

import yaml

from visual_rft.errors import ConfigError


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
        ConfigError: if it gives a key twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise NotYaml(f"{place}not valid YAML ({error.problem or error.context})") from None
    except yaml.YAMLError as error:  # a character that no text may hold
        raise NotYaml(f"not valid YAML ({str(error).splitlines()[0]})") from None
