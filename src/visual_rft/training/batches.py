"""Which samples each step sees, and preparing the next batches while the current one computes.

Decision: batch ``n`` is a function of the seed and ``n`` alone, so that a resumed run sees exactly what an
uninterrupted one would have seen, without storing any generator state. A thread prepares the next batch; where opening
and resizing large images would hold up the sampling loop, worker processes do it.

>>> [batch_indices(n, size=3, batch=2, seed=0) for n in range(3)]
[[2, 0], [1, 2], [0, 1]]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset

from visual_rft.errors import ConfigError, VisualRFTError
from visual_rft.parallel.processes import here

T = TypeVar("T")


@lru_cache(maxsize=64)
def permutation(seed: int, epoch: int, size: int, *group: int) -> npt.NDArray[np.int64]:
    """The order of ``size`` questions in an epoch, of a group of them where its number is given."""
    return np.random.default_rng((seed, epoch, *((4, *group) if group else ()))).permutation(size)


def batch_indices(number: int, size: int, batch: int, seed: int) -> list[int]:
    """Indices of batch ``number``: consecutive pieces of one fresh permutation of the data per epoch.

    Args:
        number: counts batches from 0.
        size: number of samples, at least 1.
        batch: samples per batch.
        seed: of the permutations.
    """
    indices = []
    for place in range(number * batch, (number + 1) * batch):
        epoch, offset = divmod(place, size)
        indices.append(int(permutation(seed, epoch, size)[offset]))
    return indices


def shares(prompts: int, at_once: int | None = None) -> list[list[int]]:
    """The prompts of a step that this process takes, batch by batch: their numbers in the step.

    Every process takes a part of every batch, so that all have as many batches and an average over a batch is one over
    the same prompts, however many processes there are.

    Args:
        prompts: prompts of the step.
        at_once: most prompts in a batch; None puts all into one.

    Raises:
        ConfigError: if a batch has fewer prompts than there are processes.

    >>> shares(5, at_once=3)
    [[0, 1, 2], [3, 4]]
    """
    most = min(at_once or prompts, prompts)
    batches = [range(start, min(start + most, prompts)) for start in range(0, prompts, most)]
    if (fewest := min(map(len, batches))) < here().size:
        raise ConfigError(
            f"a batch of {fewest} prompts cannot be shared by {here().size} processes: raise run.prompts_per_batch "
            "(or rollout.prompts_at_once), or launch fewer"
        )
    return [[batch[place] for place in here().share(len(batch))] for batch in batches]


def prefetch(make: Callable[[int], T], first: int, last: int, workers: int = 0) -> Iterator[T]:
    """``make(first), ..., make(last - 1)``, each made while the ones before are being used.

    An error in ``make`` is raised where the item would have been returned.

    Args:
        make: makes an item; with workers the item travels between processes, so it must pickle.
        first: the first number.
        last: one more than the last number.
        workers: processes that make items, two ahead each; 0 makes one item ahead in a thread.
    """
    if first >= last:
        return
    if workers == 0:
        yield from _in_a_thread(make, first, last)
        return
    # Forked, because a task from the user's own file does not pickle; the workers never touch a GPU.
    loader = DataLoader(
        _Made(make), batch_size=None, sampler=range(first, last), num_workers=workers, multiprocessing_context="fork"
    )
    for item in loader:
        if isinstance(item, VisualRFTError):
            raise item
        yield item


def _in_a_thread(make: Callable[[int], T], first: int, last: int) -> Iterator[T]:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        upcoming = pool.submit(make, first)
        for number in range(first, last):
            current = upcoming.result()
            if number + 1 < last:
                upcoming = pool.submit(make, number + 1)
            yield current


class _Made(Dataset[T]):
    """The items of ``make`` by number; an error the user can mend is an item too, so its message stays one line."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self.make = make

    def __getitem__(self, number: int) -> T | VisualRFTError:  # type: ignore[override]
        try:
            return self.make(number)
        except VisualRFTError as error:
            return error
