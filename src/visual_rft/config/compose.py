"""The configs that come with the package, by name: ``MODEL/EXPERIMENT``, put together from a file each.

Decision: composed, not copied. A model is a file, an experiment is a file, what experiments share is a layer, and any
two meet under the name ``qwen2-vl-2b/few-shot-coco``, which every command takes in the place of a file. Later files
win: layers, experiment, model. ``about`` says what a person wants to know first and is no part of the run.

>>> composed = compose("configs/qwen2-vl-2b/few-shot-coco.yaml")  # as well as without configs/ and .yaml
>>> composed.name, composed.values["model"]["path"], composed.values["rollout"]["group_size"]
('qwen2-vl-2b/few-shot-coco', 'Qwen/Qwen2-VL-2B-Instruct', 8)
>>> [row.rft for row in composed.published if row.setting == "4 shots"]
[40.6]
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from visual_rft.errors import ConfigError

ROOT = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True)
class Published:
    """A row of the paper's tables (arXiv 2503.01785), comparable only with the same model, data and protocol.

    Attributes:
        model: name of the model's file.
        measure: what the numbers are, 0..100.
        setting: what else was fixed, e.g. ``4 shots``.
        base: before training; None where it is not known.
        sft: after supervised fine-tuning.
        rft: after visual reinforcement fine-tuning.
    """

    model: str
    measure: str
    rft: float
    setting: str = ""
    base: float | None = None
    sft: float | None = None


@dataclass(frozen=True)
class Composed:
    """A config of the package.

    Attributes:
        name: ``MODEL/EXPERIMENT``.
        values: what a config file of the same content would say.
        line: what it does, in one line.
        needs: the data it reads and where they are looked for.
        flags: those the command usually has, e.g. ``--shots 4``.
        notes: what to know before running it, a line each.
        published: what the paper reports for this model and experiment.
    """

    name: str
    values: Mapping[str, Any]
    line: str
    needs: str
    flags: str = ""
    notes: tuple[str, ...] = ()
    published: tuple[Published, ...] = field(default=())

    def command(self, what: str | None = None) -> str:
        """The command that runs it, or the file ``what`` made of it."""
        return f"visual-rft train {what or self.name} {self.flags}".rstrip()


def names() -> list[str]:
    """Every name that :func:`compose` knows, sorted."""
    models = [file.stem for file in (ROOT / "models").glob("*.yaml")]
    return sorted(f"{model}/{file.stem}" for model in models for file in (ROOT / "experiments").glob("*.yaml"))


def compose(name: str) -> Composed | None:
    """The config of the package called ``name``; None if it does not look like such a name.

    Args:
        name: ``MODEL/EXPERIMENT``, with or without ``configs/`` before and ``.yaml`` behind it.

    Raises:
        ConfigError: if it looks like one and there is none, naming the nearest.
    """
    wanted = name.removeprefix("configs/").removesuffix(".yaml")
    known = names()
    if wanted in known:
        return _composed(wanted)
    # A path to a file of the user's that is missing is another mistake, and another message.
    is_file = name.endswith((".yaml", ".yml", ".json"))
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.75 if is_file else 0.4)
    if not close and (is_file or name.count("/") > 1):
        return None
    hint = f"did you mean {' or '.join(close)}?" if close else "names are MODEL/EXPERIMENT"
    raise ConfigError(
        f"{name}: there is no such file, and no config of this name; {hint} (visual-rft configs lists them)"
    )


def recipes() -> dict[str, dict[str, str]]:
    """Of every recipe the tasks it is for, and what it is in one line."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted((ROOT / "recipes").glob("*/*.yaml")):
        found.setdefault(file.parent.name, {})[file.stem] = _split(file)[0]["line"]
    return found


def recipe_of(name: str, task: str) -> dict[str, Any]:
    """The fields that a recipe sets, by dotted path; ``data.train.*.copies`` is that of every source.

    Raises:
        ConfigError: if there is no such recipe, or none for this task.
    """
    known = recipes()
    if name not in known:
        raise ConfigError(f"command line: --recipe {name}: no recipe is called so (known: {', '.join(known)})")
    if task not in known[name]:
        raise ConfigError(f"command line: --recipe {name}: is for {', '.join(known[name])}, not for {task}")
    return _split(ROOT / "recipes" / name / f"{task}.yaml")[1]


def _composed(name: str) -> Composed:
    model, experiment = name.split("/")
    about, values = _split(ROOT / "experiments" / f"{experiment}.yaml")
    merged: dict[str, Any] = {}
    published = list(about.get("published", []))
    for layer in about.get("layers", []):
        inherited, below = _split(ROOT / "layers" / f"{layer}.yaml")
        published += inherited.get("published", [])
        merge(merged, below)
    own, chosen = _split(ROOT / "models" / f"{model}.yaml")
    merge(merged, values)
    merge(merged, chosen)
    merge(merged, {"run": {"folder": f"runs/{model}-{experiment}"}})
    rows = [Published(**row) for row in published]
    return Composed(
        name,
        merged,
        about["line"],
        about["needs"],
        about.get("flags", ""),
        notes=(*about.get("notes", ()), *own.get("notes", ())),
        published=tuple(row for row in rows if row.model == model),
    )


def _split(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """``about``, and what belongs to the run."""
    values = copy.deepcopy(_yaml(file))
    return values.pop("about", {}), values


@cache
def _yaml(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Put ``above`` over ``below``: sections are merged, anything else is replaced.

    >>> values = {"run": {"seed": 0, "steps": 5}, "data": [1, 2]}
    >>> merge(values, {"run": {"steps": 9}, "data": [3]})
    >>> values
    {'run': {'seed': 0, 'steps': 9}, 'data': [3]}
    """
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), dict):
            merge(below[key], value)
        else:
            below[key] = copy.deepcopy(value)
