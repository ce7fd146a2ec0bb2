"""Sequences whose items are made when they are read, so that a million procedural scenes or boxes cost little.

>>> class Squares(LazySequence[int]):
...     def item(self, index):
...         return index * index
>>> Squares(5)[3], Squares(5)[-1], Squares(5)[1:3], len(Squares(5))
(9, 16, [1, 4], 5)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt

from visual_rft.tasks.base import Task
from visual_rft.tasks.samples import Sample
from visual_rft.vision.boxes import Box

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """``length`` items of type T; a subclass makes item ``index``, 0 <= index < length, in :meth:`item`."""

    def __init__(self, length: int) -> None:
        self.length = length

    @abstractmethod
    def item(self, index: int) -> T:
        """Make one item; the same index always makes the same item."""

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self.item(i) for i in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(f"index {index} of {self.length} items")
        return self.item(index % self.length)


class PackedBoxes(LazySequence[Box]):
    """Boxes of one image in an array of the whole data set: 32 bytes each, where a tuple of four floats has 170.

    It equals a tuple of the same boxes.

    >>> PackedBoxes(np.arange(12.0).reshape(3, 4), 1, 3)
    ((4.0, 5.0, 6.0, 7.0), (8.0, 9.0, 10.0, 11.0))

    Args:
        boxes: ``[x1, y1, x2, y2]`` of all boxes of the data set, ``[N, 4]``.
        start: number of this image's first box in it.
        end: number behind its last.
    """

    __slots__ = ("_boxes", "_start", "length")

    def __init__(self, boxes: npt.NDArray[np.float64], start: int, end: int) -> None:
        super().__init__(end - start)
        self._boxes, self._start = boxes, start

    def item(self, index: int) -> Box:
        x1, y1, x2, y2 = self._boxes[self._start + index].tolist()
        return x1, y1, x2, y2

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, PackedBoxes) else other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[type, tuple[tuple[Box, ...]]]:
        return tuple, (tuple(self),)  # not the whole array with each image


class Completed(LazySequence[Sample]):
    """The same samples with what a task needs besides (``Task.completed``)."""

    def __init__(self, samples: Sequence[Sample], task: Task) -> None:
        super().__init__(len(samples))
        self.samples, self.task = samples, task

    def item(self, index: int) -> Sample:
        return self.task.completed(self.samples[index])


class Asked(LazySequence[Sample]):
    """The same samples with the number of their source, and in a run of several tasks the name of their own, which
    their ids then begin with: the same picture may be asked about in two of them."""

    def __init__(self, samples: Sequence[Sample], source: int, task: str | None) -> None:
        super().__init__(len(samples))
        self.samples, self.source, self.task = samples, source, task

    def item(self, index: int) -> Sample:
        sample = self.samples[index]
        if self.task is None:
            return replace(sample, source=self.source)
        return replace(sample, source=self.source, task=self.task, id=f"{self.task}/{sample.id}")


class LabelsAlone(LazySequence[Sample]):
    """The same samples without the reasoning that came with them: all that reinforcement is told as well."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        super().__init__(len(samples))
        self.samples = samples

    def item(self, index: int) -> Sample:
        sample = self.samples[index]
        return replace(sample, truth={key: value for key, value in sample.truth.items() if key != "thought"})


class Joined(LazySequence[Sample]):
    """Several sequences of samples as one."""

    def __init__(self, parts: Sequence[Sequence[Sample]]) -> None:
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))
        super().__init__(self.ends[-1] if self.ends else 0)

    def item(self, index: int) -> Sample:
        for part, end in zip(self.parts, self.ends, strict=True):
            if index < end:
                return part[index - end + len(part)]
        raise IndexError(index)
