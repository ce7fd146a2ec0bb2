"""The parts of a run's start: its process, lock, folder and data, each with the error that it may end in.

Decision: the first process of several does what is done once, and all know how it went (``parallel/meetings.py``).

    prepare_process(config)
    with ExitStack() as undo:
        lock = hold_lock(folder, undo)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch

from visual_rft.config.config import Config
from visual_rft.data.leakage import find_leakage
from visual_rft.errors import ConfigError, RunFolderError
from visual_rft.parallel.meetings import by_first
from visual_rft.parallel.processes import here
from visual_rft.tasks import Sample, Tasks
from visual_rft.terminal.notes import warn
from visual_rft.training.run.continuing import changed_since
from visual_rft.training.run.folder import RunFolder
from visual_rft.training.run.lock import RunLock
from visual_rft.training.usable import Batch


def hold_lock(folder: RunFolder, undo: ExitStack) -> RunLock | None:
    """The lock of the folder, held by the first process for all; None in the others."""
    held: list[RunLock] = []

    def take() -> None:
        held.append(undo.enter_context(RunLock.take(folder.path)))
        watch = here().watch
        if watch is not None:
            watch.at_abort.append(held[0].release)

    by_first(take, "the lock of the run folder")
    return held[0] if held else None


def make_folder(folder: RunFolder, config: Config, undo: ExitStack) -> None:
    folder.create(config)
    undo.callback(folder.discard)


def note_leakage(folder: RunFolder, samples: Sequence[Sample], held_out: Sequence[Sample]) -> None:
    leakage = find_leakage(samples, held_out)
    folder.note_leakage(leakage)
    warn([leakage.line()] if leakage.pairs else [])


def note_extension(steps: tuple[int, int] | None, learning_rate: float) -> None:
    """Say that more steps were asked for, and where the schedule of the learning rate stands then."""
    if steps is not None and here().first:
        was, now = steps
        print(f"this run was one of {was} steps and goes on to {now}; what follows a schedule is from here on as in a "
              f"run of {now}: the learning rate is {learning_rate:.3g}", file=sys.stderr)  # fmt: skip


def warn_of(text: str) -> None:
    warn([text])


def refuse_other_data(folder: RunFolder, config: Config, anyway: bool) -> None:
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


def try_rewards(tasks: Tasks, prepare: Callable[[Sequence[int]], Batch], samples: Sequence[Sample]) -> None:
    """Call the user's own rewards once, so that one which cannot be used leaves no run folder.

    Args:
        tasks: of the run.
        prepare: prepares the questions with these numbers.
        samples: all training questions, of which the first of each task is taken.

    Raises:
        ConfigError: naming it.
    """
    for task in tasks.each.values():
        if any(":" in name for name in task.weights or ()):
            first = next((number for number, sample in enumerate(samples) if tasks.of(sample) is task), None)
            if first is not None:
                batch = prepare([first])
                sample, frame = batch.samples[0], batch.inputs.frames[0]
                task.score(task.gold(sample.truth, frame), sample.truth, frame)


def prepare_process(config: Config) -> None:
    """Threads, the seed of everything random outside the loop (the start of a LoRA adapter), and how long processes
    wait for each other.

    Raises:
        ConfigError: if other processes were asked for than there are, or servers are to sample for several, each of
            which would push its weights.
    """
    if config.run.processes not in (1, here().size):
        raise ConfigError(
            f"run.processes is {config.run.processes}, but {here().size} was started; visual-rft train, sft and demo "
            "start them, torchrun does, and Python does not"
        )
    if here().size > 1 and config.rollout.engine != "own":
        raise ConfigError(
            f"rollout.engine {config.rollout.engine}: servers sample for one process; launch one, or set it to own"
        )
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    here().wait_at_most(config.parallel.timeout)
    torch.manual_seed(config.run.seed)
