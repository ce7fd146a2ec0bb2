"""Ablations: one factor of reinforcement changed at a time.

>>> next(iter(ABLATIONS["ablations"].variants))
'unchanged'
"""

from __future__ import annotations

from visual_rft.evidence.experiments.budgets import RATES, SHORT_DETECTION, UNSURE
from visual_rft.evidence.experiments.description import Experiment, Variant
from visual_rft.evidence.experiments.pictures import digits

WORDS = {
    f"{name}{'' if think else ', no thinking'}": Variant(
        {"task.style": style, "task.think": think, "task.weights": UNSURE}, ("base", "rft")
    )
    for style, name in (("method", "no confidence reward"), ("native", "native"), ("plain", "plain lists"))
    for think in (True, False)
}
"""In whose words boxes are asked for, with and without thinking: a grid of six under the same rewards."""
ABLATIONS: dict[str, Experiment] = {
    "ablations": Experiment(
        title="Ablations of 4-shot detection of handwriting, 40 steps of 4 prompts",
        metrics=("AP", "AP50", "mean_iou"),
        domains={"handwriting": digits(most=4)},
        shots=(4,),
        config=SHORT_DETECTION,
        tries=RATES,
        variants={
            "unchanged": Variant({}, ("base", "rft", "sft")),
            "iou 1, confidence 1, format 1 (the method's)": Variant(
                {"task.weights": {"iou": 1.0, "confidence": 1.0, "format": 1.0}}
            ),
            "tau 0.75": Variant({"task.options.iou_threshold": 0.75}),
            "tau 0.5 to 0.75": Variant({"task.options.iou_threshold": {"from": 0.5, "to": 0.75}}),
            "no thinking": Variant({"task.think": False}, ("base", "rft")),
            **WORDS,
            "beta 0.04": Variant({"objective.beta": 0.04}),
            "G 4": Variant({"rollout.group_size": 4}),
            "vision tower trained": Variant({"model.freeze_vision": False}, ("rft", "sft")),
            "LoRA rank 16": Variant({"model.lora": {"rank": 16, "alpha": 32.0}}),
            "LoRA rank 16, learning rate 1e-3": Variant(
                {"model.lora": {"rank": 16, "alpha": 32.0}, "optimizer.learning_rate": 1e-3}
            ),
            "confidence (the method's), not confidence_brier": Variant(
                {"task.weights": {"iou_balanced": 2.0, "confidence": 0.5, "format": 0.5}}
            ),
            "iou (the method's), not iou_balanced": Variant(
                {"task.weights": {"iou": 2.0, "confidence_brier": 0.5, "format": 0.5}}
            ),
            "iou_soft": Variant({"task.weights": {"iou_soft": 2.0, "confidence_brier": 0.5, "format": 0.5}}),
            "1 update per rollout": Variant({"objective.updates_per_rollout": 1}),
            "token_mean": Variant({"objective.aggregation": "token_mean"}),
            "clip_high 0.4": Variant({"objective.clip_high": 0.4}),
            "tau 0.25": Variant({"task.options.iou_threshold": 0.25}),
            "G 16": Variant({"rollout.group_size": 16}),
            "120 steps": Variant({"run.steps": 120}, ("rft", "sft")),
            "15 moved copies of each scene": Variant({"data.train.0.copies": 15}, ("rft", "sft")),
        },
    ),
}
