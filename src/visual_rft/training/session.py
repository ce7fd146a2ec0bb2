"""What both loops share: the questions, the learner, and the household, from the first step to the last.

Decision: the loops keep the method (what is sampled, scored and learned). This joins the two things that change for
different reasons, the learning state (``learner.py``) and the household of the run (``household.py``), and hands out
the batches, so that reinforcement and its supervised baseline differ in the loss and in nothing else.

    with Session.start(config, resume=False) as session:
        for step, batches in session.steps(): ...
        session.household.end()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch

from visual_rft.config.config import Config
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError, ServerError
from visual_rft.inspection.alike import check_alike
from visual_rft.inspection.fitting import gathering_chosen, refuse_what_cannot_fit
from visual_rft.parallel.meetings import by_first, check_equal, gather
from visual_rft.parallel.processes import here
from visual_rft.policy.agreement import verify_together
from visual_rft.policy.constrained import constrain_each
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.loading import autocast_of, load_policy, sampling_of
from visual_rft.policy.memory.halving import out_of_memory
from visual_rft.policy.prompt import tasks_for
from visual_rft.policy.stored.places import base_of
from visual_rft.samplers.interface import OwnSampler, Sampler
from visual_rft.samplers.making import sampler_of
from visual_rft.tasks import Sample, Tasks
from visual_rft.training.batches import prefetch, shares
from visual_rft.training.household import Household
from visual_rft.training.learner import Learner
from visual_rft.training.metrics import BatchResult, Clock
from visual_rft.training.objective import part_values
from visual_rft.training.prompts.drawing import Drawing
from visual_rft.training.prompts.mixing import mix_of
from visual_rft.training.run.best import refuse_unknown_number
from visual_rft.training.run.checkpoint import newest_whole
from visual_rft.training.run.continuing import continued, extension
from visual_rft.training.run.folder import RunFolder
from visual_rft.training.run.trackers import make_accelerator
from visual_rft.training.starting import (
    hold_lock,
    make_folder,
    note_extension,
    note_leakage,
    prepare_process,
    refuse_other_data,
    try_rewards,
    warn_of,
)
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


Others = Callable[[int], tuple[int, Questions | None]]
"""Takes so many other questions of a step, fewer where there are not so many: how many that are, and this process's
part of them, None where it has none."""


@dataclass
class Session:
    """A run in progress.

    Attributes:
        config: the whole run.
        task: asks and scores; of a run of several, each question by its own.
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
    task: Tasks
    samples: Sequence[Sample]
    learner: Learner
    household: Household
    drawing: Drawing
    sampler: Sampler
    first_step: int
    resumed_from: Path | None
    done: int = 0

    @classmethod
    def start(cls, config: Config, *, resume: bool, anyway: bool = False, supervised: bool = False) -> Session:
        """Read data and model, then make (or reopen) the run folder: a mistake leaves no folder behind.

        Args:
            config: the whole run.
            resume: continue the run in ``config.run.folder``.
            anyway: continue also where the data are not what they were.
            supervised: whether answers are given and not sampled: it takes less memory, and servers are left alone,
                whatever the config says of them.

        Raises:
            VisualRFTError: if the config, data, model, servers or run folder cannot be used, or the run cannot fit on
                its card.
        """
        clock = Clock()
        prepare_process(config)
        folder = RunFolder(Path(config.run.folder))
        with ExitStack() as undo:  # whatever fails from here on lets go of the lock and deletes a new folder
            # The folder is only looked at: what cannot be made or resumed is known before anything is read.
            checkpoint, longer = None, None
            if resume:
                config = continued(folder.path, config)
                longer = by_first(lambda: extension(folder.path, config), "the steps of before")
                lock = hold_lock(folder, undo)
                by_first(lambda: refuse_other_data(folder, config, anyway), "the data of before")
                checkpoint = by_first(lambda: newest_whole(folder.checkpoints(), warn_of), "the newest checkpoint")
            else:
                by_first(folder.check_new, "the name of the run folder")
                config = config.with_model(path=base_of(config.model.path), autocast=autocast_of(config.model))
            accelerator = make_accelerator(config, folder.path)
            # Data and model.
            task = tasks_for(config)
            samples = load_samples(config.data.train, task)
            held_out = load_samples(config.data.evaluation, task)
            check_alike(config, samples, held_out)
            config = gathering_chosen(config, task, samples, supervised=supervised)
            refuse_what_cannot_fit(config, task, samples, supervised=supervised)
            weights = checkpoint / "model" if checkpoint else None
            policy = load_policy(config.model, config.rollout, weights, engine=config.engine)
            skips = leaves_out(config.data.train)
            samples = usable(policy, task, samples, skips)
            held_out = usable(policy, task, held_out, leaves_out(config.data.evaluation))
            if config.rollout.constrained and not supervised:
                constrain_each(policy, task, (*samples, *held_out))
            look(policy, task, samples, skips)
            mix = mix_of(samples, config.data, config.run.seed)
            try_rewards(task, lambda numbers: prepared(policy, task, samples, numbers, skips), samples)
            refuse_unknown_number(config.run.best, task, held_out)
            learner = Learner.of(policy, config, accelerator, supervised=supervised)
            first_step = learner.restore(checkpoint) if checkpoint else 0
            note_extension(longer, learner.learning_rate)
            check_equal(learner.trained, "the weights")
            if here().size > 1 and config.rollout.engine != "own" and not supervised:
                raise ConfigError("rollout.engine vllm: each process would push weights of its own; launch one process")
            sampler = OwnSampler(policy) if supervised else sampler_of(policy, config, folder.path)
            undo.callback(sampler.close)
            # The folder is made (or reopened), and the model computes its first batch in two ways.
            if resume:
                by_first(lambda: folder.reopen(config, first_step), "the run folder")
            else:
                by_first(lambda: make_folder(folder, config, undo), "the run folder")
                lock = hold_lock(folder, undo)
                by_first(lambda: note_leakage(folder, samples, held_out), "held-out images")
            household = Household.open(config, task, held_out, learner, folder, lock, first_step, clock)
            drawing = Drawing(
                samples, learner.history, config.run.prompts_per_step, config.run.seed,
                config.rollout.rest_steps, config.rollout.hard_share, mix, task,
            )  # fmt: skip
            session = cls(config, task, samples, learner, household, drawing, sampler, first_step, checkpoint)
            verify_together(policy, session.prepare(min(first_step, config.run.steps - 1)).inputs)
            learner.go_by_layer(config.parallel)
            undo.pop_all()
        return session

    def __enter__(self) -> Self:
        self.household.stop.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, *where: Any) -> None:
        self.household.stop.__exit__(kind, error, *where)
        try:
            if isinstance(error, ServerError) and self.done > self.first_step:
                self.household.save(self.done, needed=True)  # sampling comes before a step changes anything
                self.household.console.say(f"{self.household.checkpoint} is written; continue with --resume")
        finally:
            self.sampler.close()
            self.household.close()
        if isinstance(error, torch.OutOfMemoryError):
            raise out_of_memory("in this run", error) from error

    def prepare(self, step: int, at_once: int | None = None) -> Batch:
        """This process's questions of step number ``step``, and their prompts after the processor.

        Args:
            step: number of the step.
            at_once: most prompts in a batch, of which every process takes its share.
        """
        numbers = self.drawing.step(step)
        return self._prepared([numbers[place] for batch in shares(len(numbers), at_once) for place in batch])

    def _prepared(self, numbers: Sequence[int]) -> Batch:
        skips = leaves_out(self.config.data.train)
        return prepared(self.learner.policy, self.task, self.samples, numbers, skips)

    def keep_history(self, step: int, results: Sequence[BatchResult]) -> None:
        """Note what the answers of a step earned, by question; a line of ``history.jsonl``."""
        seen: dict[str, list[float]] = {}
        names = self.task.part_weights
        told = gather([(result.seen, _parts(result, names)) for result in results], "the history")
        for earned, parts in (one for together in zip(*told, strict=True) for one in together):
            for name, rewards in earned.items():
                seen.setdefault(name, []).extend(rewards)
            self.learner.history.note_parts(parts)
        noted = self.learner.history.note(step, dict(sorted(seen.items())))
        if here().first:
            self.household.folder.append_history(step, noted)

    def steps(self, at_once: int | None = None) -> Iterator[tuple[int, Iterator[Questions], Others]]:
        """Each step that is left, prepared ahead, with its prompts in batches, and with others for those that teach
        nothing; the base is evaluated first.

        Args:
            at_once: most prompts in a batch, on all processes together; None puts all of a step into one.

        Raises:
            ConfigError: if a batch does not have a prompt for every process.
        """
        loop, skips = self.config.run, leaves_out(self.config.data.train)
        places = shares(loop.prompts_per_step, at_once)
        self.household.begin(len(self.samples))
        if self.household.is_over():
            return
        numbers, make = range(self.first_step, loop.steps), partial(self.prepare, at_once=at_once)
        ahead = prefetch(make, self.first_step, loop.steps, loop.workers)
        wholes = map(make, numbers) if self.drawing.looks_back else ahead
        for step, whole in zip(numbers, self._announced(numbers, wholes), strict=True):
            self.done = step
            self.household.clock.start_step()
            left_out = dict(whole.left_out)
            self.household.limits.asked = [sample.id for sample in whole.samples]
            draws = Draws(loop.seed, step)
            yield step, _batches(whole, draws, places), self._others(draws, self.drawing.step(step), left_out)
            if skips:
                told = gather(left_out, "the questions left out")
                self.household.leave_out({name: why for part in told for name, why in part.items()})
            if self.household.is_over():
                return
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
                    rollout = self.config.rollout.at(number / self.config.run.steps)
                    draws = Draws(self.config.run.seed, number)
                    self.sampler.announce(batch.inputs, rollout.group_size, sampling_of(rollout), draws)
            yield whole
            whole = following

    def _others(self, draws: Draws, asked: Sequence[int], left_out: dict[str, str]) -> Others:
        """Questions of a step beside those that it asks, divided among the processes and prepared when they are wanted.

        What cannot be used of them is added to ``left_out``.
        """
        numbered = enumerate(self.drawing.others(draws.step, asked), len(asked))

        def others(wanted: int) -> tuple[int, Questions | None]:
            some = list(islice(numbered, wanted))
            own = [some[place] for place in here().share(len(some))]
            if not own:
                return len(some), None
            batch = self._prepared([number for _, number in own])
            left_out.update(batch.left_out)
            draw = replace(draws, prompts=tuple(place for place, _ in own))
            return len(some), Questions(batch.samples, batch.inputs, draw)

        return others


def _parts(result: BatchResult, names: Iterable[str]) -> list[list[float | None]]:
    """Reward parts of every completion of a batch, by these names."""
    scores = result.rollouts.scores
    groups = zip(result.rollouts.labels or [""] * len(scores), scores, strict=True)
    return [part_values(score, names, label) for label, group in groups for score in group]


def _batches(whole: Batch, draws: Draws, places: Sequence[Sequence[int]]) -> Iterator[Questions]:
    """The questions of this process in a step, batch by batch; ``places`` are their numbers in the step."""
    start = 0
    for batch in places:
        numbers = range(start, start + len(batch))
        start = numbers.stop
        inputs = whole.inputs if len(places) == 1 else whole.inputs.select(numbers)
        yield Questions(whole.samples[numbers.start : start], inputs, replace(draws, prompts=tuple(batch)))
