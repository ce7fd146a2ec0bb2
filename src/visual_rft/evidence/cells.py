"""The cells of an experiment: one run (or one look at the base model) each, and the grid they form.

Decision: a cell knows everything that decides its result, and is named by a digest of it, so that a cell that has been
run is recognised and one whose description changed is run again. The steps of ``sft-time`` follow from what two other
cells measured; its digest contains theirs.

>>> from visual_rft.evidence.experiments import EXPERIMENTS
>>> [cell.name for cell in grid("few-shot-detection", EXPERIMENTS["few-shot-detection"], shots=(4,), seeds=(0,),
...                             domains=("handwriting",))]
['handwriting-base', 'handwriting-k4-seed0-rft', 'handwriting-k4-seed0-sft', 'handwriting-k4-seed0-sft-time']
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from visual_rft.config.config import Config, parse_config
from visual_rft.config.overrides import apply_flags
from visual_rft.evidence.experiments import (
    ARMS,
    TRAIN_SEED,
    TUNING_SEED,
    TUNING_SHOTS,
    Domain,
    Experiment,
    Variant,
)
from visual_rft.policy.stored.places import model_folder

QUICK_STEPS = 2
QUICK_IMAGES = 8


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        experiment: its name.
        domain: kind of pictures.
        arm: one of :data:`visual_rft.evidence.experiments.ARMS`.
        shots: labelled images per class; None where the source says how many images there are.
        seed: of the choice of shots, of batch order and sampling; None of ``base``.
        split: ``test`` or ``validation``: what the numbers are of.
        variant: what was changed, empty for nothing.
        config: what is run and, in ``data.evaluation``, what is asked afterwards; the steps of ``sft-time`` are not in
            it.
        matched: the cells that say how many steps ``sft-time`` has: ``rft`` and ``sft``.
    """

    experiment: str
    domain: str
    arm: str
    shots: int | None
    seed: int | None
    split: str
    variant: str
    config: Config
    matched: tuple[Cell, ...] = ()

    @property
    def name(self) -> str:
        """Its file name without the ending."""
        shots = "" if self.shots is None or self.arm == "base" else f"k{self.shots}"
        seed = "" if self.seed is None else f"seed{self.seed}"
        tries = self.split == "validation" and (not self.variant or self.seed == TUNING_SEED)
        rate = f"lr{self.config.optimizer.learning_rate:g}" if tries else ""
        variant = re.sub(r"[^a-z0-9.]+", "_", self.variant.lower())
        parts = (self.domain, shots, seed, variant, self.arm, rate if self.arm != "base" else "")
        return "-".join(part for part in parts if part)

    @property
    def digest(self) -> str:
        """Of everything that decides its result, the weights of a local model included.

        Of the config what differs from the defaults: a new field does not make a night's runs be run again.
        """
        config = self.config.model_dump(mode="json", exclude={"run": {"folder", "threads"}}, exclude_defaults=True)
        if self.arm == "base":  # nothing is trained
            asked = {"evaluation": config["data"]["evaluation"]}
            config = {key: config.get(key) for key in ("model", "task", "rollout")} | asked
        what = [self.arm, config, _weights(self.config.model.path), [cell.digest for cell in self.matched]]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def labels(self) -> dict[str, Any]:
        """What a row of results says about where it comes from."""
        method, budget = ARMS[self.arm]
        return {
            "arm": self.arm,
            "method": method,
            "budget": budget,
            "domain": self.domain,
            "shots": None if self.arm == "base" else self.shots,
            "seed": self.seed,
            "split": self.split,
            "variant": self.variant,
            "learning_rate": None if self.arm == "base" else self.config.optimizer.learning_rate,
        }


def grid(
    name: str,
    experiment: Experiment,
    *,
    shots: Sequence[int | None] | None = None,
    seeds: Sequence[int] = (0,),
    arms: Sequence[str] = tuple(ARMS),
    domains: Sequence[str] | None = None,
    quick: bool = False,
) -> list[Cell]:
    """The cells of an experiment in the order in which they are run; a cell comes after those it is matched with.

    Args:
        name: of the experiment.
        experiment: its description.
        shots: of the curve; None takes all of the experiment.
        seeds: of the runs.
        arms: which; ``sft-time`` brings ``rft`` and ``sft`` along.
        domains: which; None takes all.
        quick: two steps and eight images, to see whether everything works.
    """
    wanted = set(arms) | ({"rft", "sft"} if "sft-time" in arms else set())
    cells: dict[str, Cell] = {}
    for domain in domains or experiment.domains:
        for k in shots or experiment.shots:
            for variant, change in (experiment.variants or {"": Variant({})}).items():
                for seed in seeds:
                    split = "validation" if experiment.variants and not experiment.tuned else "test"
                    chosen = wanted & (set(change.arms) if experiment.variants else wanted)
                    place = _Place(name, experiment, domain, k, seed, split, variant, change, quick)
                    own = {} if change.learning_rate is None else {"rft": change.learning_rate}
                    for cell in place.cells(chosen, {**experiment.learning_rates, **own}):
                        cells.setdefault(cell.name, cell)
    return list(cells.values())


def tuning_grid(name: str, experiment: Experiment, quick: bool = False) -> list[Cell]:
    """Every learning rate per arm (or variant) in the first domain, on validation; nothing where there is no choice.

    The steps of ``sft-time`` are matched to one and the same run of ``rft``: its rate hardly changes what a step costs.
    """
    if not experiment.tries:
        return []
    shots = experiment.shots
    k = TUNING_SHOTS if TUNING_SHOTS in shots else shots[0]
    domain = next(iter(experiment.domains))
    if experiment.tuned:
        places = [
            (change.arms, _Place(name, experiment, domain, k, TUNING_SEED, "validation", variant, change, quick))
            for variant, change in experiment.variants.items()
        ]
        return [place.cell(arm, rate) for arms, place in places for arm in arms if arm in experiment.tries
                for rate in experiment.tries[arm]]  # fmt: skip
    place = _Place(name, experiment, domain, k, TUNING_SEED, "validation", "", Variant({}), quick)
    rft = [place.cell("rft", rate) for rate in experiment.tries["rft"]]
    sft = [place.cell("sft", rate) for rate in experiment.tries["sft"]]
    timed = [place.cell("sft-time", rate, (rft[-2], sft[-2])) for rate in experiment.tries["sft"]]
    reasoned = experiment.tries["sft"] if place.reasoning else ()
    return [*rft, *sft, *timed, *(place.cell("sft-reasoning", rate) for rate in reasoned)]


@dataclass(frozen=True)
class _Place:
    """Where in the grid: all that the arms have in common."""

    name: str
    experiment: Experiment
    domain: str
    shots: int | None
    seed: int
    split: str
    variant: str
    change: Variant
    quick: bool

    @property
    def reasoning(self) -> bool:
        return self.experiment.domains[self.domain].reasoning

    def cells(self, arms: set[str], rates: Mapping[str, float]) -> list[Cell]:
        found = {arm: self.cell(arm, rates[arm]) for arm in ("rft", "sft") if arm in arms}
        ordered = [self.cell("base", rates["rft"])] if "base" in arms else []
        ordered += found.values()
        if "sft-time" in arms:
            ordered.append(self.cell("sft-time", rates["sft-time"], (found["rft"], found["sft"])))
        if "sft-reasoning" in arms and self.reasoning:
            ordered.append(self.cell("sft-reasoning", rates["sft-reasoning"]))
        return ordered

    def cell(self, arm: str, rate: float, matched: tuple[Cell, ...] = ()) -> Cell:
        values = _config(self.experiment, self.experiment.domains[self.domain], self.shots, self.seed, self.split)
        values["optimizer"]["learning_rate"] = rate
        if self.reasoning and arm in ("sft", "sft-time"):
            values["data"]["train"][0]["reasoning"] = False
        changes = self.change.changes.items()  # as flags of the command line would make them; JSON is YAML
        values = apply_flags(values, [word for path, value in changes for word in (f"--{path}", json.dumps(value))], {})
        if self.quick:
            values["run"]["steps"] = QUICK_STEPS
            values["run"]["prompts_per_batch"] = 2
            values["rollout"]["group_size"] = 2
            values["data"]["evaluation"][0]["count"] = QUICK_IMAGES * (6 if self.name == "open-vocabulary" else 1)
        config = parse_config(values, self.name)
        if arm.startswith("sft"):  # the same number of optimiser steps
            steps = config.run.steps * config.objective.updates_per_rollout
            config = config.model_copy(update={"run": config.run.model_copy(update={"steps": steps})})
        seed = None if arm == "base" else self.seed
        return Cell(self.name, self.domain, arm, self.shots, seed, self.split, self.variant, config, matched)


def _config(experiment: Experiment, domain: Domain, shots: int | None, seed: int, split: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(experiment.config))
    train = {**domain.train, "seed": TRAIN_SEED + seed}
    if shots is not None:
        train["shots"] = shots
    evaluation = domain.validation if split == "validation" else domain.test
    values["data"] = {"train": [train], "evaluation": [dict(evaluation)]}
    values["run"]["seed"] = seed
    return values


@cache
def _weights(path: str) -> str:
    """Checksum of a local model's weights, so that another model is another cell."""
    from pathlib import Path

    checksum = hashlib.sha256()
    for file in sorted(Path(model_folder(path)).glob("*.safetensors")):
        checksum.update(file.read_bytes())
    return checksum.hexdigest()
