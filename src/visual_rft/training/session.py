"""What both loops share: everything before the first step, after each step, and at the end.

Decision: the loops keep the method (what is sampled, scored and learned); this keeps the household (data, model,
optimiser, run folder, evaluation, checkpoints), so that reinforcement and its supervised baseline differ in the loss
and in nothing else.

    with Session.start(config, resume=False) as session:
        for step, batches in session.steps(): ...
        session.finish()
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor

from visual_rft.answering.predict import evaluation_line, predict
from visual_rft.config.config import Config
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError, VisualRFTError
from visual_rft.inspection.look import look_at_data, spread, warn
from visual_rft.policy.agreement import verify
from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.inputs import Inputs, Prompt
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.report.artefacts import write_artefacts
from visual_rft.report.health import HealthWatch
from visual_rft.tasks import Sample, Score, Task, task_of
from visual_rft.tasks.spaces import Answered, wrong_space_hint
from visual_rft.training.batches import batch_indices, prefetch
from visual_rft.training.checkpoint import load_trainer, save_checkpoint
from visual_rft.training.console import RunConsole
from visual_rft.training.optimizer import make_optimizer
from visual_rft.training.trackers import Trackers, make_accelerator
from visual_rft.training.tracking import RunFolder
from visual_rft.vision.coordinates import Frame

WATCHED = 256
"""Completions that are looked at for boxes in the wrong units."""
Batch = tuple[Sequence[Sample], Inputs]
"""The samples of a batch, and their prompts after the processor."""


@dataclass
class Session:
    """A run in progress.

    Attributes:
        config: the whole run.
        task: asks and scores.
        samples: training questions.
        held_out: evaluation questions.
        folder: where everything is written.
        policy: the model that learns.
        accelerator: the device, backward and gradient clipping.
        optimizer: over the trainable parameters.
        schedule: of the learning rate.
        first_step: steps already done when the session started.
        checkpoint: the newest checkpoint.
        console: says what happens.
        health: says what looks wrong.
        trackers: where metrics are sent besides the run folder.
        evaluation: the newest evaluation.
        evaluation_seconds: spent on evaluation so far.
        cpu_seconds: CPU time of this process in steps, without evaluations and checkpoints; what two methods cost can
            be compared by it on a busy machine.
        started: when the session started, seconds of ``time.monotonic``.
        answered: the first completions, for :meth:`watch_space`.
    """

    config: Config
    task: Task
    samples: Sequence[Sample]
    held_out: Sequence[Sample]
    folder: RunFolder
    policy: Policy
    accelerator: Accelerator
    optimizer: Any
    schedule: Any
    first_step: int
    checkpoint: Path | None
    console: RunConsole
    health: HealthWatch
    trackers: Trackers
    evaluation: dict[str, Any] = field(default_factory=dict)
    evaluation_seconds: float = 0.0
    cpu_seconds: float = 0.0
    _step_started: float = 0.0
    started: float = field(default_factory=time.monotonic)
    answered: list[Answered] = field(default_factory=list)

    @classmethod
    def start(cls, config: Config, *, resume: bool) -> Session:
        """Read data and model, then make (or reopen) the run folder: a mistake leaves no folder behind.

        Raises:
            VisualRFTError: if the config, data, model or run folder cannot be used.
        """
        prepare_process(config)
        folder = RunFolder(Path(config.run.folder))
        if resume:
            checkpoint = folder.resumable_checkpoint(config)
        else:
            folder.check_new()
            checkpoint = None
        accelerator = make_accelerator(config, folder.path)
        task = task_of(config.task)
        samples = load_samples(config.data.train, task)
        held_out = load_samples(config.data.evaluation, task)
        weights = checkpoint / "model" if checkpoint else None
        policy = load_policy(config.model, config.rollout, weights, engine=config.engine)
        warn(look_at_data(policy, task, samples))
        updates = config.run.steps * config.objective.updates_per_rollout
        optimizer, schedule = make_optimizer(policy.model, config.optimizer, updates)
        policy.model, optimizer = accelerator.prepare(policy.model, optimizer)
        policy.to(accelerator.device)
        first_step = load_trainer(checkpoint, optimizer, schedule) if checkpoint else 0
        if resume:
            folder.drop_from(first_step)
            folder.note_resumed(config, first_step)
        else:
            folder.create(config)
        try:
            session = cls(
                config, task, samples, held_out, folder, policy, accelerator, optimizer, schedule, first_step,
                checkpoint, RunConsole(config.run.steps, first_step), HealthWatch(config),
                Trackers(accelerator, config),
            )  # fmt: skip
            verify(policy, session.prepare(first_step * config.run.accumulation))
        except VisualRFTError:
            if not resume:
                folder.discard()
            raise
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.console.close()
        self.trackers.close()

    def chosen(self, number: int) -> list[Sample]:
        """The samples of batch ``number``."""
        loop = self.config.run
        return [self.samples[i] for i in batch_indices(number, len(self.samples), loop.prompts_per_batch, loop.seed)]

    def prepare(self, number: int) -> Inputs:
        """The prompts of batch ``number`` after the processor."""
        return self.policy.prepare([Prompt.of(self.task, s, self.policy.space) for s in self.chosen(number)])

    def steps(self) -> Iterator[tuple[int, Iterator[Batch]]]:
        """Each step that is left with its ``run.accumulation`` batches, prepared ahead; the base is evaluated first."""
        loop = self.config.run
        parameters = list(self.policy.model.parameters())
        self.console.say(
            f"{self.config.model.path}: {self.policy.config.model_type}, {_millions(parameters)} parameters, "
            f"{_millions([p for p in parameters if p.requires_grad])} of them trained, on {self.accelerator.device}, "
            f"{self.policy.path}. "
            f"Task {self.task.name}: {len(self.samples)} questions to train on, {len(self.held_out)} held out."
        )
        if self.first_step == 0 and loop.evaluate_base:
            self.evaluate(0)
        numbers = range(self.first_step * loop.accumulation, loop.steps * loop.accumulation)
        prepared = prefetch(self.prepare, numbers.start, numbers.stop, loop.workers)
        batches = ((self.chosen(number), inputs) for number, inputs in zip(numbers, prepared, strict=True))
        for step in range(self.first_step, loop.steps):
            self._step_started = time.process_time()
            yield step, islice(batches, loop.accumulation)

    def watch_space(
        self, samples: Sequence[Sample], frames: Sequence[Frame | None], texts: Sequence[Sequence[str]]
    ) -> None:
        """Look at the first answers: boxes that miss in the units they are read in, but meet in others, are a warning.

        Args:
            samples: of a batch.
            frames: units of each prompt.
            texts: the completions of each prompt.
        """
        if len(self.answered) >= WATCHED:
            return
        self.answered += [
            Answered(text, sample.truth, frame)
            for sample, frame, group in zip(samples, frames, texts, strict=True)
            for text in group
        ]
        if len(self.answered) >= WATCHED:
            hint = wrong_space_hint(self.task, self.answered)
            if hint is not None:
                self.console.warn(hint)

    def optimize(self) -> float:
        """One optimiser step on the accumulated gradients, clipped; returns their norm before clipping."""
        norm = self.accelerator.clip_grad_norm_(self.policy.model.parameters(), self.config.optimizer.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        return float(norm)

    def keep_rollouts(
        self,
        step: int,
        samples: Sequence[Sample],
        inputs: Inputs,
        completions: Completions,
        scores: Sequence[Sequence[Score]],
        advantages: Tensor,
    ) -> None:
        """Look at the completions of a batch, write them, and send a few annotated pictures to the trackers, where that
        is due."""
        self.watch_space(samples, inputs.frames, completions.text)
        loop = self.config.run
        if loop.rollouts_every and step % loop.rollouts_every == 0:
            self.folder.write_rollouts(step, samples, inputs, completions, scores, advantages)
        if loop.images_every and step % loop.images_every == 0:
            self.trackers.pictures(step, samples, scores)

    def after_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log the step, say what looks wrong, then evaluate and write a checkpoint where they are due."""
        self.cpu_seconds += time.process_time() - self._step_started
        loop, done = self.config.run, step + 1
        self.folder.append_metrics(metrics)
        self.trackers.metrics(step, metrics)
        self.console.step(metrics)
        for warning in self.health.new(metrics):
            self.console.warn(f"step {done}: {warning}")
        if done == loop.steps or (loop.evaluate_every and done % loop.evaluate_every == 0):
            self.evaluate(done)
        if done == loop.steps or (loop.checkpoint_every and done % loop.checkpoint_every == 0):
            self.checkpoint = save_checkpoint(self.folder, self.policy, self.optimizer, self.schedule, done)

    def evaluate(self, done: int) -> None:
        """Answer the held-out questions after ``done`` steps and write what the answers are worth."""
        start = time.monotonic()
        predictions = predict(self.policy, self.task, self.held_out)
        self.evaluation = self.task.metrics(predictions)
        kept = [predictions[i] for i in spread(len(predictions), self.config.run.evaluation_examples)]
        asked = {p.sample.id: self.task.prompt(p.sample.question, self.policy.space) for p in kept}
        self.folder.write_evaluation(done, self.evaluation, asked, kept)
        self.trackers.metrics(done, {f"evaluation/{name}": value for name, value in self.evaluation.items()})
        when = f"after {done} steps" if done else "before the first step"
        self.console.say(f"evaluation {when} | {evaluation_line(self.task, self.evaluation)}")
        self.evaluation_seconds += time.monotonic() - start

    def finish(self) -> dict[str, Any]:
        """Write ``summary.json``, the plots and the report; returns the summary.

        ``base`` is the evaluation before the first step (if there was one), ``evaluation`` the last; ``checkpoint`` is
        the newest.
        """
        model, total = self.policy.model, time.monotonic() - self.started
        summary = {
            **self._base(),
            "evaluation": self.evaluation,
            "seconds": {
                "train": total - self.evaluation_seconds,
                "evaluation": self.evaluation_seconds,
                "total": total,
            },
            "steps": self.config.run.steps,
            "checkpoint": str(self.checkpoint),
            "model": {
                "path": self.config.model.path,
                "type": self.policy.config.model_type,
                "parameters": sum(p.numel() for p in model.parameters()),
            },
        }
        self.folder.write_json("summary.json", summary)
        for problem in write_artefacts(self.folder.path):
            self.console.warn(problem)
        return summary

    def _base(self) -> dict[str, Any]:
        file = self.folder.path / "evaluation" / "step-000000.json"
        if not file.is_file():
            return {}
        written = json.loads(file.read_bytes())
        return {"base": {name: value for name, value in written.items() if name not in ("step", "examples")}}


def _millions(parameters: Sequence[Tensor]) -> str:
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} M"


def prepare_process(config: Config) -> None:
    """Threads and the seed of everything random outside the loop (the start of a LoRA adapter).

    Raises:
        ConfigError: if a launcher started more than one process. The policy is called outside its wrapper's
            ``forward``, which would silently leave the gradients of the processes apart.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"this was launched as {os.environ['WORLD_SIZE']} processes, but training on several is not supported "
            "yet: gradients would silently stay apart; launch one process"
        )
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.manual_seed(config.run.seed)
