"""One new token per completion on the shared prefix.

Decision: the completions of a prompt form a grid ``[B, G]``, so all G queries of a prompt meet its keys in one matrix
product and the prompt is read once per layer and token instead of G times. The keys of the completions themselves lie
in buffers that grow in blocks of 64 tokens, so a token is written in place and nothing is concatenated. When
completions have ended, the grid is made smaller.

On a GPU a step is some thousand small kernels, which take longer to launch than to run: 28 ms against 5 ms for the
shapes of Qwen2-VL-2B on an H200. :class:`Replay` records them once and starts them together; what it records must not
change in shape or place, so there a step works on whole blocks and masks what is not yet written.

Shapes: B prompts, G slots per prompt, H heads, K key/value heads, R = H / K query heads on each of them, D head
dimension, P tokens of the longest prompt, T tokens of the completions that a step looks at.

    attention = DecodingAttention(prefix.layers, prefix.lengths, group_size)
    for q, k, v in steps:                       # [1, H, B * G, D] and twice [1, K, B * G, D]
        attention.begin_token()                 # then every layer, once
        attention(layer, q, k, v, scale)        # [1, H, B * G, D]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar
from warnings import warn

import torch
from torch import Tensor

from visual_rft.policy.engine.attention import Layers

BLOCK_TOKENS = 64
"""Tokens by which the buffers grow."""


class DecodingAttention:
    """Attention of the newest token of every completion; :meth:`begin_token`, then one call for every layer.

    Args:
        layers: keys and values ``[1, K, tokens of all prompts, D]`` of every layer.
        prompt_lengths: tokens of each prompt.
        group_size: completions per prompt.
        fixed: every step works on whole blocks, so that its shapes change with :attr:`blocks` only.

    Attributes:
        shape: (B, G), the grid of completions.
        length: tokens of each completion, the newest included.
        prefix_keys: ``[B, K, D, P]`` of every layer, transposed, so that scores are one product.
        prefix_values: ``[B, K, P, D]`` of every layer.
        prefix_bias: ``[B, 1, 1, P]``, minus infinity beyond a prompt's end; None where all are equally long.
        own_keys: ``[B * G, K, whole blocks, D]`` of every layer, zeros where nothing is written yet.
        own_values: values of the same shape.
        own_bias: ``[whole blocks]``, minus infinity where nothing is written yet; None unless steps are fixed.
    """

    def __init__(self, layers: Layers, prompt_lengths: Sequence[int], group_size: int, *, fixed: bool = False) -> None:
        longest, some_keys = max(prompt_lengths), layers[0][0]
        self.fixed = fixed
        self.shape = (len(prompt_lengths), group_size)
        self.length = 0
        self.prefix_keys = [_padded(k.detach(), prompt_lengths, longest).mT for k, _ in layers]
        self.prefix_values = [_padded(v.detach(), prompt_lengths, longest) for _, v in layers]
        self.prefix_bias: Tensor | None = None
        if min(prompt_lengths) < longest:
            lengths = torch.tensor(prompt_lengths, device=some_keys.device)
            beyond = torch.arange(longest, device=some_keys.device) >= lengths[:, None]  # [B, P]
            self.prefix_bias = some_keys.new_zeros(beyond.shape).masked_fill(beyond, -torch.inf)[:, None, None]
        rows = len(prompt_lengths) * group_size
        self.own_keys = [k.new_empty(rows, k.shape[1], 0, k.shape[3]) for k, _ in layers]
        self.own_values = [v.new_empty(rows, v.shape[1], 0, v.shape[3]) for _, v in layers]
        # A fixed step is replayed without this code, so what it knows of the length must be on the device.
        self.own_bias = some_keys.new_empty(0) if fixed else None
        self._place = torch.full((1,), -1, device=some_keys.device)

    @property
    def blocks(self) -> int:
        """Blocks that the completions need."""
        return -(-self.length // BLOCK_TOKENS)

    def begin_token(self) -> None:
        """Make room for one more token of every completion; the calls of all layers write it and attend to it."""
        self.length += 1
        if self.own_keys[0].shape[2] < self.length:
            # One layer after the other, so that only one of them is there twice.
            for buffers in (self.own_keys, self.own_values):
                for layer, x in enumerate(buffers):
                    buffers[layer] = torch.cat([x, x.new_zeros(*x.shape[:2], BLOCK_TOKENS, x.shape[3])], dim=2)
            if self.own_bias is not None:
                self.own_bias = torch.cat([self.own_bias, self.own_bias.new_full((BLOCK_TOKENS,), -torch.inf)])
        if self.own_bias is not None:  # in place: a recorded step reads these very tensors
            self._place += 1
            self.own_bias.index_fill_(0, self._place, 0)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        (prompts, slots), kv_heads = self.shape, k.shape[1]
        own_k, own_v = self._append(layer, k[0].transpose(0, 1), v[0].transpose(0, 1))  # [B * G, K, T, D]

        heads = (q[0] * scale).unflatten(1, (prompts, slots)).unflatten(0, (kv_heads, -1))  # [K, R, B, G, D]
        by_prompt = heads.permute(2, 0, 3, 1, 4).flatten(2, 3)  # [B, K, G * R, D]
        by_slot = heads.permute(2, 3, 0, 1, 4).flatten(0, 1)  # [B * G, K, R, D]

        prefix_scores = by_prompt @ self.prefix_keys[layer]  # [B, K, G * R, P]
        if self.prefix_bias is not None:
            prefix_scores = prefix_scores + self.prefix_bias
        own_scores = by_slot @ own_k.mT  # [B * G, K, R, T]
        if self.own_bias is not None:
            own_scores = own_scores + self.own_bias
        own_scores = own_scores.unflatten(0, (prompts, slots)).transpose(1, 2).flatten(2, 3)  # [B, K, G * R, T]

        weights = torch.cat([prefix_scores, own_scores], dim=-1).softmax(-1)  # [B, K, G * R, P + T]
        prefix_weights, own_weights = weights.split([prefix_scores.shape[-1], own_scores.shape[-1]], dim=-1)
        from_prefix = (prefix_weights @ self.prefix_values[layer]).unflatten(2, (slots, -1))  # [B, K, G, R, D]
        own_weights = own_weights.unflatten(2, (slots, -1)).transpose(1, 2).flatten(0, 1)  # [B * G, K, R, T]
        out = from_prefix.transpose(1, 2).flatten(0, 1) + own_weights @ own_v  # [B * G, K, R, D]
        row: Tensor = out.flatten(1, 2).transpose(0, 1)[None]  # [1, H, B * G, D]
        return row

    def _append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write ``[B * G, K, D]`` of the newest token; returns all keys and values ``[B * G, K, T, D]``."""
        own_k, own_v = self.own_keys[layer], self.own_values[layer]
        if self.fixed:
            own_k.index_copy_(2, self._place, k[:, :, None])
            own_v.index_copy_(2, self._place, v[:, :, None])
            return own_k, own_v
        own_k[:, :, self.length - 1] = k
        own_v[:, :, self.length - 1] = v
        return own_k[:, :, : self.length], own_v[:, :, : self.length]

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
        order = grid[prompts].sort(dim=1, descending=True, stable=True).indices[:, :slots]  # running ones first
        index = (prompts[:, None] * self.shape[1] + order).flatten()
        if len(prompts) < self.shape[0]:
            self.prefix_keys = [k[prompts] for k in self.prefix_keys]
            self.prefix_values = [v[prompts] for v in self.prefix_values]
            if self.prefix_bias is not None:
                self.prefix_bias = self.prefix_bias[prompts]
        self.own_keys = [k[index] for k in self.own_keys]
        self.own_values = [v[index] for v in self.own_values]
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
