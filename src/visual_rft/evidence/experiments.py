"""What each experiment of the evidence is: data, metric, budget and tuned learning rates, as plain values.

Decision: an experiment is a description without code of its own, so that what was run can be read on one page. Five
arms are compared on the same shots:

* ``base``: the embedded model as it is;
* ``rft``: reinforcement, ``run.steps`` steps with ``objective.updates_per_rollout`` optimiser steps each;
* ``sft``: gold answers, as many optimiser steps with as many prompts each;
* ``sft-time``: gold answers, as many steps as fit into the CPU seconds that the steps of ``rft`` took;
* ``sft-reasoning``: as ``sft``, given the reasoning that is written down for a domain besides its labels.

Reinforcement is told labels only, and so are ``sft`` and ``sft-time``: who has a few labelled images has no reasoning
written to them. All arms train the same weights. k shots are k labelled images per class, the set of fewer shots being
part of the larger one. Training, validation and test use other scans (handwriting) or other seeds (procedural images);
learning rates are chosen among equally many per arm on validation, with training images of a seed no other run uses.

>>> experiment = EXPERIMENTS["few-shot-detection"]
>>> experiment.metrics[0], experiment.shots
('AP', (1, 2, 4, 8, 16))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from visual_rft.evidence.recipes import recipes

ARMS = {
    "base": ("base", None),
    "rft": ("rft", "steps"),
    "sft": ("sft", "steps"),
    "sft-time": ("sft", "time"),
    "sft-reasoning": ("sft", "steps"),
}
"""Method and budget of each arm."""
TRAIN_SEED = 2000
"""Training images of seed s are drawn from 2000 + s: the base model was taught on scenes of seeds below 50."""
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
    """

    train: Mapping[str, Any]
    validation: Mapping[str, Any]
    test: Mapping[str, Any]
    reasoning: bool = False


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        title: heading of its tables.
        metrics: names of the measured numbers, all in [0, 1], the main one first.
        domains: by name.
        shots: labelled images per class; ``(None,)`` where ``Domain.train`` says how many images there are in all.
        config: sections of a config; its learning rate is set by the arm.
        learning_rates: of each arm, the one that was best on validation; ``docs/evidence/*.json`` holds all tries.
        tries: equally many learning rates per method, compared in the first domain for each of its arms; none where
            the choice of the ablations is used.
        variants: ablations: changes of a config by dotted path, and the arms they are run for. Measured on validation.
        tuned: whether every variant has as many learning rates tried as the first, and is then measured on the test.
    """

    title: str
    metrics: tuple[str, ...]
    domains: Mapping[str, Domain]
    shots: tuple[int | None, ...]
    config: Mapping[str, Any]
    learning_rates: Mapping[str, float]
    tries: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    tuned: bool = False


@dataclass(frozen=True)
class Variant:
    """A change of one factor.

    Attributes:
        changes: values by dotted path, e.g. ``{"objective.beta": 0.04}``; a number is a place in a list.
        arms: which arms are run.
        learning_rate: of ``rft``, where it is another than the experiment's.
    """

    changes: Mapping[str, Any]
    arms: tuple[str, ...] = ("rft",)
    learning_rate: float | None = None


def _source(source: str, count: int, seed: int, **more: Any) -> dict[str, Any]:
    return {"source": source, "count": count, "seed": seed, **more}


def _digits(**train: Any) -> Domain:
    return Domain(
        train={"source": "digits", "split": "shots", "count": 600, "max_objects": 1, **train},
        validation=_source("digits", 200, 501, split="validation", max_objects=1),
        test=_source("digits", 200, 1, split="test", max_objects=1),
    )


def _shapes(
    count: int = 1500, most: int = 1, *, validated: int = 200, tested: int = 200, copies: int = 0,
    reasoning: bool = False, **more: Any,
) -> Domain:  # fmt: skip
    """Scenes of shapes, at most ``most`` shapes each.

    Args:
        count: scenes to train on or to choose shots from.
        most: shapes of a scene.
        validated: scenes of the validation.
        tested: scenes of the test.
        copies: moved copies of each scene that is trained on.
        reasoning: the scenes come with written reasoning.
        more: fields of all three sources.
    """
    scenes = {"max_objects": most, **more}
    return Domain(
        train={"source": "shapes", "count": count, "copies": copies, **scenes},
        validation=_source("shapes", validated, 501, **scenes),
        test=_source("shapes", tested, 1001, **scenes),
        reasoning=reasoning,
    )


_OPTIMIZER = {"schedule": "linear", "warmup_steps": 5, "betas": [0.9, 0.99]}
_OBJECTIVE = {"beta": 0.0, "updates_per_rollout": 2}


def _config(task: Mapping[str, Any], longest: int, steps: int, prompts: int, freeze_vision: bool) -> dict[str, Any]:
    """Sections of a config: what is asked, the longest completion in tokens, and the budget; the rest is the same.

    Where the vision tower is frozen, its features are computed once per image.
    """
    return {
        "model": {"path": "tiny", "freeze_vision": freeze_vision},
        "task": task,
        "rollout": {"group_size": 8, "max_new_tokens": longest},
        "objective": _OBJECTIVE,
        "optimizer": _OPTIMIZER,
        "run": {"steps": steps, "prompts_per_batch": prompts, "rollouts_every": 0, "threads": 1},
    }


_BOXES = {"name": "detection", "weights": {"iou": 2.0, "confidence": 0.5, "format": 0.5}}
_BOX = {"name": "grounding", "weights": {"iou": 1.0, "hit": 1.0, "format": 0.5}}
_DETECTION = _config(_BOXES, 96, steps=80, prompts=8, freeze_vision=False)
_CLASSIFICATION = _config({"name": "classification"}, 32, steps=80, prompts=4, freeze_vision=True)
_GROUNDING = _config(_BOX, 48, steps=150, prompts=16, freeze_vision=False)
_LONG_GROUNDING = _config(_BOX, 48, steps=300, prompts=16, freeze_vision=False)
_PLACES: dict[str, Any] = {"reasoning": True, "expressions": ("superlatives", "relations")}
_SHORT_DETECTION = _config(_BOXES, 96, steps=50, prompts=4, freeze_vision=True)
"""A third of the time of ``_DETECTION``, for the many runs of open vocabulary and the ablations."""
_SHORT_GROUNDING = _config(_BOX, 48, steps=50, prompts=8, freeze_vision=True)
_SHORT_RATES = {"rft": 7.5e-5, "sft": 1e-4, "sft-time": 5e-5}

_FLOWERS = Domain(
    train={"source": "flowers", "count": 24 * 40},
    validation=_source("flowers", 192, 501),
    test=_source("flowers", 192, 1001),
    reasoning=True,
)
_NOVEL_DIGITS = ("digit 7", "digit 8", "digit 9")
_BASE_DIGITS = tuple(f"digit {i}" for i in range(7))
_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
_BASE_SHAPES = tuple(f"{colour} {form}" for colour in _COLOURS for form in ("circle", "square", "triangle"))
_NOVEL_SHAPES = tuple(f"{colour} {form}" for colour in _COLOURS for form in ("star", "cross"))
_UNSURE = {"iou": 2.0, "format": 0.5}  # no confidence: only the method writes one


def _open(domain: Domain, base: tuple[str, ...], novel: tuple[str, ...], count: int) -> Domain:
    """Training on base classes, measured on novel ones in ``count`` images before those are picked out.

    Validation is on base classes: the novel ones are not looked at before the test.
    """
    return Domain(
        train={**domain.train, "classes": base},
        validation={**domain.validation, "classes": base},
        test={**domain.test, "classes": novel, "count": count},
    )


def _compared(
    what: str, metrics: tuple[str, ...], domains: Mapping[str, Domain], shots: tuple[int | None, ...],
    config: Mapping[str, Any], rates: Mapping[str, float], threshold: str | None,
) -> Experiment:  # fmt: skip
    """The recipes, each tuned; ``threshold`` is an option of the task that one of them lets rise."""
    arms = {"grpo": ("base", "rft", "sft")}
    changes = recipes(threshold, config["run"]["steps"])
    variants = {name: Variant(change, arms.get(name, ("rft",))) for name, change in changes.items()}
    tries = {"rft": (4e-5, 7.5e-5, 1.5e-4, 3e-4), "sft": (5e-5, 1e-4, 3e-4, 1e-3)}
    title = f"Losses, advantages and flat groups: {what}"
    return Experiment(title, metrics, domains, shots, config, rates, tries, variants, tuned=True)


EXPERIMENTS: dict[str, Experiment] = {
    "few-shot-detection": Experiment(
        title="Few-shot detection",
        metrics=("AP", "AP50", "mean_iou"),
        domains={"handwriting": _digits(), "shapes": _shapes()},
        shots=(1, 2, 4, 8, 16),
        config=_DETECTION,
        tries={"rft": (5e-5, 7.5e-5, 1e-4, 2e-4), "sft": (2e-5, 5e-5, 1e-4, 3e-4)},
        learning_rates={"rft": 5e-5, "sft": 5e-5, "sft-time": 5e-5},
    ),
    "augmented-detection": Experiment(
        title="Few-shot detection with 15 moved copies of each scene",
        metrics=("AP", "AP50", "mean_iou"),
        domains={"handwriting": _digits(copies=15)},
        shots=(1, 2, 4),  # where supervised training without copies is not ahead
        config=_DETECTION,
        tries={"rft": (5e-5, 7.5e-5, 1e-4, 2e-4), "sft": (5e-5, 1e-4, 3e-4, 1e-3)},
        learning_rates={"rft": 1e-4, "sft": 3e-4, "sft-time": 1e-4},
    ),
    "few-shot-classification": Experiment(
        title="Few-shot classification",
        metrics=("top1_strict",),
        domains={
            "flowers": _FLOWERS,
            "handwriting": _digits(),
        },
        shots=(1, 2, 4, 8, 16),
        config=_CLASSIFICATION,
        tries={"rft": (4e-5, 7.5e-5, 1.5e-4, 3e-4), "sft": (5e-5, 1e-4, 3e-4, 1e-3)},
        learning_rates={"rft": 4e-5, "sft": 3e-4, "sft-time": 1e-3, "sft-reasoning": 1e-4},
    ),
    "open-vocabulary": Experiment(
        title="Open vocabulary: trained on base classes, measured on novel ones",
        metrics=("AP", "AP50", "mean_iou"),
        domains={
            "handwriting": _open(_digits(), _BASE_DIGITS, _NOVEL_DIGITS, 600),
            "shapes": _open(_shapes(), _BASE_SHAPES, _NOVEL_SHAPES, 450),
        },
        shots=(1, 16),
        config=_SHORT_DETECTION,
        learning_rates=_SHORT_RATES,
    ),
    "reasoning-grounding": Experiment(
        title="Reasoning grounding",
        metrics=("mean_iou", "acc50"),
        domains={
            # With 200 scenes the 95 % interval of what RFT gains was 0.065 wide, two thirds of the gain.
            "places-and-sizes": _shapes(256, 2, tested=1000, **_PLACES),
            "every-kind": _shapes(256, 2, reasoning=True),
        },
        shots=(None,),
        config=_GROUNDING,
        tries={"rft": (2e-5, 5e-5, 1e-4, 2e-4), "sft": (2e-5, 5e-5, 1e-4, 3e-4)},
        learning_rates={"rft": 1e-4, "sft": 5e-5, "sft-time": 3e-4, "sft-reasoning": 2e-5},
    ),
    "augmented-grounding": Experiment(
        title="Reasoning grounding with 15 moved copies of each scene, 300 steps",
        metrics=("mean_iou", "acc50"),
        # Of 200 scenes of validation, the recipes on the page differ by less than two seeds of one of them.
        domains={"places-and-sizes": _shapes(256, 2, validated=1000, tested=1000, copies=15, **_PLACES)},
        shots=(None,),
        config=_LONG_GROUNDING,
        tries={"rft": (2e-5, 5e-5, 1e-4, 2e-4), "sft": (2e-5, 5e-5, 1e-4, 3e-4)},
        learning_rates={"rft": 1e-4, "sft": 3e-4, "sft-time": 1e-4, "sft-reasoning": 5e-5},
    ),
    "ablations": Experiment(
        title="Ablations of 4-shot detection of handwriting, 50 steps of 4 prompts",
        metrics=("AP", "AP50", "mean_iou"),
        domains={"handwriting": _digits()},
        shots=(4,),
        config=_SHORT_DETECTION,
        tries={"rft": (4e-5, 7.5e-5, 1.5e-4, 3e-4), "sft": (5e-5, 1e-4, 3e-4, 1e-3)},
        learning_rates=_SHORT_RATES,
        variants={
            "unchanged": Variant({}, ("base", "rft", "sft")),
            "iou 1, confidence 1, format 1 (the method's)": Variant(
                {"task.weights": {"iou": 1.0, "confidence": 1.0, "format": 1.0}}
            ),
            "no confidence reward": Variant({"task.weights": _UNSURE}),
            "tau 0.75": Variant({"task.options.iou_threshold": 0.75}),
            "tau 0.5 to 0.75": Variant({"task.options.iou_threshold": {"from": 0.5, "to": 0.75}}),
            "no thinking": Variant({"task.think": False}, ("base", "rft")),
            "native": Variant({"task.style": "native", "task.weights": _UNSURE}),
            "native, no thinking": Variant({"task.style": "native", "task.think": False, "task.weights": _UNSURE}),
            "plain lists": Variant({"task.style": "plain", "task.weights": _UNSURE}),
            "plain lists, no thinking": Variant({"task.style": "plain", "task.think": False, "task.weights": _UNSURE}),
            "beta 0.04": Variant({"objective.beta": 0.04}),
            "G 4": Variant({"rollout.group_size": 4}),
            "vision tower trained": Variant({"model.freeze_vision": False}, ("rft", "sft")),
            "LoRA rank 16": Variant({"model.lora": {"rank": 16, "alpha": 32.0}}),
            "LoRA rank 16, 5 x learning rate": Variant(
                {"model.lora": {"rank": 16, "alpha": 32.0}, "optimizer.learning_rate": 3.75e-4}
            ),
            "confidence_brier": Variant({"task.weights": {"iou": 2.0, "confidence_brier": 0.5, "format": 0.5}}),
            "iou_soft": Variant({"task.weights": {"iou_soft": 2.0, "confidence": 0.5, "format": 0.5}}),
            "iou_balanced": Variant({"task.weights": {"iou_balanced": 2.0, "confidence": 0.5, "format": 0.5}}),
            "1 update per rollout": Variant({"objective.updates_per_rollout": 1}),
            "token_mean": Variant({"objective.aggregation": "token_mean"}),
            "clip_high 0.4": Variant({"objective.clip_high": 0.4}),
            "tau 0.25": Variant({"task.options.iou_threshold": 0.25}),
            "G 16": Variant({"rollout.group_size": 16}),
            "150 steps": Variant({"run.steps": 150}, ("rft", "sft")),
            "15 moved copies of each scene": Variant({"data.train.0.copies": 15}, ("rft", "sft")),
        },
    ),
    "objectives-detection": _compared(
        "detection of handwriting, 50 steps of 4 prompts", ("AP", "AP50", "mean_iou"), {"handwriting": _digits()},
        (1, 4, 16), _SHORT_DETECTION, _SHORT_RATES, "iou_threshold",
    ),
    "objectives-grounding": _compared(
        "reasoning grounding, 50 steps of 8 prompts", ("mean_iou", "acc50"),
        {"places-and-sizes": _shapes(256, 2, tested=1000, **_PLACES)}, (None,), _SHORT_GROUNDING, _SHORT_RATES,
        "hit_threshold",
    ),
    "objectives-classification": _compared(
        "4-shot classification of flowers, 80 steps of 4 prompts", ("top1_strict",), {"flowers": _FLOWERS}, (4,),
        _CLASSIFICATION, {"rft": 4e-5, "sft": 3e-4, "sft-time": 1e-3}, None,
    ),
}  # fmt: skip
