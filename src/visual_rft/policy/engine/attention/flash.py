"""Attention over keys that are kept apart: each part on its own, merged by its log-sum-exp, exact forward and backward.

Decision: a completion attends to its prompt (shared by the group) and to itself. Concatenating the two would copy the
prompt's keys and values G times in every layer, forward and backward. Softmax attention over parts can be merged
exactly (arXiv 2205.14135, section 3.1): with ``o_i`` and ``lse_i`` the output and log-sum-exp of part i,

    lse = log(sum_i exp(lse_i)),    o = sum_i exp(lse_i - lse) * o_i

and the gradients of each part are those of the ordinary backward kernel when it is given the *merged* ``o`` and
``lse``, because the kernel uses them only as the softmax's normaliser and as ``sum(o * do)``.

Shapes: N batch, H query heads, G key/value heads, R = H / G query heads on each of them, Q queries, K keys, D head
dimension.

>>> import torch
>>> q, k, v = torch.randn(3, 1, 2, 5, 16)
>>> out, lse = forward(q, k, v, causal=True, scale=0.25)
>>> bool((out - torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)).abs().max() < 1e-5)
True
"""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def forward(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Output ``[N, H, Q, D]`` and log-sum-exp ``[N, H, Q]`` (float32) of softmax attention.

    Args:
        q: queries ``[N, H, Q, D]``.
        k: keys ``[N, G, K, D]``.
        v: values ``[N, G, K, D]``.
        causal: whether query i sees keys 0..i; needs Q = K.
        scale: factor of the scores.
    """
    if _on_cpu(q):  # this kernel knows that query heads share keys
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
        return out, lse
    repeats = q.shape[1] // k.shape[1]
    q_, (k, v) = _grouped(q, repeats), (_repeated(x, repeats) for x in (k, v))
    if q.device.type == "cuda" and q.dtype in _HALF:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention(q_, k, v, 0.0, causal, scale=scale)[:2]
    else:
        scores = _scores(q_, k, causal, scale)
        lse = scores.logsumexp(-1)
        out = (scores - lse[..., None]).exp().to(v.dtype) @ v
    return out.reshape(q.shape), lse.reshape(q.shape[:-1])


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v through this part, given the merged ``out`` and ``lse``; arguments as :func:`forward`."""
    if _on_cpu(q):
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, causal, scale=scale
        )
        return gradients
    shape, kv_shape, repeats = q.shape, k.shape, q.shape[1] // k.shape[1]
    grad, q, out, lse = (_grouped(x, repeats) for x in (grad, q, out, lse))
    k, v = (_repeated(x, repeats) for x in (k, v))
    grad_q, *by_head = _backward(grad, q, k, v, out, lse, causal, scale)
    grad_k, grad_v = (x.reshape(*kv_shape[:2], repeats, *kv_shape[2:]).sum(2) for x in by_head)
    return grad_q.reshape(shape), grad_k, grad_v


def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`backward`, with as many key heads as query heads."""
    if q.device.type == "cuda" and q.dtype in _HALF:
        none = torch.empty(0, dtype=torch.int64, device="cpu")  # no dropout: the random state is not read
        result = torch.ops.aten._scaled_dot_product_flash_attention_backward(
            grad, q, k, v, out, lse.contiguous(), None, None, q.shape[2], k.shape[2], 0.0, causal, none, none,
            scale=scale,
        )  # fmt: skip
        return result[0], result[1], result[2]
    weights = (_scores(q, k, causal, scale) - lse[..., None]).exp()
    grad, out = grad.float(), out.float()
    slope = weights * (grad @ v.float().mT - (grad * out).sum(-1, keepdim=True)) * scale
    grad_q, grad_k, grad_v = slope @ k.float(), slope.mT @ q.float(), weights.mT @ grad
    return grad_q.to(q.dtype), grad_k.to(k.dtype), grad_v.to(v.dtype)


def merge(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> tuple[Tensor, Tensor]:
    """The output ``[..., D]`` and log-sum-exp ``[...]`` over both parts."""
    merged = torch.logaddexp(lse, other_lse)
    return torch.lerp(other, out, (lse - merged).exp()[..., None].to(out.dtype)), merged


def _on_cpu(q: Tensor) -> bool:
    return q.device.type == "cpu"


def _grouped(x: Tensor, repeats: int) -> Tensor:
    """``[G, R, ...]`` from ``[1, H, ...]``: a single batch leaves its place to the key heads, so that keys need not be
    copied; several stay as they are."""
    grouped: Tensor = x[0].unflatten(0, (-1, repeats)) if len(x) == 1 else x
    return grouped


def _repeated(x: Tensor, repeats: int) -> Tensor:
    """Keys or values for each query head: ``[G, R, K, D]`` of a single batch without a copy, else ``[N, H, K, D]``."""
    if len(x) == 1:
        return x[0, :, None].expand(-1, repeats, -1, -1)
    return x.repeat_interleave(repeats, dim=1)


def _scores(q: Tensor, k: Tensor, causal: bool, scale: float) -> Tensor:
    scores = (q.float() @ k.float().mT) * scale
    if causal:
        length = q.shape[2]
        later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores
