"""Attention on a shared prefix, through the attention interface of stock transformers models.

Decision: nothing is padded and nothing is copied. All tokens of a forward pass lie in one row ``[1, N]``, prompt after
prompt or completion after completion, so every linear layer works on real tokens only; attention alone knows where one
sequence ends and which prompt a completion continues. The model stays the library's own: its language model is told to
use the attention named ``shared_prefix``, and a keyword argument of its forward pass says which of these it is:

* :class:`PromptAttention`: each prompt attends to itself and leaves its keys and values behind;
* :class:`CompletionAttention`: each completion attends to its prompt and to itself, with exact gradients to both;
* :class:`DecodingAttention` (``decoding.py``): one new token per completion;
* none: the library's SDPA, as without us.

No cache object takes part in training, so gradient checkpointing may run a layer twice without harm.

Shapes: N tokens in the row, H heads, K key/value heads, R = H / K query heads on each of them, D head dimension, P
prompt tokens in all, p and n those of one prompt and of its completions, C completions, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from visual_rft.policy.engine import flash

SHARED_PREFIX_ATTENTION = "shared_prefix"
"""Name under which the library knows this attention implementation."""
Layers = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values ``[1, K, P, D]`` of every layer."""


class Attend(Protocol):
    """What attention does in one forward pass."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """``[1, H, N, D]`` from queries ``[1, H, N, D]`` and keys and values ``[1, K, N, D]`` of a layer."""


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    scaling: float | None = None, attend: Attend | None = None, **options: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """The function behind :data:`SHARED_PREFIX_ATTENTION`."""
    if attend is None:
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return output
    device = query.device.type
    if torch.is_autocast_enabled(device):  # as SDPA itself does; a norm may have left queries in float32
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return attend(int(module.layer_idx), query, key, value, scale).transpose(1, 2), None


AttentionInterface.register(SHARED_PREFIX_ATTENTION, _attention)
AttentionMaskInterface.register(SHARED_PREFIX_ATTENTION, sdpa_mask)


class PromptAttention:
    """Each prompt attends to itself, causally; keys and values are kept until :meth:`take`.

    Args:
        lengths: tokens of each prompt.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = tuple(lengths)
        self._layers: dict[int, tuple[Tensor, Tensor]] | None = {}

    def take(self) -> Layers:
        """Keys and values of every layer, with graph if gradients are enabled; once, after the forward pass.

        A checkpointed layer keeps this object in its graph to run again in the backward pass. Keeping the graph here in
        turn would be a circle that nothing frees where a prefix is dropped without a backward pass.
        """
        assert self._layers is not None
        layers, self._layers = tuple(self._layers[i] for i in sorted(self._layers)), None
        return layers

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        if self._layers is not None:  # gradient checkpointing runs a layer again in the backward pass
            self._layers[layer] = (k, v)
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))  # [1, H, N, D]
        if len(set(self.lengths)) == 1:
            q, k, v = (_rows(x, len(self.lengths)) for x in (q, k, v))  # [prompts, H, p, D]
            return _row(scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale))
        prompts = zip(*(x.split(self.lengths, dim=2) for x in (q, k, v)), strict=True)  # [1, H, p, D] each
        outputs = [scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale) for q, k, v in prompts]
        return torch.cat(outputs, dim=2)


@dataclass(frozen=True)
class Layout:
    """Where the tokens of each completion lie in the row.

    Attributes:
        lengths: tokens of each completion, at least 1.
        prompts: the prompt that each completion continues, ascending.
        prompt_lengths: tokens of every prompt.
        device: device of the tokens.
    """

    lengths: tuple[int, ...]
    prompts: tuple[int, ...]
    prompt_lengths: tuple[int, ...]
    device: torch.device

    @cached_property
    def groups(self) -> list[tuple[slice, slice]]:
        """For each prompt that is continued: its tokens, and the tokens of its completions."""
        starts = [0]
        for length in self.prompt_lengths:
            starts.append(starts[-1] + length)
        tokens: dict[int, int] = {}
        for prompt, length in zip(self.prompts, self.lengths, strict=True):
            tokens[prompt] = tokens.get(prompt, 0) + length
        found, place = [], 0
        for prompt, count in tokens.items():
            found.append((slice(starts[prompt], starts[prompt + 1]), slice(place, place + count)))
            place += count
        return found

    @cached_property
    def _padded(self) -> tuple[Tensor, Tensor] | None:
        """Indices ``[C, T]`` of tokens and which are real; None where all lengths are equal."""
        longest = max(self.lengths)
        if min(self.lengths) == longest:
            return None
        lengths = torch.tensor(self.lengths, device=self.device)
        steps = torch.arange(longest, device=self.device)
        real = steps < lengths[:, None]
        return ((lengths.cumsum(0) - lengths)[:, None] + steps).where(real, 0), real

    def split(self, x: Tensor, fill: float | None = None) -> Tensor:
        """``[C, H, T, ...]`` from ``[H, N, ...]``, padded with ``fill`` (None: with anything)."""
        if self._padded is None:
            return _rows(x[None], len(self.lengths))
        index, real = self._padded
        rows = x[:, index]  # [H, C, T, ...]
        if fill is not None:
            rows = rows.where(real.view(real.shape + (1,) * (x.ndim - 2)), fill)
        return rows.transpose(0, 1)

    def join(self, x: Tensor) -> Tensor:
        """``[H, N, ...]`` from ``[C, H, T, ...]``."""
        rows = x.transpose(0, 1)  # [H, C, T, ...]
        return rows.flatten(1, 2) if self._padded is None else rows[:, self._padded[1]]


class CompletionAttention:
    """Each completion attends to its prompt, which is stored once, and causally to itself.

    Args:
        layers: keys and values of the prompts; gradients flow to them.
        layout: where the completions lie.
    """

    def __init__(self, layers: Layers, layout: Layout) -> None:
        self.layers, self.layout = layers, layout

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        result: Tensor = _Shared.apply(q, k, v, *self.layers[layer], self.layout, scale)
        return result


class _Shared(torch.autograd.Function):
    """Attention to a shared prefix and to oneself as two flash passes, merged (``flash.py``)."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, prefix_k: Tensor, prefix_v: Tensor, layout: Layout, scale: float
    ) -> Tensor:
        heads, kv_heads = q.shape[1], k.shape[1]
        # To itself, causally: one pass over all completions.
        own_k, own_v = _own_keys(k, v, heads, layout)  # [C, H, T, D]
        rows, rows_lse = flash.forward(layout.split(q[0]), own_k, own_v, causal=True, scale=scale)
        own, own_lse = layout.join(rows), layout.join(rows_lse)  # [H, N, D], [H, N]
        # To its prompt: a pass per prompt, over all its completions.
        out, lse = torch.empty_like(own), torch.empty_like(own_lse)
        for prompt, tokens in layout.groups:
            before_k, before_v = _prefix_keys(prefix_k, prefix_v, prompt, heads)  # [K, R, p, D]
            before, before_lse = flash.forward(
                _grouped(q[0, :, tokens], kv_heads), before_k, before_v, causal=False, scale=scale
            )  # [K, R, n, D], [K, R, n]
            out[:, tokens], lse[:, tokens] = flash.merge(
                before.flatten(0, 1), before_lse.flatten(0, 1), own[:, tokens], own_lse[:, tokens]
            )
        ctx.save_for_backward(q, k, v, prefix_k, prefix_v, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out[None]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, prefix_k, prefix_v, out, lse = ctx.saved_tensors
        layout, scale = ctx.layout, ctx.scale
        heads, kv_heads = q.shape[1], k.shape[1]
        queries, grad = q[0], grads[0][0]  # [H, N, D]
        own_k, own_v = _own_keys(k, v, heads, layout)  # [C, H, T, D]
        # Padding has log-sum-exp infinity, so its weights are exp(-inf) = 0 and it passes nothing on.
        rows = flash.backward(
            layout.split(grad, 0.0), layout.split(queries), own_k, own_v,
            layout.split(out), layout.split(lse, torch.inf), causal=True, scale=scale,
        )  # fmt: skip
        grad_q, *by_head = (layout.join(x) for x in rows)  # [H, N, D]
        grad_k, grad_v = (x.unflatten(0, (kv_heads, -1)).sum(1) for x in by_head)  # [K, N, D]
        prefix_grads = [torch.zeros_like(x) for x in (prefix_k, prefix_v)]  # [1, K, P, D]
        for prompt, tokens in layout.groups:
            before_k, before_v = _prefix_keys(prefix_k, prefix_v, prompt, heads)  # [K, R, p, D]
            # The gradients of a part take the merged output and log-sum-exp (flash.py).
            part_grad, part_q, part_out, part_lse = (
                _grouped(x[:, tokens], kv_heads) for x in (grad, queries, out, lse)
            )  # [K, R, n, D], the last [K, R, n]
            more_q, *more = flash.backward(
                part_grad, part_q, before_k, before_v, part_out, part_lse, causal=False, scale=scale
            )
            grad_q[:, tokens] += more_q.flatten(0, 1)
            for prefix_grad, x in zip(prefix_grads, more, strict=True):
                prefix_grad[0, :, prompt] = x.sum(1)  # [K, p, D] from [K, R, p, D]
        return grad_q[None], grad_k[None], grad_v[None], *prefix_grads, None, None


def _own_keys(k: Tensor, v: Tensor, heads: int, layout: Layout) -> tuple[Tensor, Tensor]:
    """Keys and values of the completions, ``[C, H, T, D]`` each."""
    k, v = (layout.split(x[0]).repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v))
    return k, v


def _prefix_keys(k: Tensor, v: Tensor, prompt: slice, heads: int) -> tuple[Tensor, Tensor]:
    """Keys and values of one prompt, ``[K, R, p, D]`` each, expanded without a copy."""
    k, v = (x[0, :, None, prompt].expand(-1, heads // x.shape[1], -1, -1) for x in (k, v))
    return k, v


def _grouped(x: Tensor, kv_heads: int) -> Tensor:
    """``[K, R, ...]`` from ``[H, ...]``: query heads beside those that share their keys."""
    grouped: Tensor = x.unflatten(0, (kv_heads, -1))
    return grouped


def _rows(x: Tensor, count: int) -> Tensor:
    """``[count, H, T, D]`` from a row ``[1, H, count * T, D]``."""
    rows: Tensor = x[0].unflatten(1, (count, -1))
    return rows.transpose(0, 1)


def _row(x: Tensor) -> Tensor:
    """``[1, H, count * T, D]`` from ``[count, H, T, D]``."""
    return x.transpose(0, 1).flatten(1, 2)[None]
