"""What both loops share: everything before the first step, after each step, and at the end.

Decision: the loops keep the method (what is sampled, scored and learned); this keeps the household (data, model,
optimiser, run folder, evaluation, checkpoints), so that reinforcement and its supervised baseline differ in the loss
and in nothing else.

    session = Session.start(config, resume=False)
    for step, batches in session.steps(): ...
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from visual_rft.config import Config
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError
from visual_rft.evaluation.look import look_at_data, warn
from visual_rft.evaluation.predict import evaluation_line, predict
from visual_rft.policy.agreement import verify
from visual_rft.policy.inputs import Inputs, Prompt
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.tasks import Detection, Grounding, Sample, Task, task_of
from visual_rft.tasks.spaces import Answered, wrong_space_hint
from visual_rft.training.batches import batch_indices, prefetch
from visual_rft.training.checkpoint import load_trainer, save_checkpoint
from visual_rft.training.optimizer import make_optimizer
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
        evaluation: the newest evaluation.
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
    evaluation: dict[str, Any] = field(default_factory=dict)
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
        task = task_of(config.task)
        samples = load_samples(config.data.train, task)
        held_out = load_samples(config.data.evaluation, task)
        weights = checkpoint / "model" if checkpoint else None
        policy = load_policy(config.model, config.rollout, weights, engine=config.engine)
        warn(look_at_data(policy, task, samples))
        updates = config.run.steps * config.objective.updates_per_rollout
        optimizer, schedule = make_optimizer(policy.model, config.optimizer, updates)
        accelerator = Accelerator(cpu=not torch.cuda.is_available())
        policy.model, optimizer = accelerator.prepare(policy.model, optimizer)
        policy.to(accelerator.device)
        first_step = load_trainer(checkpoint, optimizer, schedule) if checkpoint else 0
        if resume:
            folder.drop_from(first_step)
        else:
            folder.create(config)
        session = cls(
            config, task, samples, held_out, folder, policy, accelerator, optimizer, schedule, first_step, checkpoint
        )
        verify(policy, session.prepare(first_step * config.run.accumulation))
        return session

    def chosen(self, number: int) -> list[Sample]:
        """The samples of batch ``number``."""
        loop = self.config.run
        return [self.samples[i] for i in batch_indices(number, len(self.samples), loop.prompts_per_batch, loop.seed)]

    def prepare(self, number: int) -> Inputs:
        """The prompts of batch ``number`` after the processor."""
        return self.policy.prepare([Prompt.of(self.task, s, self.policy.space) for s in self.chosen(number)])

    def steps(self) -> Iterator[tuple[int, Iterator[Batch]]]:
        """Each step that is left with its ``run.accumulation`` batches, prepared ahead."""
        loop = self.config.run
        numbers = range(self.first_step * loop.accumulation, loop.steps * loop.accumulation)
        prepared = prefetch(self.prepare, numbers.start, numbers.stop, loop.workers)
        batches = ((self.chosen(number), inputs) for number, inputs in zip(numbers, prepared, strict=True))
        for step in range(self.first_step, loop.steps):
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
        if len(self.answered) >= WATCHED and isinstance(self.task, (Detection, Grounding)):
            hint = wrong_space_hint(self.task, self.answered)
            warn([hint] if hint else [])

    def optimize(self) -> float:
        """One optimiser step on the accumulated gradients, clipped; returns their norm before clipping."""
        norm = self.accelerator.clip_grad_norm_(self.policy.model.parameters(), self.config.optimizer.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        return float(norm)

    def after_step(self, step: int) -> None:
        """Evaluate and write a checkpoint where they are due."""
        loop, done = self.config.run, step + 1
        if done == loop.steps or (loop.evaluate_every and done % loop.evaluate_every == 0):
            self.evaluation = self.task.metrics(predict(self.policy, self.task, self.held_out))
            self.folder.write_json(f"evaluation/step-{done:06d}.json", self.evaluation)
            print(f"evaluation after {done} steps | {evaluation_line(self.task, self.evaluation)}", flush=True)
        if done == loop.steps or (loop.checkpoint_every and done % loop.checkpoint_every == 0):
            self.checkpoint = save_checkpoint(self.folder, self.policy, self.optimizer, self.schedule, done)

    def finish(self) -> dict[str, Any]:
        """Write and return ``summary.json``: the last evaluation, seconds, steps and the newest checkpoint."""
        summary = {
            "evaluation": self.evaluation,
            "seconds": {"train": time.monotonic() - self.started},
            "steps": self.config.run.steps,
            "checkpoint": str(self.checkpoint),
        }
        self.folder.write_json("summary.json", summary)
        return summary


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
