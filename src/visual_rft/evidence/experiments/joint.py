"""Three tasks learned in one run, beside three runs of one each with a third of its prompts.

Decision: all four runs start from the same weights and are measured on the tests of all three tasks, so that what a
task gains from the others, or loses to them, stands in one row, and so does what a run of one task forgets of the
others. The budget is equal in prompts: the joint run has three times the steps, each of as many prompts.

>>> list(DOMAINS), DOMAINS["joint"].changes["run.steps"], DOMAINS["detection"].changes["run.steps"]
(['joint', 'detection', 'classification', 'grounding'], 240, 80)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visual_rft.evidence.experiments.budgets import BOX, BOXES, CLASSIFICATION, DETECTION
from visual_rft.evidence.experiments.description import Domain, Experiment

METRICS = ("detection/AP", "classification/top1_strict", "grounding/mean_iou")
"""The number of each task."""
STEPS = 80
"""Of a run of one task; the joint one has three times as many."""
TASKS: Mapping[str, Mapping[str, Any]] = {
    "detection": BOXES,
    "classification": CLASSIFICATION["task"],
    "grounding": BOX,
}


def _domain(task: str, train: Mapping[str, Any], seed: int, **test: Any) -> Domain:
    """One task; it is tested on 200 images, so that draws of images are of equally many."""

    def held_out(number: int) -> dict[str, Any]:
        return {**train, "count": 200, "task": TASKS[task], **test, "seed": number}

    return Domain(train={**train, "task": TASKS[task]}, validation=held_out(501), test=held_out(seed))


_ONE: Mapping[str, Domain] = {
    "detection": _domain("detection", {"source": "shapes", "count": 256, "max_objects": 1}, 1001),
    "classification": _domain("classification", {"source": "flowers", "count": 96}, 1002),
    "grounding": _domain("grounding", {"source": "shapes", "count": 256, "max_objects": 2}, 1003),
}


def _others(task: str) -> tuple[Domain, ...]:
    return tuple(domain for name, domain in _ONE.items() if name != task)


DOMAINS: Mapping[str, Domain] = {
    "joint": replace(
        _ONE["detection"],
        beside=_others("detection"),
        tested_beside=_others("detection"),
        changes={"run.steps": 3 * STEPS, "data.balance": "sources"},
    ),
    **{
        name: replace(domain, tested_beside=_others(name), changes={"run.steps": STEPS})
        for name, domain in _ONE.items()
    },
}

JOINT: dict[str, Experiment] = {
    "joint": Experiment(
        title="Three tasks in one run, beside a run of each",
        metrics=METRICS,
        domains=DOMAINS,
        shots=(None,),
        config={name: section for name, section in DETECTION.items() if name != "task"},  # each source has its own
        rates_of="few-shot-detection",
    ),
}
