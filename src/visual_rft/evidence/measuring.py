"""The numbers of a trained model on what an experiment holds out, with draws for intervals.

Decision: draws of equally many images are the same whichever the model, so that models are compared image by image.

    numbers, draws, images = evaluate(policy, config, ("AP", "mean_iou"))
    np.quantile(draws["AP"], (0.025, 0.975))
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from visual_rft.answering.answering import BATCH, answer
from visual_rft.answering.local import LocalModel
from visual_rft.answering.predict import scored
from visual_rft.answering.questions import group_by_image
from visual_rft.config.config import Config
from visual_rft.data.sources import load_samples
from visual_rft.evaluation.calibration import KINDS, measure_ranks
from visual_rft.evaluation.measures import Measured, measure, measure_detection
from visual_rft.evaluation.resampling import Floats, bootstrap
from visual_rft.evidence.ranking import RANKINGS
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import task_for
from visual_rft.tasks import Detection
from visual_rft.tasks.metrics.detection import asked_data_set


def evaluate(policy: Policy, config: Config, metrics: Sequence[str]) -> tuple[dict[str, float], dict[str, Floats], int]:
    """Numbers of a model on ``config.data.evaluation`` by name, the same on every draw of images, and how many images.

    Args:
        policy: the model.
        config: its held-out questions; those of several tasks are of equally many images each.
        metrics: names of the numbers; of several tasks they begin with that of the task (``grounding/mean_iou``).
    """
    numbers: dict[str, Any] = {}
    draws: dict[str, Floats] = {}
    images = 0
    parts = {called: part for called in config.tasks if (part := config.of_task(called)).data.evaluation}
    for called, part in parts.items():
        prefix = f"{called}/" if len(parts) > 1 else ""
        found, drawn, images = _of_one_task(policy, part, {name.removeprefix(prefix) for name in metrics})
        numbers |= {f"{prefix}{name}": value for name, value in found.items()}
        draws |= {f"{prefix}{name}": values for name, values in drawn.items()}
    return {name: float(numbers[name]) for name in metrics}, {name: draws[name] for name in metrics}, images


_Drawn = tuple[dict[str, Any], dict[str, Floats], int]


def _of_one_task(policy: Policy, config: Config, asked: Collection[str]) -> _Drawn:
    task = task_for(config)
    rows = answer(LocalModel(policy), task, group_by_image(load_samples(config.data.evaluation, task)), BATCH)
    if task.scores == "asked":  # which brings the other two along
        return _drawn(measure_ranks({k: [scored(replace(task, scores=k), row.answers) for row in rows] for k in KINDS}))
    predictions = [scored(task, row.answers) for row in rows]
    if not isinstance(task, Detection):
        return _drawn(measure(task, predictions))
    truth, found = asked_data_set([p for row in predictions for p in row])
    numbers, draws, images = _drawn(measure_detection(task, truth, found, predictions))
    for name in RANKINGS:
        if name in asked:
            other, drawn, _ = _drawn(measure_detection(task, truth, RANKINGS[name](truth, found), predictions))
            numbers[name], draws[name] = other["AP"], drawn["AP"]
    return numbers, draws, images


def _drawn(measured: Measured) -> _Drawn:
    return dict(measured.numbers), dict(bootstrap(measured.statistic, measured.images)), measured.images
