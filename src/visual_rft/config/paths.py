"""Paths in a config: relative to the folder that the config lies in.

Decision: a config and its data move together, and a command does not depend on where it is called. So every name of
something to read (data, annotations, a model's or segmenter's folder, a ``file.py`` of one's own) is completed with the
config's folder as soon as the file is read. Flags stay relative to where the command is called, as a shell completes
them, and so do the folders that a run writes. Where nothing lies beside the config but something by that name in the
current folder, that is taken and said, because older configs meant it so. What a run keeps of its config, and an
exported model of its run, holds completed paths and is read as it stands; so are the configs of the package, which lie
in no folder of the user's.

>>> values = {"data": {"train": [{"source": "coco", "path": "../coins"}]}, "task": {"name": "counting.py:Counting"}}
>>> completed(values, Path("examples"))
{'data': {'train': [{'source': 'coco', 'path': 'coins'}]}, 'task': {'name': 'examples/counting.py:Counting'}}
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visual_rft.files import at_home

KEPT = {"config.yaml": ("environment.json", "checkpoints"), "visual_rft.yaml": ("config.json", "adapter_config.json")}
"""Names of configs that a run and an exported model keep, each with files of which one lies beside it."""
RULE = "paths in a config are relative to its folder, those of flags to the current one"


def completed(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A copy of a config's values with every relative path completed by ``folder``.

    Args:
        values: valid sections of a config.
        folder: that of the config's file, relative to the current folder or absolute.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(values))
    if os.path.abspath(folder) == os.getcwd():
        return changed
    for part in ("train", "evaluation"):
        for i, source in enumerate((changed.get("data") or {}).get(part) or ()):
            for key in ("path", "annotations"):
                if isinstance(source.get(key), str):
                    named = _is_hub_id(source[key]) and source.get("source") == "parquet"
                    source[key] = _complete(source[key], folder, f"data.{part}.{i}.{key}", may_be_name=named)
            _complete_task(source, folder, f"data.{part}.{i}.task")
    _complete_task(changed, folder, "task")
    model = changed.get("model") or {}
    if isinstance(model.get("path"), str):
        may_be_name = _is_hub_id(model["path"]) or "/" not in model["path"]
        model["path"] = _complete(model["path"], folder, "model.path", may_be_name=may_be_name)
    return changed


def _complete_task(section: dict[str, Any], folder: Path, field: str) -> None:
    """Complete the files of the user's own that the ``task`` of a section names, in place."""
    task = section.get("task") or {}
    if isinstance(task, str):
        section["task"] = _of_own(task, folder, field)
        return
    if isinstance(task.get("name"), str):
        task["name"] = _of_own(task["name"], folder, f"{field}.name")
    if task.get("weights"):
        task["weights"] = {_of_own(name, folder, f"{field}.weights"): w for name, w in task["weights"].items()}
    options = task.get("options") or {}
    if isinstance(options.get("segmenter"), str):
        options["segmenter"] = _complete(
            options["segmenter"], folder, f"{field}.options.segmenter", may_be_name=_is_hub_id(options["segmenter"])
        )


def is_kept_by_a_run(file: Path) -> bool:
    """Whether a config is the one of a run or an exported model, whose paths are completed already."""
    return any((file.parent / name).exists() for name in KEPT.get(file.name, ()))


def hint(missing: Path) -> str:
    """The end of a message about a path that is not there: the rule, and what was probably meant."""
    parts = missing.parts
    for i in range(1, len(parts)):
        tail = Path(*parts[i:])
        if not missing.is_absolute() and tail.exists():
            return f" ({RULE}; to mean {tail} here, write {os.path.relpath(tail, Path(*parts[:i]))})"
    return f" ({RULE})"


def _complete(name: str, folder: Path, field: str, *, may_be_name: bool = False) -> str:
    """``name`` as seen from the current folder: relative if it lies in it, else absolute.

    Args:
        name: as it stands in the config.
        folder: that of the config.
        field: path of the field, for the warning.
        may_be_name: whether it means something else (a hub id) where no such file is.
    """
    given = at_home(name)
    if given.is_absolute():
        return name
    place = os.path.abspath(folder / given)
    if not os.path.exists(place):
        if given.exists() and not (may_be_name and "/" not in name):
            print(f"warning: {field}: {name} is taken from the current folder, because {folder} has none; "
                  f"write {os.path.relpath(given, folder)}", file=sys.stderr)  # fmt: skip
            return name
        if may_be_name:
            return name
    return os.path.relpath(place) if Path(place).is_relative_to(os.getcwd()) else place


def _of_own(name: str, folder: Path, field: str) -> str:
    """A task or function of the user's: the file of ``file.py:Name`` completed, anything else as it is."""
    place, colon, what = name.rpartition(":")
    return f"{_complete(place, folder, field)}:{what}" if colon and place.endswith(".py") else name


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "~", "/")) and not name.endswith((".parquet", "/"))
