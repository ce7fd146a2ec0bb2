"""Losses, advantages and ways out of flat groups that are compared: each one change of the method, as plain values.

Decision: each takes what its paper says beside its name; how many learning rates are tried is the same for all.

>>> list(ways("iou_threshold", steps=50))[:3]
['grpo', 'dr_grpo', 'dapo']
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visual_rft.evidence.experiments.budgets import CLASSIFICATION, RATES, SHORT_DETECTION, SHORT_GROUNDING
from visual_rft.evidence.experiments.description import Domain, Experiment, Variant
from visual_rft.evidence.experiments.grounding import places_and_sizes
from visual_rft.evidence.experiments.pictures import digits, flowers


def ways(threshold: str | None, steps: int) -> dict[str, dict[str, Any]]:
    """Changes of a config by dotted path; the first changes nothing.

    Args:
        threshold: option of the task that is to rise; None if there is none.
        steps: of the runs.
    """
    rising = {f"task.options.{threshold}": {"from": 0.3, "to": 0.7}}
    return {
        "grpo": {},
        "dr_grpo": {"objective.loss": "dr_grpo", "objective.advantages": "none"},
        "dapo": {"objective.loss": "dapo", "objective.clip_high": 0.28},
        "gspo": {"objective.loss": "gspo", "objective.clip_low": 3e-4, "objective.clip_high": 4e-4},
        "cispo": {"objective.loss": "cispo"},
        "sapo": {"objective.loss": "sapo"},
        "gdpo": {"objective.advantages": "gdpo"},
        "rank": {"objective.advantages": "rank"},
        "history_rank": {"objective.advantages": "history_rank"},
        "dynamic sampling": {"rollout.extra": 1.0},
        # Where a third of the groups is flat, about as many answers as without.
        "dynamic sampling, 2/3 of the steps": {"rollout.extra": 1.0, "run.steps": round(steps * 2 / 3)},
        "rest 10 steps": {"rollout.rest_steps": 10},
        "hard_share 0.25": {"rollout.hard_share": 0.25},
        **({} if threshold is None else {"threshold 0.3 to 0.7": rising}),
        "sft_weight 0.3 to 0": {"objective.sft_weight": {"from": 0.3, "to": 0.0}},
        "warm start of 10 steps": {"objective.warm_start": 10},
    }


def _compared(
    what: str, metrics: tuple[str, ...], domains: Mapping[str, Domain], shots: tuple[int | None, ...],
    config: Mapping[str, Any], threshold: str | None,
) -> Experiment:  # fmt: skip
    """The ways, each tuned; ``threshold`` is an option of the task that one of them lets rise."""
    arms = {"grpo": ("base", "rft", "sft")}
    changes = ways(threshold, config["run"]["steps"])
    variants = {name: Variant(change, arms.get(name, ("rft",))) for name, change in changes.items()}
    title = f"Losses, advantages and flat groups: {what}"
    return Experiment(title, metrics, domains, shots, config, RATES, variants=variants, tuned=True)


OBJECTIVES: dict[str, Experiment] = {
    "objectives-detection": _compared(
        "detection of handwriting, 40 steps of 4 prompts", ("AP", "AP50", "mean_iou"),
        {"handwriting": digits(most=4)}, (1, 4, 16), SHORT_DETECTION, "iou_threshold",
    ),
    "objectives-grounding": _compared(
        "reasoning grounding, 50 steps of 8 prompts", ("mean_iou", "acc50"),
        {"places-and-sizes": places_and_sizes()}, (None,), SHORT_GROUNDING, "hit_threshold",
    ),
    "objectives-classification": _compared(
        "4-shot classification of flowers, 80 steps of 4 prompts", ("top1_strict",), {"flowers": flowers()}, (4,),
        CLASSIFICATION, None,
    ),
}  # fmt: skip
