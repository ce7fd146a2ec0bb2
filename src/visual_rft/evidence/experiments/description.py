"""What an experiment is made of.

Decision: an experiment is a description without code of its own, so that what was run can be read on one page. The arms
are compared on the same shots:

* ``base``: the embedded model as it is;
* ``rft``: reinforcement, ``run.steps`` steps with ``objective.updates_per_rollout`` optimiser steps each;
* ``sft``: gold answers, as many optimiser steps with as many prompts each;
* ``sft-time``: gold answers, as many steps as fit into the CPU seconds that the steps of ``rft`` took;
* ``sft-reasoning``: as ``sft``, given the reasoning that is written down for a domain besides its labels;
* ``rft-recipe``, ``sft-recipe``, ``warm-rft``: the best on validation of equally many recipes of reinforcement, of gold
  answers, and of gold answers first and reinforcement then, each in about the CPU time of ``rft``.

Reinforcement is told labels only, and so is every arm of gold answers but ``sft-reasoning``: who has a few labelled
images has no reasoning written to them. k shots are k labelled images per class, the set of fewer shots being part of
the larger one. Training, validation and test use other scans (handwriting) or other seeds (procedural images); learning
rates and recipes are chosen among equally many per arm on validation, with training images of a seed no other run uses.

>>> [arm for arm, (method, _) in ARMS.items() if method == "sft"]
['sft', 'sft-time', 'sft-reasoning', 'sft-recipe']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ARMS = {
    "base": ("base", None),
    "rft": ("rft", "steps"),
    "sft": ("sft", "steps"),
    "sft-time": ("sft", "time"),
    "sft-reasoning": ("sft", "steps"),
    "rft-recipe": ("rft", "time"),
    "sft-recipe": ("sft", "time"),
    "warm-rft": ("rft", "time"),
}
"""Method and budget of each arm."""
WITH_RECIPES = ("rft-recipe", "sft-recipe", "warm-rft")
"""Arms that take the best of several recipes."""
TRAIN_SEED = 2000
"""Training images of seed s are drawn from 2000 + s: the base model was taught on scenes of seeds from 90,101 on."""
TUNING_SEED = 100
"""Seed of the runs that choose a learning rate."""
TUNING_SHOTS = 4
"""Shots of these runs, where the experiment has shots."""


@dataclass(frozen=True)
class Domain:
    """One kind of pictures.

    Attributes:
        train: a source (as in ``data.train`` of a config) without seed and shots.
        validation: where learning rates and ablations are compared.
        test: where the result is measured.
        reasoning: whether its images come with written reasoning that their labels do not say.
        beside: other domains that are trained on as well, in a run of several tasks.
        tested_beside: other domains whose tests the run is measured on as well.
        changes: of the experiment's config by dotted path, e.g. the steps.
    """

    train: Mapping[str, Any]
    validation: Mapping[str, Any]
    test: Mapping[str, Any]
    reasoning: bool = False
    beside: tuple[Domain, ...] = ()
    tested_beside: tuple[Domain, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A change of one factor.

    Attributes:
        changes: values by dotted path, e.g. ``{"objective.beta": 0.04}``; a number is a place in a list.
        arms: which arms are run.
        rate: factor of the learning rate.
    """

    changes: Mapping[str, Any]
    arms: tuple[str, ...] = ("rft",)
    rate: float = 1.0


Recipes = Mapping[str, Mapping[str, Any]]
"""Changes of a config by dotted path, by name."""


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        title: heading of its tables.
        metrics: names of the measured numbers, all in [0, 1], the main one first.
        domains: by name.
        shots: labelled images per class; ``(None,)`` where ``Domain.train`` says how many images there are in all.
        config: sections of a config; its learning rate is set by the arm.
        tries: equally many learning rates by method (``rft``, ``sft``), compared in the first domain for each of its
            arms.
        rates_of: the experiment whose learning rates are used where there are no tries.
        recipes: equally many for each arm of :data:`WITH_RECIPES` that is run, of which validation chooses.
        recipe_tries: equally many learning rates by arm, the middle one tried with every recipe, the others with the
            best of them.
        variants: ablations: changes of a config by dotted path, and the arms they are run for. Measured on validation.
        tuned: whether every variant has as many learning rates tried as the first, and is then measured on the test.
        curves: numbers of ``metrics.jsonl`` whose course over the steps is kept and drawn.
    """

    title: str
    metrics: tuple[str, ...]
    domains: Mapping[str, Domain]
    shots: tuple[int | None, ...]
    config: Mapping[str, Any]
    tries: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rates_of: str = ""
    recipes: Mapping[str, Recipes] = field(default_factory=dict)
    recipe_tries: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    tuned: bool = False
    curves: tuple[str, ...] = ()
