"""The household of a run: folder, console, trackers, warnings, evaluations and checkpoints.

Decision: whatever a run says, keeps or measures besides learning stands behind this one object, whose methods are
called in the order of a run's day, so that a loop holds the method and nothing else.

    household = Household.open(config, task, held_out, learner, folder, steps_done=0, clock=Clock())
    household.begin(trained_on=64, evaluate=True)
    household.keep_rollouts(step, rollouts)
    household.end_step(step, metrics)
    summary = household.end()
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from visual_rft.answering.predict import evaluation_line, predict
from visual_rft.config.config import Config
from visual_rft.inspection.look import spread
from visual_rft.report.artefacts import write_artefacts
from visual_rft.report.health import HealthWatch
from visual_rft.tasks import Sample, Task
from visual_rft.tasks.spaces import SpaceWatch
from visual_rft.training.console import RunConsole
from visual_rft.training.learner import Learner
from visual_rft.training.metrics import Rollouts
from visual_rft.training.trackers import Trackers
from visual_rft.training.tracking import RunFolder


@dataclass
class Clock:
    """Where the time of a run goes.

    Attributes:
        started: when the session started, seconds of ``time.monotonic``.
        evaluation: seconds spent on evaluation.
        cpu: CPU seconds of this process in steps, without evaluations and checkpoints; what two methods cost can be
            compared by it on a busy machine.
    """

    started: float = field(default_factory=time.monotonic)
    evaluation: float = 0.0
    cpu: float = 0.0
    _step_started: float = 0.0

    def start_step(self) -> None:
        """A step begins."""
        self._step_started = time.process_time()

    def end_step(self) -> None:
        """The step has been learned from; what follows is not counted as its cost."""
        self.cpu += time.process_time() - self._step_started

    def seconds(self) -> dict[str, float]:
        """Seconds of training, of evaluation, and of both."""
        total = time.monotonic() - self.started
        return {"train": total - self.evaluation, "evaluation": self.evaluation, "total": total}


@dataclass
class Household:
    """What a run says, keeps and measures.

    Attributes:
        config: the whole run.
        task: asks and scores.
        held_out: evaluation questions.
        learner: whose policy is evaluated and saved.
        folder: where everything is written.
        console: says what happens.
        health: says what looks wrong.
        space: looks for boxes in the wrong units.
        trackers: where metrics are sent besides the run folder.
        clock: where the time goes.
        evaluation: the newest evaluation.
        checkpoint: the newest checkpoint of this session.
    """

    config: Config
    task: Task
    held_out: Sequence[Sample]
    learner: Learner
    folder: RunFolder
    console: RunConsole
    health: HealthWatch
    space: SpaceWatch
    trackers: Trackers
    clock: Clock = field(default_factory=Clock)
    evaluation: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None

    @classmethod
    def open(
        cls,
        config: Config,
        task: Task,
        held_out: Sequence[Sample],
        learner: Learner,
        folder: RunFolder,
        *,
        steps_done: int,
        clock: Clock,
    ) -> Household:
        """Start the console, the watches and the trackers.

        Args:
            config: the whole run.
            task: asks and scores.
            held_out: evaluation questions.
            learner: whose policy is evaluated and saved.
            folder: of the run, made already.
            steps_done: steps that the run has behind it.
            clock: started when the session did.

        Raises:
            ConfigError: if a tracker does not start.
        """
        return cls(
            config=config,
            task=task,
            held_out=held_out,
            learner=learner,
            folder=folder,
            console=RunConsole(config.run.steps, steps_done),
            health=HealthWatch(config),
            space=SpaceWatch(task),
            trackers=Trackers(learner.accelerator, config),
            clock=clock,
        )

    def begin(self, trained_on: int, *, evaluate: bool) -> None:
        """Say what the run is, and evaluate the base where that is asked for.

        Args:
            trained_on: number of training questions.
            evaluate: whether the policy is evaluated before the first step.
        """
        policy = self.learner.policy
        parameters = list(policy.model.parameters())
        self.console.say(
            f"{self.config.model.path}: {policy.config.model_type}, {_millions(parameters)} parameters, "
            f"{_millions([p for p in parameters if p.requires_grad])} of them trained, on {self.learner.device}, "
            f"{policy.path}. "
            f"Task {self.task.name}: {trained_on} questions to train on, {len(self.held_out)} held out."
        )
        if evaluate:
            self.evaluate(0)

    def keep_rollouts(self, step: int, rollouts: Rollouts) -> None:
        """Look at the completions of a batch, write them, and send a few annotated pictures to the trackers, where that
        is due."""
        hint = self.space.look(rollouts.samples, rollouts.inputs.frames, rollouts.completions.text)
        if hint is not None:
            self.console.warn(hint)
        loop = self.config.run
        if loop.rollouts_every and step % loop.rollouts_every == 0:
            self.folder.write_rollouts(step, rollouts)
        if loop.images_every and step % loop.images_every == 0:
            self.trackers.pictures(step, rollouts.samples, rollouts.scores)

    def end_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log the step, say what looks wrong, then evaluate and write a checkpoint where they are due."""
        self.clock.end_step()
        loop, done = self.config.run, step + 1
        self.folder.append_metrics(metrics)
        self.trackers.metrics(step, metrics)
        self.console.step(metrics)
        for warning in self.health.new(metrics):
            self.console.warn(f"step {done}: {warning}")
        if done == loop.steps or (loop.evaluate_every and done % loop.evaluate_every == 0):
            self.evaluate(done)
        if done == loop.steps or (loop.checkpoint_every and done % loop.checkpoint_every == 0):
            self.checkpoint = self.learner.save(self.folder, done)

    def evaluate(self, done: int) -> None:
        """Answer the held-out questions after ``done`` steps and write what the answers are worth."""
        start = time.monotonic()
        policy = self.learner.policy
        predictions = predict(policy, self.task, self.held_out)
        self.evaluation = self.task.metrics(predictions)
        kept = [predictions[i] for i in spread(len(predictions), self.config.run.evaluation_examples)]
        prompts = {p.sample.id: self.task.prompt(p.sample.question, policy.space) for p in kept}
        self.folder.write_evaluation(done, self.evaluation, prompts, kept)
        self.trackers.metrics(done, {f"evaluation/{name}": value for name, value in self.evaluation.items()})
        when = f"after {done} steps" if done else "before the first step"
        self.console.say(f"evaluation {when} | {evaluation_line(self.task, self.evaluation)}")
        self.clock.evaluation += time.monotonic() - start

    def end(self) -> dict[str, Any]:
        """Write ``summary.json``, the plots and the report; returns the summary.

        ``base`` is the evaluation before the first step (if there was one), ``evaluation`` the last; ``checkpoint`` is
        the newest.
        """
        policy = self.learner.policy
        summary = {
            **self._base(),
            "evaluation": self.evaluation,
            "seconds": self.clock.seconds(),
            "steps": self.config.run.steps,
            "checkpoint": str(self.checkpoint),
            "model": {
                "path": self.config.model.path,
                "type": policy.config.model_type,
                "parameters": sum(p.numel() for p in policy.model.parameters()),
            },
        }
        self.folder.write_json("summary.json", summary)
        for problem in write_artefacts(self.folder.path):
            self.console.warn(problem)
        return summary

    def close(self) -> None:
        """Give the terminal back and let the trackers finish."""
        self.console.close()
        self.trackers.close()

    def _base(self) -> dict[str, Any]:
        file = self.folder.path / "evaluation" / "step-000000.json"
        if not file.is_file():
            return {}
        written = json.loads(file.read_bytes())
        return {"base": {name: value for name, value in written.items() if name not in ("step", "examples")}}


def _millions(parameters: Sequence[Tensor]) -> str:
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} M"
