"""Command-line flags merged into the values of a config.

Decision: merged before anything is validated, so that a mistake gives the same single line wherever it was made.
``--task NAME`` and ``--shots N`` are short for fields that are changed most.

>>> apply_flags({"run": {"steps": 2}}, ["--run.seed", "7", "--optimizer.learning_rate=1e-4"], {"optimizer": {}})
{'run': {'steps': 2, 'seed': 7}, 'optimizer': {'learning_rate': 0.0001}}
>>> values = {"data": {"train": [{"source": "coco"}]}, "run": {"folder": "runs/a"}}
>>> apply_flags(values, ["--shots", "4"], {})
{'data': {'train': [{'source': 'coco', 'shots': 4}]}, 'run': {'folder': 'runs/a-4-shot'}}
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from visual_rft.config.yaml_text import NotYaml, parse_yaml
from visual_rft.errors import ConfigError

_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def apply_flags(values: Mapping[str, Any], flags: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``values`` with flags applied, missing sections filled in from ``defaults``.

    Args:
        values: of a config file.
        flags: ``["--section.field", "value", ...]`` or ``["--section.field=value", ...]``, values in YAML.
        defaults: of every section.

    Raises:
        ConfigError: if a flag has no value or names no field.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(values))
    for name, text in _pairs(flags):
        if name == "--shots":
            _set_shots(changed, text, named_folder=any(flag.split("=")[0] == "--run.folder" for flag in flags))
        else:
            _set(changed, defaults, "--task.name" if name == "--task" else name, text)
    return changed


def _pairs(flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    words = [word for flag in flags for word in (flag.split("=", 1) if flag.startswith("--") else [flag])]
    if len(words) % 2:
        raise ConfigError(f"command line: {words[-1]!r} has no value; write --section.field value")
    return zip(words[::2], words[1::2], strict=True)


def _set_shots(values: dict[str, Any], text: str, *, named_folder: bool) -> None:
    """``shots`` of every training source; a curve over shots is then one flag, so each has a run folder of its own."""
    sources = (values.get("data") or {}).get("train") or []
    if not sources or not _is_number(text):
        what = f"{text!r} is not a number of images per class" if sources else "the config names no data.train"
        raise ConfigError(f"command line: --shots: {what}")
    for source in sources:
        source["shots"] = int(text)
    run = values.get("run") or {}
    if "folder" in run and not named_folder:
        run["folder"] = f"{run['folder']}-{text}-shot"


def _set(values: dict[str, Any], defaults: Mapping[str, Any], name: str, text: str) -> None:
    if not name.startswith("--") or "." not in name:
        raise ConfigError(f"command line: {name!r} is not a flag; write --section.field value")
    *parents, last = name.removeprefix("--").split(".")
    place: Any = values
    default: Any = defaults
    for part in parents:
        default = _child(default, part)
        if _child(place, part) is None and not isinstance(place, list):
            place[part] = copy.deepcopy(default) if default is not None else {}
        place = _child(place, part)
        if place == {} and parents == ["task", "weights"]:
            raise ConfigError(
                f"command line: {name}: the file leaves the weights to the task; name them all at once, e.g. "
                "--task.weights '{iou: 1, format: 1}'"
            )
        if not isinstance(place, (dict, list)):
            raise ConfigError(f"command line: {name}: there is no {part!r} to set a field of")
    value = _value(text, name)
    if isinstance(place, list):
        raise ConfigError(f"command line: {name}: name a field of the entry, e.g. {name}.count")
    place[last] = value


def _value(text: str, name: str) -> Any:
    """What the text of a flag says; text that is no YAML is itself."""
    try:
        value = parse_yaml(text)
    except NotYaml:
        return text
    except ConfigError as error:
        raise ConfigError(f"command line: {name}: {error}") from None
    # YAML reads 1e-4 as text, because it wants a dot before the exponent.
    return float(value) if isinstance(value, str) and _SCIENTIFIC.fullmatch(value) else value


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()  # to Python "²" is a digit too, and no number


def _child(place: Any, part: str) -> Any:
    if isinstance(place, list):
        return place[int(part)] if _is_number(part) and int(part) < len(place) else None
    return place.get(part) if isinstance(place, dict) else None
