"""What both loops share: the questions, the learner, and the household, from the first step to the last.

Decision: the loops keep the method (what is sampled, scored and learned). This joins the two things that change for
different reasons, the learning state (``learner.py``) and the household of the run (``household.py``), and hands out
the batches, so that reinforcement and its supervised baseline differ in the loss and in nothing else.

    with Session.start(config, resume=False) as session:
        for step, batches in session.steps(): ...
        session.household.end()
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch

from visual_rft.config.config import Config
from visual_rft.data.leakage import find_leakage
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError, RunFolderError, ServerError
from visual_rft.policy.agreement import verify
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.loading import load_policy, sampling_of
from visual_rft.policy.stored.places import base_of
from visual_rft.samplers.interface import OwnSampler, Sampler
from visual_rft.samplers.making import sampler_of
from visual_rft.tasks import Sample, Task, task_of
from visual_rft.terminal.notes import warn
from visual_rft.training.batches import prefetch
from visual_rft.training.household import Household
from visual_rft.training.learner import Learner
from visual_rft.training.metrics import BatchResult, Clock
from visual_rft.training.prompts.drawing import Drawing
from visual_rft.training.run.checkpoint import newest_whole
from visual_rft.training.run.continuing import changed_since, continued
from visual_rft.training.run.folder import RunFolder
from visual_rft.training.run.lock import RunLock
from visual_rft.training.run.trackers import make_accelerator
from visual_rft.training.usable import Batch, leaves_out, look, prepared, usable


class Questions(NamedTuple):
    """Some questions of a step.

    Attributes:
        samples: B questions.
        inputs: their prompts after the processor.
        draws: the random numbers of their completions.
    """

    samples: Sequence[Sample]
    inputs: Inputs
    draws: Draws


Others = Callable[[int], Questions | None]
"""Gives so many other questions of a step, fewer where there are not so many, None where there are none."""


@dataclass
class Session:
    """A run in progress.

    Attributes:
        config: the whole run.
        task: asks and scores.
        samples: training questions.
        learner: the policy and what changes its weights.
        household: what the run says, keeps and measures.
        drawing: which questions a step asks.
        sampler: draws completions.
        first_step: steps already done when the session started.
        resumed_from: the checkpoint that the session went on from; None if it began at the base.
        done: steps that are done.
    """

    config: Config
    task: Task
    samples: Sequence[Sample]
    learner: Learner
    household: Household
    drawing: Drawing
    sampler: Sampler
    first_step: int
    resumed_from: Path | None
    done: int = 0

    @classmethod
    def start(cls, config: Config, *, resume: bool, anyway: bool = False, samples_itself: bool = False) -> Session:
        """Read data and model, then make (or reopen) the run folder: a mistake leaves no folder behind.

        Args:
            config: the whole run.
            resume: continue the run in ``config.run.folder``.
            anyway: continue also where the data are not what they were.
            samples_itself: whether servers are left alone, whatever the config says of them.

        Raises:
            VisualRFTError: if the config, data, model, servers or run folder cannot be used.
        """
        clock = Clock()
        prepare_process(config)
        folder = RunFolder(Path(config.run.folder))
        with ExitStack() as undo:  # whatever fails from here on lets go of the lock and deletes a new folder
            # The folder is only looked at: what cannot be made or resumed is known before anything is read.
            checkpoint = None
            if resume:
                config = continued(folder.path, config)
                lock = undo.enter_context(RunLock.take(folder.path))
                _compare(folder, config, anyway)
                checkpoint = newest_whole(folder.checkpoints(), lambda text: warn([text]))
            else:
                folder.check_new()
                config = config.with_model(path=base_of(config.model.path))
            accelerator = make_accelerator(config, folder.path)
            # Data and model.
            task = task_of(config.task)
            samples = load_samples(config.data.train, task)
            held_out = load_samples(config.data.evaluation, task)
            weights = checkpoint / "model" if checkpoint else None
            policy = load_policy(config.model, config.rollout, weights, engine=config.engine)
            skips = leaves_out(config.data.train)
            samples = usable(policy, task, samples, skips)
            held_out = usable(policy, task, held_out, leaves_out(config.data.evaluation))
            look(policy, task, samples, skips)
            _try_rewards(task, prepared(policy, task, samples, [0], skips))
            learner = Learner.of(policy, config, accelerator)
            first_step = learner.restore(checkpoint) if checkpoint else 0
            sampler = OwnSampler(policy) if samples_itself else sampler_of(policy, config, folder.path)
            undo.callback(sampler.close)
            # The folder is made (or reopened), and the model computes its first batch in two ways.
            if resume:
                folder.reopen(config, first_step)
            else:
                folder.create(config)
                undo.callback(folder.discard)
                lock = undo.enter_context(RunLock.take(folder.path))
                leakage = find_leakage(samples, held_out)
                folder.note_leakage(leakage)
                warn([leakage.line()] if leakage.pairs else [])
            household = Household.open(config, task, held_out, learner, folder, lock, first_step, clock)
            drawing = Drawing(
                samples, learner.history, config.run.prompts_per_step, config.run.seed,
                config.rollout.rest_steps, config.rollout.hard_share,
            )  # fmt: skip
            session = cls(config, task, samples, learner, household, drawing, sampler, first_step, checkpoint)
            verify(policy, session.prepare(min(first_step, config.run.steps - 1)).inputs)
            undo.pop_all()
        return session

    def __enter__(self) -> Self:
        self.household.stop.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.household.stop.__exit__(*error)
        try:
            if isinstance(error[1], ServerError) and self.done > self.first_step:
                self.household.save(self.done, needed=True)  # sampling comes before a step changes anything
                self.household.console.say(f"{self.household.checkpoint} is written; continue with --resume")
        finally:
            self.sampler.close()
            self.household.close()

    def prepare(self, step: int) -> Batch:
        """The questions of step number ``step`` and their prompts after the processor."""
        return self._prepared(self.drawing.step(step))

    def _prepared(self, numbers: Sequence[int]) -> Batch:
        skips = leaves_out(self.config.data.train)
        return prepared(self.learner.policy, self.task, self.samples, numbers, skips)

    def keep_history(self, step: int, results: Sequence[BatchResult]) -> None:
        """Note what the answers of a step earned, by question; a line of ``history.jsonl``."""
        seen: dict[str, list[float]] = {}
        for result in results:
            for name, rewards in result.seen.items():
                seen.setdefault(name, []).extend(rewards)
            scores = [score for group in result.rollouts.scores for score in group]
            self.learner.history.note_parts([list(score.parts.values()) for score in scores])
        self.household.folder.append_history(step, self.learner.history.note(step, seen))

    def steps(self, at_once: int | None = None) -> Iterator[tuple[int, Iterator[Questions], Others]]:
        """Each step that is left, prepared ahead, with its prompts in batches, and with others for those that teach
        nothing; the base is evaluated first.

        Args:
            at_once: most prompts in a batch; None puts all of a step into one.
        """
        loop = self.config.run
        self.household.begin(len(self.samples))
        numbers = range(self.first_step, loop.steps)
        ahead = prefetch(self.prepare, self.first_step, loop.steps, loop.workers)
        wholes = map(self.prepare, numbers) if self.drawing.looks_back else ahead
        for step, whole in zip(numbers, self._announced(numbers, wholes), strict=True):
            self.done = step
            self.household.clock.start_step()
            self.household.leave_out(whole.left_out)
            self.household.asked = [sample.id for sample in whole.samples]
            draws = Draws(loop.seed, step)
            batches = _batches(whole.samples, whole.inputs, draws, at_once or len(whole.samples))
            yield step, batches, self._others(draws, self.drawing.step(step))
            self.household.stop_if_asked(step + 1)

    def _announced(self, steps: Sequence[int], wholes: Iterable[Batch]) -> Iterator[Batch]:
        """The questions of each step, those of the step after it announced to a sampler that works ahead."""
        if not self.sampler.ahead:
            yield from wholes
            return
        coming = iter(wholes)
        whole = next(coming, None)
        for step in steps:
            assert whole is not None
            following = next(coming, None)
            for number, batch in ((step, whole), (step + 1, following)):
                if batch is not None and number >= self.config.objective.warm_start:
                    sampling = sampling_of(self.config.rollout.at(number / self.config.run.steps))
                    self.sampler.announce(batch.inputs, sampling, Draws(self.config.run.seed, number))
            yield whole
            whole = following

    def _others(self, draws: Draws, asked: Sequence[int]) -> Others:
        """Questions of a step beside those that it asks, prepared when they are wanted."""
        left, first = self.drawing.others(draws.step, asked), count(len(asked))

        def others(wanted: int) -> Questions | None:
            batch = self._prepared(numbers) if (numbers := list(islice(left, wanted))) else None
            if batch is None:
                return None
            self.household.leave_out(batch.left_out)
            return Questions(batch.samples, batch.inputs, replace(draws, prompts=tuple(islice(first, len(numbers)))))

        return others


def _batches(samples: Sequence[Sample], inputs: Inputs, draws: Draws, at_once: int) -> Iterator[Questions]:
    """The questions of a step, ``at_once`` at a time."""
    if at_once >= len(samples):
        yield Questions(samples, inputs, draws)
        return
    for start in range(0, len(samples), at_once):
        numbers = range(start, min(start + at_once, len(samples)))
        yield Questions(samples[start : numbers.stop], inputs.select(numbers), replace(draws, prompts=tuple(numbers)))


def _compare(folder: RunFolder, config: Config, anyway: bool) -> None:
    """Warn of other versions, and refuse other data: half a run on each would be compared with neither.

    Raises:
        RunFolderError: naming what has changed.
    """
    data, versions = changed_since(folder.path, config)
    warn([*versions, *(data if anyway else ())])
    if data and not anyway:
        raise RunFolderError(
            f"{folder.path}: cannot resume: the data are not what they were: {'; '.join(data)}; restore them, or go on "
            "with --resume-anyway"
        )


def _try_rewards(task: Task, batch: Batch) -> None:
    """Call the user's own rewards once, so that one which cannot be used leaves no run folder.

    Raises:
        ConfigError: naming it.
    """
    if any(":" in name for name in task.weights or ()):
        sample, frame = batch.samples[0], batch.inputs.frames[0]
        task.score(task.gold(sample.truth, frame), sample.truth, frame)


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
