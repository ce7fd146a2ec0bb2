"""The cells of an experiment: one run (or one look at the base model) each, and the grid they form.

Decision: a cell knows everything that decides its result, and is named by a digest of it, so that a cell that has been
run is recognised and one whose description, base model or code changed is run again. The steps of ``sft-time`` follow
from what two other cells measured; its digest contains theirs.

>>> from visual_rft.evidence.choices import guesses
>>> from visual_rft.evidence.experiments.catalogue import EXPERIMENTS
>>> experiment = EXPERIMENTS["open-vocabulary"]
>>> [cell.name for cell in grid("open-vocabulary", experiment, dict(guesses(experiment)), shots=(1,), seeds=(0,),
...                             domains=("handwriting",))]
['handwriting-base', 'handwriting-k1-seed0-rft', 'handwriting-k1-seed0-sft', 'handwriting-k1-seed0-sft-time']
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visual_rft.config.config import Config, parse_config
from visual_rft.config.overrides import apply_flags
from visual_rft.evidence.choices import Choice, Choices, key_of
from visual_rft.evidence.experiments.description import (
    ARMS,
    TRAIN_SEED,
    TUNING_SEED,
    TUNING_SHOTS,
    WITH_RECIPES,
    Domain,
    Experiment,
    Variant,
)
from visual_rft.policy.stored.places import weights_fingerprint

REVISIONS = {"base": 2, "rft": 2, "sft": 2}
"""By method: raised where code, or a default, changed what such a run comes to without a change of its config; cells of
an older number are run again. 2: the schedule of supervised training ends with the run."""
QUICK_STEPS = 2
QUICK_IMAGES = 8


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        experiment: its name.
        domain: kind of pictures.
        arm: one of :data:`visual_rft.evidence.experiments.description.ARMS`.
        shots: labelled images per class; None where the source says how many images there are.
        seed: of the choice of shots, of batch order and sampling; None of ``base``.
        split: ``test`` or ``validation``: what the numbers are of.
        variant: what was changed, empty for nothing.
        recipe: which of the arm's recipes, empty where it has none.
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
    recipe: str
    config: Config
    matched: tuple[Cell, ...] = ()

    @property
    def name(self) -> str:
        """Its file name without the ending."""
        shots = "" if self.shots is None or self.arm == "base" else f"k{self.shots}"
        seed = "" if self.seed is None else f"seed{self.seed}"
        tries = self.split == "validation" and (not self.variant or self.seed == TUNING_SEED)
        rate = f"lr{self.config.optimizer.learning_rate:g}" if tries else ""
        variant = re.sub(r"[^a-z0-9.]+", "_", (self.variant or (self.recipe if tries else "")).lower())
        parts = (self.domain, shots, seed, variant, self.arm, rate if self.arm != "base" else "")
        return "-".join(part for part in parts if part)

    @property
    def digest(self) -> str:
        """Of everything that decides its result: config, weights of a local model, and :data:`REVISIONS`.

        Of the config what differs from the defaults: a new field does not make a night's runs be run again. A default
        that changes does, since ``tests/evidence/test_cells.py`` then asks for another revision.
        """
        config = self.config.model_dump(mode="json", exclude={"run": {"folder", "threads"}}, exclude_defaults=True)
        if self.arm == "base":  # nothing is trained
            asked = {"evaluation": config["data"]["evaluation"]}
            config = {key: config.get(key) for key in ("model", "task", "rollout")} | asked
        weights = weights_fingerprint(self.config.model.path)
        what = [self.arm, REVISIONS[ARMS[self.arm][0]], config, weights, [cell.digest for cell in self.matched]]
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
            "recipe": self.recipe,
            "learning_rate": None if self.arm == "base" else self.config.optimizer.learning_rate,
        }


def grid(
    name: str,
    experiment: Experiment,
    choices: Choices,
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
        choices: learning rates and recipes.
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
                    for cell in place.cells(chosen, choices):
                        cells.setdefault(cell.name, cell)
    return list(cells.values())


def tuning_grid(name: str, experiment: Experiment, quick: bool = False) -> list[Cell]:
    """Every learning rate per arm, variant or recipe in the first domain, on validation; nothing where there is no
    choice.

    The steps of ``sft-time`` are matched to one and the same run of ``rft``: its rate hardly changes what a step costs.
    """
    if not experiment.tries:
        return []
    k = TUNING_SHOTS if TUNING_SHOTS in experiment.shots else experiment.shots[0]
    domain = next(iter(experiment.domains))

    def place(variant: str, change: Variant) -> _Place:
        return _Place(name, experiment, domain, k, TUNING_SEED, "validation", variant, change, quick)

    tries = experiment.tries
    if experiment.tuned:
        return [
            place(variant, change).cell(arm, Choice(rate))
            for variant, change in experiment.variants.items()
            for arm in change.arms
            for rate in tries.get(arm, ())
        ]
    here = place("", Variant({}))
    rft = [here.cell("rft", Choice(rate)) for rate in tries["rft"]]
    sft = [here.cell("sft", Choice(rate)) for rate in tries["sft"]]
    timed = [here.cell("sft-time", Choice(rate), (rft[-2], sft[-2])) for rate in tries["sft"]]
    reasoned = [here.cell("sft-reasoning", Choice(rate)) for rate in tries["sft"]] if here.reasoning else []
    recipes = [
        here.cell(arm, Choice(rate, recipe))
        for arm, some in experiment.recipes.items()
        for recipe in some
        for rate in experiment.recipe_tries[arm]
    ]
    return [*rft, *sft, *timed, *reasoned, *recipes]


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

    def cells(self, arms: set[str], choices: Choices) -> list[Cell]:
        chosen = {arm: choices[key] for arm in arms if (key := key_of(arm, self.tuned_as)) in choices}
        found = {arm: self.cell(arm, chosen[arm]) for arm in ("rft", "sft") if arm in arms}
        ordered = [self.cell("base", Choice(1.0))] if "base" in arms else []
        ordered += found.values()
        if "sft-time" in arms:
            ordered.append(self.cell("sft-time", chosen["sft-time"], (found["rft"], found["sft"])))
        if "sft-reasoning" in arms and self.reasoning:
            ordered.append(self.cell("sft-reasoning", chosen["sft-reasoning"]))
        ordered += [self.cell(arm, chosen[arm]) for arm in self.experiment.recipes if arm in arms]
        return ordered

    @property
    def tuned_as(self) -> str:
        """The variant under which the learning rates stand."""
        return self.variant if self.experiment.tuned else ""

    def cell(self, arm: str, choice: Choice, matched: tuple[Cell, ...] = ()) -> Cell:
        values = _config(self.experiment, self.experiment.domains[self.domain], self.shots, self.seed, self.split)
        values["optimizer"]["learning_rate"] = choice.learning_rate * self.change.rate
        if self.reasoning and arm != "sft-reasoning" and arm != "base":
            values["data"]["train"][0]["reasoning"] = False
        recipe = self.experiment.recipes[arm][choice.recipe] if arm in WITH_RECIPES else {}
        own = self.experiment.domains[self.domain].changes
        changes = (*own.items(), *self.change.changes.items(), *recipe.items())  # as flags would; JSON is YAML
        values = apply_flags(values, [word for path, value in changes for word in (f"--{path}", json.dumps(value))], {})
        if self.quick:
            values["run"]["steps"] = QUICK_STEPS
            values["run"]["prompts_per_batch"] = 2
            values["rollout"]["group_size"] = 2
            if "warm_start" in values["objective"]:
                values["objective"]["warm_start"] = 1
            for source in values["data"]["evaluation"]:
                source["count"] = QUICK_IMAGES * (6 if self.name == "open-vocabulary" else 1)
        config = parse_config(values, self.name)
        if arm.startswith("sft"):  # the same number of optimiser steps
            steps = config.run.steps * config.objective.updates_per_rollout
            config = config.model_copy(update={"run": config.run.model_copy(update={"steps": steps})})
        seed = None if arm == "base" else self.seed
        return Cell(
            self.name, self.domain, arm, self.shots, seed, self.split, self.variant, choice.recipe, config, matched
        )


def _config(experiment: Experiment, domain: Domain, shots: int | None, seed: int, split: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(experiment.config))
    chosen = {} if shots is None else {"shots": shots}
    train = [{**one.train, "seed": TRAIN_SEED + seed, **chosen} for one in (domain, *domain.beside)]
    tests = [one.validation if split == "validation" else one.test for one in (domain, *domain.tested_beside)]
    values["data"] = {"train": train, "evaluation": json.loads(json.dumps(tests))}
    values["run"]["seed"] = seed
    return values
