"""One new token per completion on the shared prefix.

Decision: the completions of a prompt form a grid ``[B, G]``, so all G queries of a prompt meet its keys in one matrix
product and the prompt is read once per layer and token instead of G times. The keys of the completions themselves lie
in buffers that grow in blocks of 64 tokens, so a token is written in place and nothing is concatenated. When
completions have ended, the grid is made smaller.

On a GPU a step is some thousand small kernels, which take longer to launch than to run: 28 ms against 5 ms for the
shapes of Qwen2-VL-2B on an H200. :class:`Replay` records them once and starts them together; what it records must not
change in shape, so there a step works on whole blocks and masks what is not yet written.

Shapes: B prompts, G slots per prompt, H heads, K key/value heads, D head dimension, t tokens so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar
from warnings import warn

import torch
from torch import Tensor

from visual_rft.policy.engine.attention import Layers

BLOCK = 64
"""Tokens by which the buffers grow."""


class DecodingAttention:
    """Attention of the newest token of every completion.

    Args:
        layers: keys and values of the prompts.
        prompt_lengths: tokens of each prompt.
        group_size: completions per prompt.
        fixed: every step works on whole blocks, so that its shapes change with :attr:`blocks` only.
    """

    def __init__(self, layers: Layers, prompt_lengths: Sequence[int], group_size: int, *, fixed: bool = False) -> None:
        longest = max(prompt_lengths)
        self.fixed = fixed
        self.shape = (len(prompt_lengths), group_size)
        self.keys = [_padded(k.detach(), prompt_lengths, longest).mT for k, _ in layers]
        self.values = [_padded(v.detach(), prompt_lengths, longest) for _, v in layers]
        self.bias: Tensor | None = None
        if min(prompt_lengths) < longest:
            k = layers[0][0]
            lengths = torch.tensor(prompt_lengths, device=k.device)
            beyond = torch.arange(longest, device=k.device) >= lengths[:, None]
            self.bias = torch.zeros(beyond.shape, device=k.device, dtype=k.dtype).masked_fill(beyond, -torch.inf)
            self.bias = self.bias[:, None, None]
        self.own: list[tuple[Tensor, ...]] = []
        self.length = 0
        """Tokens of the completions, the newest included."""
        # What a fixed step knows of the length must be on the device: it is replayed without this code.
        self._place = torch.full((1,), -1, device=layers[0][0].device)
        self._later: Tensor | None = None

    @property
    def blocks(self) -> int:
        """Blocks that the completions need."""
        return -(-self.length // BLOCK)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        (prompts, slots), kv_heads, width = self.shape, k.shape[1], q.shape[-1]
        if layer == len(self.own):
            empty = k.new_empty(prompts * slots, kv_heads, 0, width)
            self.own.append((empty, empty))
        if self.own[layer][0].shape[2] < self.length:
            self.own[layer] = tuple(torch.cat([x, x.new_zeros(*x.shape[:2], BLOCK, width)], 2) for x in self.own[layer])
        own_k, own_v = self._append(layer, k[0].transpose(0, 1), v[0].transpose(0, 1))

        q = (q[0] * scale).unflatten(1, (prompts, slots)).unflatten(0, (kv_heads, -1))  # [K, H/K, B, G, D]
        by_prompt = q.permute(2, 0, 3, 1, 4).flatten(2, 3)  # [B, K, G * H/K, D]
        by_slot = q.permute(2, 3, 0, 1, 4).flatten(0, 1)  # [B * G, K, H/K, D]
        scores = by_prompt @ self.keys[layer]
        if self.bias is not None:
            scores = scores + self.bias
        own_scores = (by_slot @ own_k.mT).unflatten(0, (prompts, slots)).transpose(1, 2).flatten(2, 3)
        if self._later is not None:
            own_scores = own_scores + self._later
        weights = torch.cat([scores, own_scores], dim=-1).softmax(-1)
        prefix_weights, own_weights = weights.split([scores.shape[-1], own_k.shape[2]], dim=-1)
        out = (prefix_weights @ self.values[layer]).unflatten(2, (slots, -1)).transpose(1, 2)  # [B, G, K, H/K, D]
        own_weights = own_weights.unflatten(2, (slots, -1)).transpose(1, 2).flatten(0, 1)
        out = out.flatten(0, 1) + own_weights @ own_v
        row: Tensor = out.flatten(1, 2).transpose(0, 1)[None]
        return row

    def _append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write ``[B * G, K, D]`` of the newest token; returns all keys and values ``[B * G, K, t, D]``."""
        own = self.own[layer]
        if not self.fixed:
            for buffer, new in zip(own, (k, v), strict=True):
                buffer[:, :, self.length - 1] = new
            return own[0][:, :, : self.length], own[1][:, :, : self.length]
        if layer == 0:
            self._place += 1
            beyond = torch.arange(own[0].shape[2], device=k.device) > self._place
            self._later = torch.zeros(beyond.shape, device=k.device, dtype=k.dtype).masked_fill(beyond, -torch.inf)
        for buffer, new in zip(own, (k, v), strict=True):
            buffer.index_copy_(2, self._place, new[:, :, None])
        return own[0], own[1]

    def compact(self, running: Tensor) -> Tensor | None:
        """Drop ended completions where that makes the grid at least a quarter smaller, or a half if steps are fixed.

        Args:
            running: ``[B * G]`` bool, true where the completion has not ended; at least one is true.

        Returns:
            Indices of the slots that stay, in their new order, or None if nothing was dropped. A slot whose completion
            has ended may stay to keep the grid rectangular.
        """
        grid = running.view(self.shape)
        prompts = grid.any(1).nonzero().squeeze(1)
        slots = int(grid.sum(1).max())
        # A step of other shapes has to be recorded anew, which takes as long as some twenty replays.
        if len(prompts) * slots > (0.5 if self.fixed else 0.75) * grid.numel():
            return None
        order = grid[prompts].sort(dim=1, descending=True, stable=True).indices[:, :slots]
        index = (prompts[:, None] * self.shape[1] + order).flatten()
        if len(prompts) < self.shape[0]:
            self.keys = [x[prompts] for x in self.keys]
            self.values = [x[prompts] for x in self.values]
            self.bias = self.bias[prompts] if self.bias is not None else None
        self.own = [(k[index], v[index]) for k, v in self.own]
        self.shape = (len(prompts), slots)
        return index


class Replay:
    """Calls a function of one tensor, and from the third call on replays its kernels (a CUDA graph).

    The function may change tensors in place, and must always do the same with the same ones: whoever replaces them
    makes a new replay. The first call is an ordinary one, because libraries allocate and choose kernels in it; the
    second is recorded. A function that waits for the device cannot be recorded; it is called as it is, with a warning,
    and nothing is recorded in this process any more.
    """

    possible: ClassVar[bool] = True
    _last: ClassVar[torch.cuda.CUDAGraph | None] = None
    """Its memory serves the next one; memory of a graph that is gone is given back only when the GPU is full."""

    def __init__(self) -> None:
        self._called = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._argument: Tensor | None = None
        self._result: Tensor | None = None

    def __call__(self, function: Callable[[Tensor], Tensor], argument: Tensor) -> Tensor:
        """``function(argument)``, valid until the next call; always the same function, from GPU to GPU."""
        if self._called and self._graph is None and Replay.possible:
            self._argument = argument.clone()
            self._record(function, self._argument)
        self._called = True
        if self._graph is None or self._argument is None or self._result is None:
            return function(argument)
        self._argument.copy_(argument)
        self._graph.replay()
        return self._result

    def _record(self, function: Callable[[Tensor], Tensor], argument: Tensor) -> None:
        """Record a call; nothing is computed."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        # By hand, because torch.cuda.graph() empties the allocator's cache, which the next update has to fill again.
        with torch.cuda.stream(stream):
            pool = Replay._last.pool() if Replay._last is not None else None
            graph.capture_begin(pool, capture_error_mode="thread_local")
            try:
                result = function(argument)
            except RuntimeError as error:
                with suppress(RuntimeError):  # "capture was invalidated", which is known
                    graph.capture_end()
                Replay.possible = False
                warn(f"decoding is not recorded as a CUDA graph, which makes it slower: {error}", stacklevel=2)
                return
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph, self._result = graph, result
        Replay._last = graph


def _padded(x: Tensor, lengths: Sequence[int], longest: int) -> Tensor:
    """``[B, K, P, D]``, zeros on the right, from a row ``[1, K, P, D]``."""
    if min(lengths) == longest:
        rows: Tensor = x[0].unflatten(1, (len(lengths), longest))
        return rows.transpose(0, 1).contiguous()
    padded = x.new_zeros(len(lengths), x.shape[1], longest, x.shape[-1])
    for target, part in zip(padded, x[0].split(list(lengths), dim=1), strict=True):
        target[:, : part.shape[1]] = part
    return padded
