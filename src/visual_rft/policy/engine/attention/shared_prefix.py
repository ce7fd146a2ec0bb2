"""Attention on a shared prefix, through the attention interface of stock transformers models.

Decision: nothing is padded and nothing is copied. All tokens of a forward pass lie in one row ``[1, N]``, prompt after
prompt or completion after completion, so every linear layer works on real tokens only; attention alone knows where one
sequence ends (``layout.py``) and which prompt a completion continues. The model stays the library's own: its language
model is told to use the attention named ``shared_prefix``, and a keyword argument of its forward pass says which of
these it is:

* :class:`PromptAttention`: each prompt attends to itself and leaves its keys and values behind;
* :class:`CompletionAttention`: each completion attends to its prompt and to itself, with exact gradients to both;
* :class:`DecodingAttention` (``decoding.py``): one new token per completion;
* none: the library's SDPA, as without us.

No cache object takes part in training, so gradient checkpointing may run a layer twice without harm.

Shapes: N tokens in the row, H heads, K key/value heads, D head dimension, B prompts, P prompt tokens in all, p those of
one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from visual_rft.policy.engine.attention import flash
from visual_rft.policy.engine.attention.layout import Layout

SHARED_PREFIX_ATTENTION = "shared_prefix"
"""Name under which the library knows this attention implementation."""
Layers = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values ``[P, K, D]`` of every layer."""


class Attend(Protocol):
    """What attention does in one forward pass."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """``[N, H, D]`` from queries ``[N, H, D]`` and keys and values ``[N, K, D]`` of a layer."""


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
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    row = attend(int(module.layer_idx), q, k, v, scale)
    return row[None], None


def _mask(
    batch_size: int, q_length: int, kv_length: int, *, attention_mask: Tensor | None = None, **options: Any
) -> Tensor | None:
    """None for a row of tokens without a mask: positions that begin anew would make the library build one of N x N,
    369 MB for 19,200 tokens, which our attention does not read."""
    if attention_mask is None and q_length == kv_length:
        return None
    mask: Tensor | None = sdpa_mask(
        batch_size=batch_size, q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **options
    )
    return mask


AttentionInterface.register(SHARED_PREFIX_ATTENTION, _attention)
AttentionMaskInterface.register(SHARED_PREFIX_ATTENTION, _mask)


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
        shared = q.device.type == "cpu" and k.shape[1] < q.shape[1]  # elsewhere not every kernel knows shared keys
        if not shared:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))  # [P, H, D]
        prompts = len(self.lengths)
        if len(set(self.lengths)) == 1:
            parts = [tuple(x.unflatten(0, (prompts, -1)).transpose(1, 2) for x in (q, k, v))]  # [B, H, p, D] each
        else:
            split = zip(*(x.split(self.lengths) for x in (q, k, v)), strict=True)
            parts = [tuple(x.transpose(0, 1)[None] for x in part) for part in split]  # [1, H, p, D] each
        options: dict[str, Any] = {"is_causal": True, "scale": scale, "enable_gqa": shared}
        outputs = [scaled_dot_product_attention(*part, **options).transpose(1, 2).flatten(0, 1) for part in parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)  # [P, H, D]


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
        # To itself, causally: one pass over all completions of about the same length.
        rectangles = zip(*(layout.split(x) for x in (q, k, v)), strict=True)
        parts = [flash.forward(*part, causal=True, scale=scale) for part in rectangles]
        out, lse = (
            layout.join([part for part, _ in parts]),
            layout.join([part for _, part in parts]),
        )  # [N, H, D], [N, H]
        # To its prompt: a pass per prompt, over all its completions.
        for prompt, tokens in layout.groups:
            before = flash.forward(
                _batch(q[tokens]), _batch(prefix_k[prompt]), _batch(prefix_v[prompt]), causal=False, scale=scale
            )
            before_out, before_lse = (x[0].transpose(0, 1) for x in before)
            out[tokens], lse[tokens] = flash.merge(before_out, before_lse, out[tokens], lse[tokens])
        ctx.save_for_backward(q, k, v, prefix_k, prefix_v, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, prefix_k, prefix_v, out, lse = ctx.saved_tensors
        layout, scale, (grad,) = ctx.layout, ctx.scale, grads
        split = (layout.split(grad, gradient=True), *(layout.split(x) for x in (q, k, v, out, lse)))
        parts = [flash.backward(*part, causal=True, scale=scale) for part in zip(*split, strict=True)]
        of_q, of_k, of_v = zip(*parts, strict=True)
        grad_q, grad_k, grad_v = layout.join(of_q), layout.join_sum(of_k), layout.join_sum(of_v)
        prefix_grads = [torch.zeros_like(x) for x in (prefix_k, prefix_v)]  # [P, K, D]
        for prompt, tokens in layout.groups:
            # The gradients of a part take the merged output and log-sum-exp (flash.py).
            more_q, *more = flash.backward(
                _batch(grad[tokens]), _batch(q[tokens]), _batch(prefix_k[prompt]), _batch(prefix_v[prompt]),
                _batch(out[tokens]), _batch(lse[tokens]), causal=False, scale=scale,
            )  # fmt: skip
            grad_q[tokens] += more_q[0].transpose(0, 1)
            for prefix_grad, x in zip(prefix_grads, more, strict=True):
                prefix_grad[prompt] = x[0].transpose(0, 1)
        return grad_q, grad_k, grad_v, *prefix_grads, None, None


def _batch(x: Tensor) -> Tensor:
    """``[1, H, N, ...]`` from ``[N, H, ...]``."""
    return x.transpose(0, 1)[None]
