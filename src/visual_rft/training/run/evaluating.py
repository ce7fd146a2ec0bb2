"""An evaluation within a run: the held-out questions answered, and what the run keeps of it.

Decision: apart from the household, because every process answers its share and only the first one writes.

    predictions = answered(policy, task, held_out, stop, console.say)      # None: the run was asked to stop meanwhile
    write_evaluation(folder, config.run, task, policy.space, done, numbers_of(task, predictions), predictions)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visual_rft.answering.answering import AskedToStop
from visual_rft.answering.local import LocalModel
from visual_rft.answering.predict import predict
from visual_rft.answering.questions import group_by_image
from visual_rft.config.loop import LoopConfig
from visual_rft.inspection.look import spread
from visual_rft.policy.policy import Policy
from visual_rft.tasks import Sample, Tasks
from visual_rft.tasks.samples import Prediction
from visual_rft.terminal.progress import Ticker
from visual_rft.training.run.folder import RunFolder
from visual_rft.training.run.stopping import StopWatch
from visual_rft.vision.coordinates import CoordinateSpace


def answered(
    policy: Policy, task: Tasks, held_out: Sequence[Sample], stop: StopWatch, say: Callable[[str], None]
) -> list[Prediction] | None:
    """The answers in the order of the questions; None in every process if one of them was asked to stop.

    Args:
        policy: answers.
        task: asks and scores.
        held_out: the questions.
        stop: knows whether the run was asked to stop.
        say: told now and then how far it is.
    """
    images = sum(len(group_by_image(s for s in held_out if task.of(s) is one)) for one in task.each.values())
    with Ticker(images, "evaluating", say=say) as ticker:

        def go_on(images: int) -> None:
            if stop.asked is not None:
                raise AskedToStop
            ticker.update(images)

        try:
            return predict(LocalModel(policy), task, held_out, progress=go_on)
        except AskedToStop:
            return None


def write_evaluation(
    folder: RunFolder,
    loop: LoopConfig,
    task: Tasks,
    space: CoordinateSpace,
    done: int,
    numbers: Mapping[str, Any],
    predictions: Sequence[Prediction],
) -> None:
    """Write the numbers after ``done`` steps, the fixed examples and the answers that are kept.

    Args:
        folder: of the run.
        loop: how many of both.
        task: words the questions.
        space: units of the boxes that are asked for.
        done: steps.
        numbers: of all answers.
        predictions: the answers.
    """
    kept = [predictions[i] for i in spread(len(predictions), loop.evaluation_examples)]
    looked_at = [predictions[i] for i in spread(len(predictions), loop.evaluation_answers)]
    prompts = {p.sample.id: task.of(p.sample).worded(p.sample.question, space) for p in [*kept, *looked_at]}
    if looked_at:
        folder.write_answers(done, prompts, looked_at)
    folder.write_evaluation(done, numbers, prompts, kept)
