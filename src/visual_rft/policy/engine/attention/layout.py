"""Where sequences lie in a row of tokens, and the rectangles in which attention takes them.

Decision: all tokens of a pass lie in one row, and attention kernels want rectangles. Sequences of about the same length
share one, so padding stays below a third of it; the indices that lead there and back are made once per pass, because
a boolean mask waits for the device in every layer.

>>> layout = Layout.of((3, 1), (0, 0), (5,), torch.device("cpu"))
>>> layout.shapes, layout.index.tolist(), layout.place.tolist()
([(1, 3), (1, 1)], [0, 1, 2, 3], [0, 1, 2, 3])
>>> Layout.of((3, 3), (0, 0), (5,), torch.device("cpu")).index is None  # they lie so already
True

Shapes: N tokens in the row, S slots of all rectangles, C sequences of a rectangle, T its width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NARROWEST = 0.7
"""A sequence goes into a rectangle if it fills this share of its width."""


@dataclass(frozen=True)
class Layout:
    """Where the tokens of each completion lie in the row.

    Attributes:
        shapes: (C, T) of each rectangle.
        index: ``[S]`` token of each slot, padding repeats a sequence's last one; None where slots are the tokens.
        place: ``[N]`` a slot of each token.
        idle: slots beside the one of their token (padding, or a token that several sequences share); their outputs
            are not used.
        shared: whether a token lies in several sequences.
        groups: for each prompt that is continued: its tokens, and the tokens of its completions.
    """

    shapes: list[tuple[int, int]]
    index: Tensor | None
    place: Tensor | None
    idle: Tensor | None
    shared: bool
    groups: list[tuple[slice, slice]]

    @classmethod
    def of(
        cls,
        lengths: Sequence[int],
        prompts: Sequence[int],
        prompt_lengths: Sequence[int],
        device: torch.device,
        paths: Sequence[Sequence[int]] | None = None,
    ) -> Layout:
        """The layout of some completions.

        Args:
            lengths: tokens of each, at least 1.
            prompts: the prompt that each continues, ascending.
            prompt_lengths: tokens of every prompt.
            device: device of the tokens.
            paths: tokens of each, by number, where completions share some; those of one prompt follow each other. None
                where completions lie one after the other.
        """
        starts = [0]
        for length in (*lengths,):
            starts.append(starts[-1] + length)
        if paths is None:
            paths = [range(start, start + length) for start, length in zip(starts, lengths, strict=False)]
        count = 1 + max(path[-1] for path in paths)
        shared = count < starts[-1]
        groups = _groups(paths, prompts, prompt_lengths)
        if not shared and len(set(lengths)) == 1:
            return cls([(len(lengths), lengths[0])], None, None, None, False, groups)
        shapes: list[tuple[int, int]] = []
        index: list[int] = []
        for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            path = paths[row]
            if not shapes or len(path) < NARROWEST * shapes[-1][1]:
                shapes.append((0, len(path)))
            shapes[-1] = (shapes[-1][0] + 1, shapes[-1][1])
            index += path
            index += [path[-1]] * (shapes[-1][1] - len(path))
        place, idle = [-1] * count, []
        for slot, token in enumerate(index):
            if place[token] < 0:
                place[token] = slot
            else:
                idle.append(slot)
        index_, place_, idle_ = (torch.tensor(x, dtype=torch.long, device=device) for x in (index, place, idle))
        return cls(shapes, index_, place_, idle_, shared, groups)

    def split(self, x: Tensor, *, gradient: bool = False) -> list[Tensor]:
        """``[C, H, T, ...]`` of each rectangle from ``[N, H, ...]``; a ``gradient`` is 0 in idle slots."""
        if self.index is not None:
            x = x.index_select(0, self.index)
            if gradient:
                assert self.idle is not None
                x.index_fill_(0, self.idle, 0)
        parts = x.split([rows * width for rows, width in self.shapes])
        return [part.unflatten(0, shape).transpose(1, 2) for part, shape in zip(parts, self.shapes, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """``[N, H, ...]`` from ``[C, H, T, ...]`` of each rectangle."""
        x = _row(parts)
        return x if self.place is None else x.index_select(0, self.place)

    def join_sum(self, parts: Sequence[Tensor]) -> Tensor:
        """The same, but the sum over all slots of a token (gradients of what several sequences read)."""
        if not self.shared or self.index is None or self.place is None:
            return self.join(parts)
        x = _row(parts)
        return x.new_zeros(len(self.place), *x.shape[1:]).index_add_(0, self.index, x)


def _row(parts: Sequence[Tensor]) -> Tensor:
    """``[S, H, ...]`` from ``[C, H, T, ...]`` of each rectangle."""
    rows = [part.transpose(1, 2).flatten(0, 1) for part in parts]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _groups(
    paths: Sequence[Sequence[int]], prompts: Sequence[int], prompt_lengths: Sequence[int]
) -> list[tuple[slice, slice]]:
    starts = [0]
    for length in prompt_lengths:
        starts.append(starts[-1] + length)
    ends: dict[int, int] = {}
    for prompt, path in zip(prompts, paths, strict=True):
        ends[prompt] = max(ends.get(prompt, 0), path[-1] + 1)
    found, place = [], 0
    for prompt, end in ends.items():
        found.append((slice(starts[prompt], starts[prompt + 1]), slice(place, end)))
        place = end
    return found
