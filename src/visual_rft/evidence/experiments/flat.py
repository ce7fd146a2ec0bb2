"""Why the curve over shots is flat: each possible reason is a group of changes, looked at where it could show.

Decision: measured on validation, at few and at many shots. A reason holds where its change helps more at many shots
than at few.

* *The reward is at its ceiling*: with a threshold that rises, or none, there is more to earn.
* *Confidence*: AP ranks boxes by it; ``AP_constant`` ranks all alike and ``AP_by_iou`` as well as one can.
* *Prompts seen*: more steps, or more prompts a step. *Step size*: half and twice the learning rate.
* *Flat groups*: other prompts in their place, or 16 answers. *Length*: no thinking.

>>> FLAT["why-flat"].shots
(2, 16)
"""

from __future__ import annotations

from visual_rft.evidence.experiments.budgets import SHORT_DETECTION, UNSURE
from visual_rft.evidence.experiments.description import Experiment, Variant
from visual_rft.evidence.experiments.pictures import digits

_STEPS: int = SHORT_DETECTION["run"]["steps"]
_SOFT = {"iou_soft": 2.0, "confidence_brier": 0.5, "format": 0.5}

FLAT: dict[str, Experiment] = {
    "why-flat": Experiment(
        title="Why the curve over shots is flat: detection of handwriting, 40 steps of 4 prompts",
        metrics=("AP", "AP50", "AP75", "mean_iou", "AP_constant", "AP_by_iou"),
        domains={"handwriting": digits(most=4)},
        shots=(2, 16),
        config=SHORT_DETECTION,
        rates_of="ablations",
        curves=("reward/iou_balanced", "reward/confidence_brier", "zero_std_share", "length", "entropy_estimate"),
        variants={
            "unchanged": Variant({}, ("base", "rft", "sft")),
            "ceiling: threshold 0.75": Variant({"task.options.iou_threshold": 0.75}),
            "ceiling: threshold 0.3 to 0.8": Variant({"task.options.iou_threshold": {"from": 0.3, "to": 0.8}}),
            "ceiling: no threshold (iou_soft)": Variant({"task.weights": _SOFT}),
            "confidence: no reward": Variant({"task.weights": UNSURE}),
            "prompts seen: twice the steps": Variant({"run.steps": 2 * _STEPS}),
            "prompts seen: four times the steps": Variant({"run.steps": 4 * _STEPS}),
            "prompts seen: twice as many a step": Variant({"run.prompts_per_batch": 8}),
            "step size: half the learning rate": Variant({}, rate=0.5),
            "step size: twice the learning rate": Variant({}, rate=2.0),
            "flat groups: others in their place": Variant({"rollout.extra": 1.0}),
            "flat groups: 16 answers": Variant({"rollout.group_size": 16}),
            "length: no thinking": Variant({"task.think": False}),
        },
    ),
}
