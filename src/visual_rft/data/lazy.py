"""A sequence whose items are made when they are read, so that a million procedural scenes cost nothing.

>>> class Squares(LazySequence[int]):
...     def item(self, index):
...         return index * index
>>> Squares(5)[3], Squares(5)[-1], Squares(5)[1:3], len(Squares(5))
(9, 16, [1, 4], 5)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

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
