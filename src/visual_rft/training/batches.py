"""Which samples each step sees, and preparing the next batch while the current one computes.

Decision: batch ``n`` is a function of the seed and ``n`` alone, so that a resumed run sees exactly what an
uninterrupted one would have seen, without storing any generator state.

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

T = TypeVar("T")


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(size)


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
        indices.append(int(_permutation(seed, epoch, size)[offset]))
    return indices


def prefetch(make: Callable[[int], T], first: int, last: int) -> Iterator[T]:
    """``make(first), ..., make(last - 1)``, each made in a thread while the one before is being used.

    An error in ``make`` is raised where the item would have been returned.
    """
    if first >= last:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        upcoming = pool.submit(make, first)
        for number in range(first, last):
            current = upcoming.result()
            if number + 1 < last:
                upcoming = pool.submit(make, number + 1)
            yield current
