"""One new token per completion on the shared prefix.

Decision: completions that have drawn the same tokens so far are one *slot*: they have the same keys, and a layer runs
once for them. All queries of a prompt's slots meet its keys in one matrix product, so the prompt is read once per layer
and token instead of G times. The keys of the completions themselves lie in buffers that grow in blocks, so a token is
written in place and nothing is concatenated; a slot that splits is copied, and slots without a completion go when that
is worth a copy of the others.

On a GPU a step is recorded and replayed (``replay.py``). What is recorded must not change in shape or place, so there a
step works on whole blocks and masks what is not yet written, every completion is a slot, and B x G stays a rectangle.

Shapes: B prompts, G slots of the prompt that has most, S slots, H heads, K key/value heads, R = H / K query heads on
each of them, D head dimension, P tokens of the longest prompt, T tokens of the completions that a step looks at.

    attention = DecodingAttention(prefix.layers, prefix.lengths, group_size)
    for q, k, v in steps:                       # [S, H, D] and twice [S, K, D]
        attention.begin_token()                 # then every layer, once
        attention(layer, q, k, v, scale)        # [S, H, D]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visual_rft.policy.engine.attention.shared_prefix import Layers

BLOCK_TOKENS = 64
"""Tokens of the first two blocks of the buffers."""


def block_tokens(length: int) -> int:
    """Tokens of all blocks that hold ``length`` tokens: 64, 128, then always twice as many.

    On a GPU each block is a recording, which takes as long as some twenty replays: 1,024 tokens are five of them, where
    blocks of 64 would be sixteen. A step looks at whole blocks, at most twice what is written.

    >>> [block_tokens(n) for n in (0, 1, 64, 65, 128, 129, 257, 1024)]
    [0, 64, 64, 128, 128, 256, 512, 1024]
    """
    tokens = 0 if length == 0 else BLOCK_TOKENS
    while tokens < length:
        tokens *= 2
    return tokens


class DecodingAttention:
    """Attention of the newest token of every slot; :meth:`begin_token`, then one call for every layer.

    Args:
        layers: keys and values ``[tokens of all prompts, K, D]`` of every layer.
        prompt_lengths: tokens of each prompt.
        group_size: slots per prompt, prompt after prompt.
        rows: most slots that there will ever be; None if there will never be more.
        fixed: every step works on whole blocks, so that its shapes change with :attr:`capacity` only.

    Attributes:
        owners: ``[S]`` number of the prompt of each slot.
        length: tokens of each completion, the newest included.
        prefix_keys: ``[B, K, D, P]`` of every layer, transposed, so that scores are one product.
        prefix_values: ``[B, K, P, D]`` of every layer.
        prefix_bias: ``[B, 1, 1, P]``, minus infinity beyond a prompt's end; None where all are equally long.
        own_keys: ``[rows, K, capacity, D]`` of every layer, of which the first S rows are slots.
        own_values: values of the same shape.
        own_bias: ``[capacity]``, minus infinity where nothing is written yet; None unless steps are fixed.
    """

    def __init__(
        self,
        layers: Layers,
        prompt_lengths: Sequence[int],
        group_size: int,
        *,
        rows: int | None = None,
        fixed: bool = False,
    ) -> None:
        some_keys = layers[0][0]
        self.fixed = fixed
        self.length = 0
        self.prefix_keys = [_padded(k.detach(), prompt_lengths).mT for k, _ in layers]
        self.prefix_values = [_padded(v.detach(), prompt_lengths) for _, v in layers]
        self.prefix_bias: Tensor | None = None
        longest = max(prompt_lengths)
        if min(prompt_lengths) < longest:
            lengths = torch.tensor(prompt_lengths, device=some_keys.device)
            beyond = torch.arange(longest, device=some_keys.device) >= lengths[:, None]  # [B, P]
            self.prefix_bias = some_keys.new_zeros(beyond.shape).masked_fill(beyond, -torch.inf)[:, None, None]
        self._own([i for i in range(len(prompt_lengths)) for _ in range(group_size)])
        rows = rows or len(self.owners)
        self.own_keys = [k.new_empty(rows, k.shape[1], 0, k.shape[2]) for k, _ in layers]
        self.own_values = [v.new_empty(rows, v.shape[1], 0, v.shape[2]) for _, v in layers]
        # A fixed step is replayed without this code, so what it knows of the length must be on the device.
        self.own_bias = some_keys.new_empty(0) if fixed else None
        self._place = torch.full((1,), -1, device=some_keys.device)

    @property
    def capacity(self) -> int:
        """Tokens of the blocks that there are."""
        return self.own_keys[0].shape[2]

    def _own(self, owners: list[int]) -> None:
        """Set which prompt each slot continues, and where it stands among the slots of its prompt."""
        self.owners = owners
        counts = [0] * len(self.prefix_values[0])
        place = []
        for owner in owners:
            place.append(counts[owner])
            counts[owner] += 1
        self.width = max(counts)  # G
        flat = [owner * self.width + i for owner, i in zip(owners, place, strict=True)]
        self._cells: Tensor | None = None
        if flat != list(range(len(counts) * self.width)):
            device = self.prefix_values[0].device
            slots = [0] * (len(counts) * self.width)  # a cell without a slot repeats the first one
            for slot, cell in enumerate(flat):
                slots[cell] = slot
            self._cells, self._slots = torch.tensor(flat, device=device), torch.tensor(slots, device=device)

    def begin_token(self) -> None:
        """Make room for one more token of every slot; the calls of all layers write it and attend to it."""
        self.length += 1
        more = block_tokens(self.length) - self.capacity
        if more > 0:
            # One layer after the other, so that only one of them is there twice.
            for buffers in (self.own_keys, self.own_values):
                for layer, x in enumerate(buffers):
                    buffers[layer] = torch.cat([x, x.new_zeros(*x.shape[:2], more, x.shape[3])], dim=2)
            if self.own_bias is not None:
                self.own_bias = torch.cat([self.own_bias, self.own_bias.new_full((more,), -torch.inf)])
        if self.own_bias is not None:  # in place: a recorded step reads these very tensors
            self._place += 1
            self.own_bias.index_fill_(0, self._place, 0)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        own_k, own_v = self._append(layer, k, v)  # [S * K, T, D]
        by_slot = (q * scale).unflatten(1, (k.shape[1], -1))  # [S, K, R, D]
        own_scores = by_slot.flatten(0, 1).bmm(own_k.mT).unflatten(0, (len(q), -1))  # [S, K, R, T]
        if self.own_bias is not None:
            own_scores += self.own_bias
        prefix_scores = self._by_prompt(by_slot) @ self.prefix_keys[layer]  # [B, K, G * R, P]
        if self.prefix_bias is not None:
            prefix_scores += self.prefix_bias
        prefix_scores = self._by_slot(prefix_scores)  # [S, K, R, P]
        weights = torch.cat([prefix_scores, own_scores], dim=-1).softmax(-1)  # [S, K, R, P + T]
        prefix_weights, own_weights = weights.split([prefix_scores.shape[-1], own_scores.shape[-1]], dim=-1)
        out = own_weights.flatten(0, 1).bmm(own_v).view_as(by_slot)  # [S, K, R, D]
        out += self._by_slot(self._by_prompt(prefix_weights) @ self.prefix_values[layer])
        row: Tensor = out.flatten(1, 2)  # [S, H, D]
        return row

    def _by_prompt(self, x: Tensor) -> Tensor:
        """``[B, K, G * R, ...]`` from ``[S, K, R, ...]``."""
        if self._cells is not None:
            x = x.index_select(0, self._slots)
        if self.width == 1:
            return x
        cells: Tensor = x.unflatten(0, (-1, self.width))  # [B, G, K, R, ...]
        return cells.transpose(1, 2).flatten(2, 3)

    def _by_slot(self, x: Tensor) -> Tensor:
        """``[S, K, R, ...]`` from ``[B, K, G * R, ...]``."""
        if self.width > 1:
            x = x.unflatten(2, (self.width, -1)).transpose(1, 2).flatten(0, 1)
        return x if self._cells is None else x.index_select(0, self._cells)

    def _append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write ``[S, K, D]`` of the newest token; returns all keys and values ``[S * K, T, D]``."""
        own_k, own_v = self.own_keys[layer][: len(k)], self.own_values[layer][: len(k)]  # [S, K, capacity, D]
        if self.fixed:
            own_k.index_copy_(2, self._place, k[:, :, None])
            own_v.index_copy_(2, self._place, v[:, :, None])
            return own_k.flatten(0, 1), own_v.flatten(0, 1)
        own_k[:, :, self.length - 1] = k
        own_v[:, :, self.length - 1] = v
        return own_k.flatten(0, 1)[:, : self.length], own_v.flatten(0, 1)[:, : self.length]

    def select(self, slots: Sequence[int]) -> None:
        """New slots, each with the keys and values that the given one has now.

        Slots that only come after the ones there are are written beside them; anything else copies all.
        """
        before, owners = len(self.owners), [self.owners[i] for i in slots]
        added = slots[before:]
        beside = list(slots[:before]) == list(range(before)) and len(slots) <= len(self.own_keys[0])
        index = torch.tensor(added if beside else slots, dtype=torch.long, device=self.prefix_values[0].device)
        for buffers in (self.own_keys, self.own_values):
            for layer, x in enumerate(buffers):
                if beside:
                    x[before : len(slots), :, : self.length] = x[:, :, : self.length].index_select(0, index)
                else:
                    buffers[layer] = self._gathered(x, index)
        left = sorted(set(owners))
        if len(left) < len(self.prefix_values[0]):
            prompts = torch.tensor(left, device=index.device)
            self.prefix_keys = [k[prompts] for k in self.prefix_keys]
            self.prefix_values = [v[prompts] for v in self.prefix_values]
            if self.prefix_bias is not None:
                self.prefix_bias = self.prefix_bias[prompts]
        self._own([left.index(owner) for owner in owners])

    def _gathered(self, x: Tensor, index: Tensor) -> Tensor:
        """The rows of a buffer in a new order, in a buffer of the rows that there may be."""
        if self.fixed:
            return x.index_select(0, index)
        new = torch.empty_like(x)
        new[: len(index), :, : self.length] = x[:, :, : self.length].index_select(0, index)
        return new

    def compact(self, running: Tensor) -> Tensor | None:
        """Drop slots of ended completions where that leaves half a rectangle or less.

        Args:
            running: ``[S]`` bool, true where the completion has not ended; at least one is true.

        Returns:
            Indices of the slots that stay, in their new order, or None if nothing was dropped. A slot whose completion
            has ended may stay to keep the rectangle.
        """
        grid = running.view(-1, self.width)
        prompts = grid.any(1).nonzero().squeeze(1)
        width = int(grid.sum(1).max())
        # A step of other shapes has to be recorded anew, which takes as long as some twenty replays.
        if len(prompts) * width > 0.5 * grid.numel():
            return None
        order = grid[prompts].sort(dim=1, descending=True, stable=True).indices[:, :width]  # running ones first
        index = (prompts[:, None] * self.width + order).flatten()
        self.select(index.tolist())
        return index


def _padded(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """``[B, K, P, D]``, zeros on the right, from a row ``[tokens of all prompts, K, D]``."""
    rows = torch.nn.utils.rnn.pad_sequence(x.split(list(lengths)), batch_first=True)  # [B, P, K, D]
    return rows.transpose(1, 2).contiguous()
