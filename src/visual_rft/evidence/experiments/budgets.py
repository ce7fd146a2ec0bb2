"""Sections of a config that experiments share: what is asked, what is rewarded, and how much is spent.

Decision: a run takes about a minute on one core, so that every comparison can have its own tuning and three seeds.

>>> DETECTION["run"]["steps"], SHORT_DETECTION["run"]["steps"]
(50, 40)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATES = {"rft": (5e-5, 1e-4, 2e-4, 4e-4), "sft": (5e-5, 1e-4, 3e-4, 1e-3)}
"""Learning rates that are tried for each arm: the best of the earlier base and of the demo lie inside."""
DETECTION_RATES = {"rft": (2.5e-5, 5e-5, 1e-4, 2e-4), "sft": (2e-5, 5e-5, 1e-4, 3e-4)}
"""Lower ones, because on today's base the best of ``RATES`` was the lowest on both sides."""


def _config(task: Mapping[str, Any], longest: int, steps: int, prompts: int, freeze_vision: bool) -> dict[str, Any]:
    """Sections of a config: what is asked, the longest completion in tokens, and the budget; the rest is the same.

    Where the vision tower is frozen, its features are computed once per image.
    """
    return {
        "model": {"path": "tiny", "freeze_vision": freeze_vision},
        "task": task,
        "rollout": {"group_size": 8, "max_new_tokens": longest},
        "objective": {"beta": 0.0, "updates_per_rollout": 2},
        "optimizer": {"schedule": "linear", "warmup_steps": 5, "betas": [0.9, 0.99]},
        "run": {"steps": steps, "prompts_per_batch": prompts, "rollouts_every": 0, "threads": 1},
    }


BOXES = {"name": "detection", "weights": {"iou_balanced": 2.0, "confidence_brier": 0.5, "format": 0.5}}
"""The recommended forms of the method's rewards for scenes of several objects, as in the demo of detection."""
BOX = {"name": "grounding", "weights": {"iou": 1.0, "hit": 1.0, "format": 0.5}}
DETECTION = _config(BOXES, 96, steps=50, prompts=8, freeze_vision=False)
CLASSIFICATION = _config({"name": "classification"}, 32, steps=80, prompts=4, freeze_vision=True)
GROUNDING = _config(BOX, 48, steps=60, prompts=12, freeze_vision=False)
SHORT_DETECTION = _config(BOXES, 96, steps=40, prompts=4, freeze_vision=True)
"""A third of the time of ``DETECTION``, for the many runs of open vocabulary, ablations and objectives."""
SHORT_GROUNDING = _config(BOX, 48, steps=50, prompts=8, freeze_vision=True)
UNSURE = {"iou_balanced": 2.0, "format": 0.5}
"""Rewards of an answer without a confidence: only the method's own style writes one."""
