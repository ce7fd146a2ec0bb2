"""The household of a run: folder, console, trackers, warnings, evaluations and checkpoints.

Decision: whatever a run says, keeps or measures besides learning stands behind this one object, whose methods are
called in the order of a run's day, so that a loop holds the method and nothing else.

    household = Household.open(config, task, held_out, learner, folder, lock, steps_done=0, clock=Clock())
    household.begin(trained_on=64)
    household.keep_rollouts(step, rollouts)
    household.end_step(step, metrics)
    summary = household.end()
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visual_rft.answering.predict import evaluation_line
from visual_rft.config.config import Config
from visual_rft.errors import RunFolderError, RunStopped
from visual_rft.parallel.meetings import by_first, check_equal, gather
from visual_rft.parallel.processes import here
from visual_rft.policy.stored.checkpoints import best_of
from visual_rft.report.artefacts import write_artefacts
from visual_rft.report.health import HealthWatch
from visual_rft.tasks import Sample, Tasks
from visual_rft.tasks.mixture import numbers_of
from visual_rft.tasks.spaces import SpaceWatch
from visual_rft.training.learner import Learner
from visual_rft.training.metrics import Clock, Rollouts
from visual_rft.training.run.best import best_checkpoint, out_of_patience, standing
from visual_rft.training.run.checkpoint import prune_checkpoints
from visual_rft.training.run.console import RunConsole
from visual_rft.training.run.evaluating import answered, write_evaluation
from visual_rft.training.run.folder import RunFolder
from visual_rft.training.run.limits import Limits
from visual_rft.training.run.lock import RunLock
from visual_rft.training.run.stopping import StopWatch
from visual_rft.training.run.trackers import Trackers


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
        lock: keeps other runs out of the folder; held by the first process alone.
        limits: ends a run that left out or skipped too much.
        stop: remembers that the run was asked to stop.
        steps_done: when the session started.
        clock: where the time goes.
        evaluation: the newest evaluation.
        checkpoint: the newest checkpoint of this session.
        rows: what this process sampled in the step that goes on, a list of lines per batch.
        done: steps.
        ended: why the run ended before its last step; None if it did not.
    """

    config: Config
    task: Tasks
    held_out: Sequence[Sample]
    learner: Learner
    folder: RunFolder
    console: RunConsole
    health: HealthWatch
    space: SpaceWatch
    trackers: Trackers
    lock: RunLock | None
    limits: Limits
    stop: StopWatch
    steps_done: int
    clock: Clock
    evaluation: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    rows: list[list[dict[str, Any]]] = field(default_factory=list)
    done: int = 0
    ended: str | None = None

    @classmethod
    def open(
        cls,
        config: Config,
        task: Tasks,
        held_out: Sequence[Sample],
        learner: Learner,
        folder: RunFolder,
        lock: RunLock | None,
        steps_done: int,
        clock: Clock,
    ) -> Household:
        """Start the console, the watches and the trackers; the arguments are attributes of the same name.

        Raises:
            ConfigError: if a tracker does not start.
        """
        console = RunConsole(config.run.steps, steps_done)
        return cls(
            config=config,
            task=task,
            held_out=held_out,
            learner=learner,
            folder=folder,
            console=console,
            health=HealthWatch(config),
            space=SpaceWatch(task),
            trackers=Trackers(learner.accelerator, config, steps_done),
            lock=lock,
            limits=Limits(config, console.warn),
            stop=StopWatch(config.run),
            steps_done=steps_done,
            clock=clock,
            done=steps_done,
        )

    def begin(self, trained_on: int) -> None:
        """Say what the run is, and make the evaluation that is due before the next step and not there yet.

        Args:
            trained_on: number of training questions.

        Raises:
            RunStopped: if the run was asked to stop meanwhile.
        """
        self.console.say(
            f"{self.config.model.path}: {self.learner.summary}. "
            f"Task {self.task.name}: {trained_on} questions to train on, {len(self.held_out)} held out."
        )
        done = self.steps_done
        if done and self._evaluation_due(done):
            self.evaluation = by_first(lambda: self.folder.evaluation(done), "the evaluation before")
        if not self.evaluation and (self._evaluation_due(done) if done else self.config.run.evaluate_base):
            self.evaluate(done)
        self._is_best(done)
        self.stop_if_asked(done)

    def keep_rollouts(self, step: int, rollouts: Rollouts) -> None:
        """Look at the completions of a batch, keep them for the end of the step, and send a few annotated pictures to
        the trackers, where that is due."""
        hint = self.space.look(rollouts.samples, rollouts.inputs.frames, rollouts.completions.text)
        if hint is not None:
            self.console.warn(hint)
        loop = self.config.run
        if loop.rollouts_every and step % loop.rollouts_every == 0:
            self.rows.append(self.folder.rollout_rows(step, rollouts))
        if loop.images_every and step % loop.images_every == 0:
            self.trackers.pictures(step + 1, rollouts.samples, rollouts.scores)

    def end_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log the step, say what looks wrong, then evaluate and write a checkpoint where they are due.

        Args:
            step: number of the step.
            metrics: numbers of all processes.

        Raises:
            ModelError: if too many steps in a row had to be skipped.
            RunFolderError: if a checkpoint cannot be written that has to be.
        """
        self.clock.end_step()
        loop, done = self.config.run, step + 1
        self.done = done
        self._write_rollouts(step)
        if here().first:
            self.folder.append_metrics(metrics)
            self.trackers.metrics(done, metrics)
            self.console.step(metrics)
            for warning in self.health.new(metrics):
                self.console.warn(f"step {done}: {warning}")
        self.limits.count_skipped(done, metrics["grad_norm"], self.checkpoint)
        best = False
        if self._evaluation_due(done):
            self.evaluate(done)
            best = self._is_best(done)
        last = done == loop.steps or self.ended is not None
        if best or last or (loop.checkpoint_every and done % loop.checkpoint_every == 0):
            self.save(done, needed=last)

    def leave_out(self, questions: Mapping[str, str]) -> None:
        """Name the training questions that cannot be used, by id with the reason.

        Raises:
            DataError: if there are too many.
        """
        self.limits.leave_out(questions, self.checkpoint)

    def stop_if_asked(self, done: int) -> None:
        """Write a checkpoint and stop, if somebody asked any of the processes for it and there are steps left.

        Raises:
            RunStopped: then.
            RunFolderError: if the checkpoint cannot be written.
        """
        asked = next((told for told in gather(self.stop.asked, "whether to stop") if told is not None), None)
        if asked is None or done >= self.config.run.steps:
            return
        kept = "nothing was trained yet"
        if done > self.steps_done:
            self.save(done, needed=True)
            kept = f"{self.checkpoint} is written"
        raise RunStopped(
            f"stopped by {asked.why} after {done} of {self.config.run.steps} steps; {kept}; continue with --resume",
            asked.exit_code,
        )

    def save(self, done: int, *, needed: bool = False) -> None:
        """Write a checkpoint after ``done`` steps, and delete those that are not to be kept.

        Args:
            done: steps.
            needed: whether the run cannot go on, or end, without it.

        Raises:
            RunFolderError: if it is needed, or ``run.checkpoint_failure`` is ``stop``, and it cannot be written.
        """
        loop = self.config.run
        if self.checkpoint is not None and self.checkpoint.name == f"step-{done:06d}":
            return
        check_equal(self.learner.trained, "the weights")
        try:
            self.checkpoint = self.learner.save(self.folder, done)
        except RunFolderError as error:
            if needed or loop.checkpoint_failure == "stop":
                raise
            self.console.warn(f"{error}; going on to the next one")
            return
        if here().first:
            best = best_of(self.folder.path, loop.best) if loop.best else None
            kept = best.checkpoint if best else None
            prune_checkpoints(self.folder.checkpoints(), loop.checkpoint_keep, kept, self.console.warn)

    def _evaluation_due(self, done: int) -> bool:
        loop = self.config.run
        return done == loop.steps or bool(loop.evaluate_every and done % loop.evaluate_every == 0)

    def evaluate(self, done: int) -> None:
        """Answer the held-out questions after ``done`` steps and write what the answers are worth.

        If the run is asked to stop meanwhile, nothing is written, and the evaluation is made when it goes on.
        """
        start = time.monotonic()
        policy = self.learner.policy
        predictions = answered(policy, self.task, self.held_out, self.stop, self.console.say)
        if predictions is None:
            return
        self.evaluation = numbers_of(self.task, predictions)
        if here().first:
            write_evaluation(self.folder, self.config.run, self.task, policy.space, done, self.evaluation, predictions)
            self.trackers.metrics(done, {f"evaluation/{name}": value for name, value in self.evaluation.items()})
            when = f"after {done} steps" if done else "before the first step"
            self.console.say(f"evaluation {when} | {evaluation_line(self.task, self.evaluation)}")
        self.clock.evaluation += time.monotonic() - start

    def is_over(self) -> bool:
        """Whether the run has ended before its last step."""
        return self.ended is not None

    def _is_best(self, done: int) -> bool:
        """Whether the evaluation after ``done`` steps is the best so far; where that is too long ago, the run ends."""
        loop = self.config.run
        if loop.best is None:
            return False
        metric = loop.best
        found = by_first(lambda: standing(self.folder.path, metric), "the best evaluation")
        self.ended = out_of_patience(loop, found, done)
        if self.ended is not None and here().first:
            self.console.say(f"ended {self.ended}")
        return found is not None and found.step == done

    def _write_rollouts(self, step: int) -> None:
        """Write the completions of all processes, batch after batch."""
        rows, self.rows = self.rows, []
        loop = self.config.run
        if not loop.rollouts_every or step % loop.rollouts_every != 0:
            return
        parts = gather(rows, "the completions")
        if here().first:
            for batch in zip(*parts, strict=True):
                self.folder.write_rollouts(step, [row for part in batch for row in part])

    def end(self) -> dict[str, Any]:
        """Write ``summary.json``, the plots and the report; returns the summary, {} in all but the first process.

        ``base`` is the evaluation before the first step (if there was one), ``evaluation`` the last; ``checkpoint`` is
        the newest, ``best`` the one with the best ``run.best``, and ``ended`` says why there were fewer steps.
        """
        if not here().first:
            return {}
        policy = self.learner.policy
        base = self.folder.evaluation(0)
        summary = {
            **({"base": base} if base else {}),
            "evaluation": self.evaluation,
            "seconds": self.clock.seconds(),
            "steps": self.done,
            **({"ended": self.ended} if self.ended else {}),
            **best_checkpoint(self.folder.path, self.config.run.best),
            "steps_skipped": self.folder.steps_skipped(),
            "questions_left_out": len(self.limits.left_out),
            "checkpoint": str(self.checkpoint or next(reversed(self.folder.checkpoints()), None)),
            "model": {
                "path": self.config.model.path,
                "type": policy.model_config.model_type,
                "parameters": sum(p.numel() for p in policy.model.parameters()),
            },
        }
        self.folder.write_json("summary.json", summary)
        for problem in write_artefacts(self.folder.path):
            self.console.warn(problem)
        return summary

    def close(self) -> None:
        """Give the terminal back, let the trackers finish, and let go of the folder."""
        try:
            self.console.close()
            self.trackers.close()  # over the network, where much can go wrong
        finally:
            if self.lock is not None:
                self.lock.release()
