"""May this run go on? Only as it was started: the same config, the same data.

Decision: a difference is named, field and both values, and refused; half a run on each would be compared with neither.
More steps may be asked for, on other processes, and the folder may have been moved. Data are compared by a fingerprint
(``data/fingerprint.py``), versions of packages are a warning.

    config = continued(Path("runs/demo"), config)
    data, versions = changed_since(Path("runs/demo"), config)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visual_rft.config.config import Config, differences, load_config
from visual_rft.data.fingerprint import changes, fingerprint, is_fingerprint
from visual_rft.errors import RunFolderError
from visual_rft.files import json_or_nothing
from visual_rft.training.run.environment import environment

DATA = "data.json"
"""What the files of the data looked like at the start."""

LEAKAGE = "leakage"
"""Field of that file: which held-out images are training images (:class:`visual_rft.data.leakage.Leakage`)."""


def continued(folder: Path, config: Config) -> Config:
    """The config with which this run goes on: the one it was started with, but for more ``run.steps`` or patience.

    Args:
        folder: of the run.
        config: as it is given now; the folder may be spelled otherwise, or have been moved.

    Raises:
        RunFolderError: if there is no run or it is finished, or naming a field that differs, with both values.
    """
    if not (folder / "config.yaml").is_file():
        raise RunFolderError(f"{folder}: no run to resume here (no config.yaml)")
    before = load_config(folder / "config.yaml")
    if Path(config.model.path) in Path(before.model.path).parents:  # a run, resolved to a checkpoint when this began
        config = config.with_model(path=before.model.path)
    if config.model.autocast == "auto":  # resolved for the machine that it began on
        config = config.with_model(autocast=before.model.autocast)
    for field, was, given in differences(before, config):
        free = field in ("run.folder", "run.processes") or field.split(".")[0] == "parallel"
        longer = field == "run.patience" and was and (given == 0 or given > was)
        if free or longer or (field == "run.steps" and given > was):
            continue
        raise RunFolderError(
            f"{folder}: cannot resume: {field} is {given!r}, but this run was started with {was!r}; give it the "
            "same again, or start a new run"
        )
    ended = json_or_nothing(folder / "summary.json").get("ended")
    if ended is not None and before.run.patience == config.run.patience:
        raise RunFolderError(f"{folder}: this run ended {ended}; to go on, raise run.patience, or set it to 0")
    if ended is None and (folder / "summary.json").is_file() and before.run.steps == config.run.steps:
        raise RunFolderError(
            f"{folder}: this run is finished, there is nothing to resume; to go on, raise run.steps above "
            f"{before.run.steps}"
        )
    return config


def extension(folder: Path, config: Config) -> tuple[int, int] | None:
    """Steps that this run was to have, and those it is to have now; None where they are the same."""
    before = load_config(folder / "config.yaml").run.steps
    return None if before == config.run.steps else (before, config.run.steps)


def changed_since(folder: Path, config: Config) -> tuple[list[str], list[str]]:
    """What is not as it was when this run was started: its data, and the versions of packages; a sentence each.

    What cannot be known of the data is among the second.

    Raises:
        DataError: if a file of the data cannot be read.
    """
    data, unknown, before = [], [], json_or_nothing(folder / DATA)
    for name, now in data_of(config).items():
        was = before.get(name)
        if isinstance(was, list) and all(map(is_fingerprint, was)):
            data += [f"data.{name}: {change}" for change in changes(was, now)]
        else:
            unknown.append(f"data.{name}")
    packages = json_or_nothing(folder / "environment.json").get("packages")
    packages = packages if isinstance(packages, dict) else {}
    versions = [
        f"{name} is {now}, this run was started with {packages[name]}"
        for name, now in environment(config.run.seed)["packages"].items()
        if packages.get(name, now) != now
    ]
    if unknown:
        said = f"{folder / DATA}: does not say what the files of {' and '.join(unknown)} were"
        versions.insert(0, f"{said}, so nobody knows whether they are the same")
    return data, versions


def data_of(config: Config) -> dict[str, Any]:
    """What the files of a run's data look like now.

    Raises:
        DataError: if one cannot be read.
    """
    return {"train": fingerprint(config.data.train), "evaluation": fingerprint(config.data.evaluation)}
