"""Command-line flags merged into the values of a config.

Decision: merged before anything is validated, so that a mistake gives the same single line wherever it was made.
``--task NAME`` and ``--shots N`` are short for fields that are changed most; ``--recipe NAME`` stands for the fields of
a recipe (``configs/recipes``), which come before all others.

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

from visual_rft.config.compose import recipe_of
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
    pairs = [("--task.name" if name == "--task" else name, text) for name, text in _pairs(flags)]
    named_folder = any(name == "--run.folder" for name, _ in pairs)
    for name, recipe in pairs:
        if name == "--recipe":
            task = dict(pairs).get("--task.name") or (changed.get("task") or {}).get("name") or "detection"
            for path, value in _recipe(changed, recipe, task):
                _put(changed, defaults, f"--{path}", value)
            _rename_folder(changed, recipe, named_folder)
    for name, text in pairs:
        if name == "--shots":
            _set_shots(changed, text, named_folder)
        elif name != "--recipe":
            _set(changed, defaults, name, text)
    return changed


def _pairs(flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    words = [word for flag in flags for word in (flag.split("=", 1) if flag.startswith("--") else [flag])]
    if len(words) % 2:
        raise ConfigError(f"command line: {words[-1]!r} has no value; write --section.field value")
    return zip(words[::2], words[1::2], strict=True)


def _recipe(values: Mapping[str, Any], recipe: str, task: str) -> Iterator[tuple[str, Any]]:
    """The fields of a recipe for a task; ``*`` in the place of a source is every source."""
    sources = _train_sources(values)
    if any(isinstance(source, Mapping) and source.get("task") for source in sources):
        raise ConfigError(f"command line: --recipe {recipe}: a recipe is of one task, and the sources name their own")
    for path, value in recipe_of(recipe, task).items():
        if ".*." in path:
            yield from ((path.replace(".*.", f".{number}."), value) for number in range(len(sources)))
        else:
            yield path, value


def _train_sources(values: Mapping[str, Any]) -> Any:
    return (values.get("data") or {}).get("train") or []


def _rename_folder(values: Mapping[str, Any], ending: str, named_folder: bool) -> None:
    run = values.get("run") or {}
    if "folder" in run and not named_folder:
        run["folder"] = f"{run['folder']}-{ending}"


def _set_shots(values: dict[str, Any], text: str, named_folder: bool) -> None:
    """``shots`` of every training source; a curve over shots is then one flag, so each has a run folder of its own."""
    sources = _train_sources(values)
    if not sources or not _is_number(text):
        what = f"{text!r} is not a number of images per class" if sources else "the config names no data.train"
        raise ConfigError(f"command line: --shots: {what}")
    for source in sources:
        source["shots"] = int(text)
    _rename_folder(values, f"{text}-shot", named_folder)


def _set(values: dict[str, Any], defaults: Mapping[str, Any], name: str, text: str) -> None:
    _put(values, defaults, name, _value(text, name))


def _put(values: dict[str, Any], defaults: Mapping[str, Any], name: str, value: Any) -> None:
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
