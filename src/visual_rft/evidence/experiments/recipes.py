"""Recipes that may be better than the method's settings, equally many for each side.

Decision: each recipe takes about the CPU time of the unchanged reinforcement, or less. On the embedded model so many
steps on gold answers (:data:`GOLD_STEPS`) take the time of one step of reinforcement with two updates; a share w of the
steps becomes w times that many steps of warm start, and gold answers alone may take all of it. Naming is so short that
gold answers would have no more steps than reinforcement; there they may take twice its time. What the runs really took
stands in their rows.

>>> {arm: len(some) for arm, some in recipes_of_detection(50).items()}
{'rft-recipe': 9, 'sft-recipe': 9, 'warm-rft': 9}
>>> recipes_of_detection(50)["warm-rft"]["warm start, 1/4 of the time"]
{'objective.warm_start': 75, 'run.steps': 113}
"""

from __future__ import annotations

from typing import Any

from visual_rft.evidence.experiments.budgets import UNSURE
from visual_rft.evidence.experiments.description import Recipes

RECIPE_RATES = {
    "rft-recipe": (7.5e-5, 1.5e-4, 3e-4),
    "sft-recipe": (5e-5, 1.5e-4, 4.5e-4),
    "warm-rft": (1e-4, 2e-4, 4e-4),
}
"""Learning rates of the recipes, three each."""
DETECTION_RECIPE_RATES = {
    "rft-recipe": (4e-5, 7.5e-5, 1.5e-4),
    "sft-recipe": (2e-5, 5e-5, 1.5e-4),
    "warm-rft": (5e-5, 1e-4, 2e-4),
}
"""The same for detection, lower as its :data:`~visual_rft.evidence.experiments.budgets.DETECTION_RATES` are."""
GOLD_STEPS = {"detection": 6.0, "grounding": 5.0, "naming": 2.0}
"""Steps on gold answers in the time of one step of reinforcement: 7.0, 5.0 and 2.2 were measured."""
LONGER = {"detection": 3.0, "grounding": 2.5, "naming": 2.0}
"""Times the optimiser steps of reinforcement that gold answers may have; these are two to a step."""
COPIES = {"data.train.0.copies": 15}
FROZEN = {"model.freeze_vision": True}
TRAINED = {"model.freeze_vision": False}
DIRECT = {"task.think": False}
GDPO = {"objective.advantages": "gdpo"}
RANK = {"objective.advantages": "rank"}


def warm(share: float, steps: int, task: str) -> dict[str, Any]:
    """Gold answers for a share of the time of ``steps`` steps of reinforcement, which has the rest."""
    first = round(GOLD_STEPS[task] * share * steps)
    return {"objective.warm_start": first, "run.steps": first + round((1 - share) * steps)}


def _rising(option: str, start: float, end: float) -> dict[str, Any]:
    return {f"task.options.{option}": {"from": start, "to": end}}


def _growing_groups(steps: int) -> dict[str, Any]:
    """8 answers to a question at first and 24 at the end, which take 1.6 times as long as 8: most answers come late,
    when questions are harder to tell apart."""
    return {"rollout.group_size": {"from": 8, "to": 24}, "run.steps": round(steps / 1.6)}


def _dynamic(steps: int) -> dict[str, Any]:
    """Where a third of the groups is flat, about as many answers as without."""
    return {"rollout.extra": 1.0, "run.steps": round(steps * 2 / 3)}


def _gold(steps: int, task: str, tower: dict[str, Any]) -> Recipes:
    """Recipes of gold answers; ``tower``: the vision tower trained where it is frozen, and the other way round."""
    longer = {"run.steps": round(LONGER[task] * steps)}
    return {
        "unchanged": {},
        "longer": longer,
        "15 copies": COPIES,
        "15 copies, longer": {**COPIES, **longer},
        "63 copies, longer": {"data.train.0.copies": 63, **longer},
        "tower changed, longer": {**tower, **longer},
        "tower changed, 15 copies, longer": {**tower, **COPIES, **longer},
        "no thinking, longer": {**DIRECT, **longer},
        "no thinking, 15 copies, longer": {**DIRECT, **COPIES, **longer},
    }


def _warm(steps: int, task: str, better: dict[str, Any]) -> Recipes:
    """Recipes of gold answers first, or beside; ``better``: what may help reinforcement besides."""
    beside = {"objective.sft_weight": {"from": 0.5, "to": 0.0, "until": 0.5}}
    return {
        "warm start, 1/4 of the time": warm(1 / 4, steps, task),
        "warm start, 1/2 of the time": warm(1 / 2, steps, task),
        "warm start, 3/4 of the time": warm(3 / 4, steps, task),
        "1/4, 15 copies": {**warm(1 / 4, steps, task), **COPIES},
        "1/2, 15 copies": {**warm(1 / 2, steps, task), **COPIES},
        "3/4, 15 copies": {**warm(3 / 4, steps, task), **COPIES},
        "1/2, 15 copies, finer rewards": {**warm(1 / 2, steps, task), **COPIES, **better},
        "gold answers beside": beside,
        "gold answers beside, 15 copies": {**beside, **COPIES},
    }


def _of_boxes(steps: int, rising: dict[str, Any]) -> Recipes:
    """What is tried alike in detection and grounding; ``rising``: the threshold of the task's reward, by steps."""
    return {
        "threshold 0.3 to 0.8": rising,
        "gdpo": GDPO,
        "rank": RANK,
        "dynamic sampling, 2/3 of the steps": _dynamic(steps),
        "15 copies": COPIES,
        "15 copies, threshold 0.3 to 0.8, G 8 to 24": {**COPIES, **rising, **_growing_groups(steps)},
    }


def recipes_of_detection(steps: int) -> dict[str, Recipes]:
    """Of ``steps`` steps of reinforcement, by arm."""
    soft = {"task.weights": {"iou_soft": 2.0, "confidence_brier": 0.5, "format": 0.5}}
    rising = _rising("iou_threshold", 0.3, 0.8)
    native = {"task.style": "native", "task.weights": UNSURE}
    reinforced: Recipes = {
        "unchanged": {},
        "soft threshold": soft,
        **_of_boxes(steps, rising),
        "15 copies, native, no thinking": {**COPIES, **native, **DIRECT},
    }
    return {
        "rft-recipe": reinforced,
        "sft-recipe": _gold(steps, "detection", FROZEN),
        "warm-rft": _warm(steps, "detection", rising),
    }


def recipes_of_grounding(steps: int) -> dict[str, Recipes]:
    """Of ``steps`` steps of reinforcement, by arm."""
    soft = {"task.weights": {"iou": 1.0, "giou": 1.0, "format": 0.5}}
    rising = _rising("hit_threshold", 0.3, 0.8)
    reinforced: Recipes = {
        "unchanged": {},
        "no threshold, giou": soft,
        **_of_boxes(steps, rising),
        "15 copies, no thinking": {**COPIES, **DIRECT},
    }
    return {
        "rft-recipe": reinforced,
        "sft-recipe": _gold(steps, "grounding", FROZEN),
        "warm-rft": _warm(steps, "grounding", rising),
    }


def recipes_of_naming(steps: int) -> dict[str, Recipes]:
    """Of ``steps`` steps of reinforcement, by arm. Right or wrong has no threshold; moved copies are new pictures."""
    hard = {"rollout.hard_share": 0.25}
    reinforced: Recipes = {
        "unchanged": {},
        "tower trained": TRAINED,
        "gdpo": GDPO,
        "rank": RANK,
        "dynamic sampling, 2/3 of the steps": _dynamic(steps),
        "more answers to hard questions": hard,
        "15 copies": COPIES,
        "15 copies, G 8 to 24": {**COPIES, **_growing_groups(steps)},
        "15 copies, tower trained": {**COPIES, **TRAINED},
    }
    return {
        "rft-recipe": reinforced,
        "sft-recipe": _gold(steps, "naming", TRAINED),
        "warm-rft": _warm(steps, "naming", hard),
    }
