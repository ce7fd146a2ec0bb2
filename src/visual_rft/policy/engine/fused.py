"""The parts of a decoder layer between its attentions, in few and large operations, forward and backward.

Decision: on a CPU a layer of the library is some sixty operations, most of which read and write every activation once.
Two functions take their place: from hidden states to queries, keys and values, and the feed-forward with its residual.
Projections of the same input are one matrix product; the weight of the norm before them is multiplied into the matrix,
so its gradient is a sum over the matrix instead of over the tokens; gradients are written by hand. Tokens run in pieces
that stay in the cache (a piece of 400 takes 10 us for what 1,600 at once take 100).

Same mathematics as the library's modules, other rounding: below 1e-6 of a log-probability in float32.

Shapes: N tokens, E hidden size, H query heads, K key/value heads, M = H + 2 K, D head dimension, I feed-forward size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

PIECE_VALUES = 400_000
"""Values of the widest activation of a piece: 1.6 MB, which the second cache of current processors holds."""


def pieces(tokens: int, width: int) -> Iterator[slice]:
    """Slices of ``tokens`` in which an activation of ``width`` values per token stays in the cache."""
    size = max(64, PIECE_VALUES * torch.get_num_threads() // width)
    count = -(-tokens // size)
    size = -(-tokens // max(count, 1))  # of about the same size
    return (slice(start, min(start + size, tokens)) for start in range(0, tokens, size))


@dataclass(frozen=True)
class Rope:
    """Rotary positions of N tokens.

    Attributes:
        cos: ``[N, 1, D]``.
        sin: ``[N, 1, D]``, negative in the first half: what the other half is multiplied with.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, cos: Tensor, sin: Tensor) -> Rope:
        """From the library's tables ``[N, D]``, whose halves are alike."""
        half = sin.shape[-1] // 2
        return cls(cos[:, None], torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)[:, None])

    def __getitem__(self, tokens: slice | Tensor) -> Rope:
        return Rope(self.cos[tokens], self.sin[tokens])

    def turn(self, x: Tensor) -> Tensor:
        """``[N, heads, D]`` turned."""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, -1), self.sin)

    def turn_back(self, x: Tensor) -> Tensor:
        """The transpose of :meth:`turn`, for gradients."""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, -1), self.sin, value=-1)


def inverse_rms(x: Tensor, eps: Tensor) -> Tensor:
    """``[..., 1]``: one over the root mean square of the last axis; ``eps`` is a scalar tensor."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcmul(eps, length, length, value=1 / x.shape[-1]).rsqrt_()


def _norm_backward(grad: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
    """Gradient of x from that of ``unit = x * inverse``; changes ``grad``."""
    along = torch.linalg.vecdot(grad, unit)[..., None].div_(-unit.shape[-1])
    return grad.addcmul_(unit, along).mul_(inverse)


@dataclass(frozen=True)
class Shape:
    """Numbers that a layer's weights do not tell: heads, key/value heads, head dimension, epsilon of the norms."""

    heads: int
    kv_heads: int
    width: int
    eps: Tensor


def project(
    x: Tensor, rope: Rope, matrix: Tensor, bias: Tensor | None, head_norm: Tensor | None, shape: Shape,
    out: Tensor, unit: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Queries, keys and values of some tokens, written to ``out``.

    Args:
        x: ``[N, E]`` hidden states.
        rope: positions of the tokens.
        matrix: ``[E, M * D]`` the three projections, times the weight of the norm before them.
        bias: ``[M * D]``, if there is one.
        head_norm: ``[H + K, D]`` weights of the norms of queries and keys, if there are any.
        shape: see :class:`Shape`.
        out: ``[N, M, D]``.
        unit: ``[N, H + K, D]`` to which queries and keys before the weights of their norm are written.

    Returns:
        One over the root mean square ``[N, 1]`` of hidden states, and ``[N, H + K, 1]`` of queries and keys.
    """
    inverse = inverse_rms(x, shape.eps)
    if bias is None:
        torch.mm(x * inverse, matrix, out=out.flatten(1))
    else:
        torch.addmm(bias, x * inverse, matrix, out=out.flatten(1))
    turned, unit_inverse = out[:, : shape.heads + shape.kv_heads], None
    if head_norm is None:
        turned.copy_(rope.turn(turned))
    else:
        unit_inverse = inverse_rms(turned, shape.eps)
        unit = torch.mul(turned, unit_inverse, out=unit)
        turned.copy_(rope.turn(unit * head_norm))
    return inverse, unit_inverse


class Projections(torch.autograd.Function):
    """``q [N, H, D], k [N, K, D], v [N, K, D]`` of hidden states ``[N, E]``: norm, projections, norms of queries and
    keys, positions."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, shape: Shape, norm: Tensor, q: Tensor, k: Tensor, v: Tensor,
        q_bias: Tensor | None, k_bias: Tensor | None, v_bias: Tensor | None, q_norm: Tensor | None,
        k_norm: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        matrix, rope = torch.cat([q, k, v]).mul_(norm), Rope(cos, sin)
        bias = None if q_bias is None or k_bias is None or v_bias is None else torch.cat([q_bias, k_bias, v_bias])
        head_norm = head_norms(q_norm, k_norm, shape)
        out = x.new_empty(len(x), len(matrix) // shape.width, shape.width)
        inverse, unit, unit_inverse = x.new_empty(len(x), 1), None, None
        if head_norm is not None:
            unit, unit_inverse = x.new_empty(len(x), *head_norm.shape), x.new_empty(len(x), len(head_norm), 1)
        for p in pieces(len(x), len(matrix)):
            of_unit = None if unit is None else unit[p]
            inverse[p], found = project(x[p], rope[p], matrix.T, bias, head_norm, shape, out[p], of_unit)
            if unit_inverse is not None and found is not None:
                unit_inverse[p] = found
        ctx.save_for_backward(x, cos, sin, norm, q, k, v, q_norm, k_norm, inverse, unit, unit_inverse)
        ctx.shape, ctx.has_bias = shape, bias is not None
        heads: tuple[Tensor, Tensor, Tensor] = out.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
        return heads

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin, norm, q, k, v, q_norm, k_norm, inverse, unit, unit_inverse = ctx.saved_tensors
        shape, learns = ctx.shape, any(ctx.needs_input_grad[4:8])
        plain = torch.cat([q, k, v])
        matrix, rope, head_norm = plain * norm, Rope(cos, sin), head_norms(q_norm, k_norm, shape)
        grad_x, grad_matrix = torch.empty_like(x), torch.zeros_like(matrix)
        grad_bias = matrix.new_zeros(len(matrix))
        grad_heads = None if head_norm is None else torch.zeros_like(head_norm)
        turned = shape.heads + shape.kv_heads
        for p in pieces(len(x), len(matrix)):
            grad = torch.cat([part[p] for part in grads], dim=1)  # [n, M, D]
            back = rope[p].turn_back(grad[:, :turned])
            if head_norm is not None:
                grad_heads += (back * unit[p]).sum(0)
                back = _norm_backward(back.mul_(head_norm), unit[p], unit_inverse[p])
            grad[:, :turned] = back
            flat, normed = grad.flatten(1), x[p] * inverse[p]
            if learns:
                grad_matrix.addmm_(flat.T, normed)
            if ctx.has_bias:
                grad_bias += flat.sum(0)
            grad_x[p] = _norm_backward(flat @ matrix, normed, inverse[p])
        grad_norm = (grad_matrix * plain).sum(0)
        sizes = [len(part) for part in (q, k, v)]
        biases = grad_bias.split(sizes) if ctx.has_bias else (None, None, None)
        of_heads: tuple[Tensor | None, ...] = (None, None)
        if grad_heads is not None:
            of_heads = tuple(part.sum(0) for part in grad_heads.split([shape.heads, shape.kv_heads]))
        return grad_x, None, None, None, grad_norm, *grad_matrix.mul_(norm).split(sizes), *biases, *of_heads


def head_norms(q_norm: Tensor | None, k_norm: Tensor | None, shape: Shape) -> Tensor | None:
    """``[H + K, D]`` weights of the norms of queries and keys."""
    if q_norm is None or k_norm is None:
        return None
    return torch.cat([q_norm.expand(shape.heads, -1), k_norm.expand(shape.kv_heads, -1)])


def feed(x: Tensor, matrix: Tensor, down: Tensor, eps: Tensor, out: Tensor, wide: Tensor) -> Tensor:
    """``x`` plus the feed-forward of it, written to ``out``.

    Args:
        x: ``[N, E]`` hidden states.
        matrix: ``[E, 2 I]`` gate and up, times the weight of the norm before them.
        down: ``[I, E]``.
        eps: of the norm.
        out: ``[N, E]``.
        wide: ``[N, 2 I]`` to which gate and up are written.

    Returns:
        One over the root mean square ``[N, 1]`` of hidden states.
    """
    inverse = inverse_rms(x, eps)
    gate, up = torch.mm(x * inverse, matrix, out=wide).chunk(2, dim=1)
    torch.addmm(x, silu(gate).mul_(up), down, out=out)
    return inverse


class FeedForward(torch.autograd.Function):
    """``x + down(silu(gate(norm(x))) * up(norm(x)))`` of hidden states ``[N, E]``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: Tensor, norm: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        matrix = torch.cat([gate, up]).mul_(norm)
        out, inverse, wide = torch.empty_like(x), x.new_empty(len(x), 1), x.new_empty(len(x), len(matrix))
        for p in pieces(len(x), len(matrix)):
            inverse[p] = feed(x[p], matrix.T, down.T, eps, out[p], wide[p])
        ctx.save_for_backward(x, norm, gate, up, down, inverse, wide)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, gate, up, down, inverse, wide = ctx.saved_tensors
        learns = any(ctx.needs_input_grad[2:])
        plain = torch.cat([gate, up])
        matrix = plain * norm
        grad_x, grad_matrix, grad_down = torch.empty_like(x), torch.zeros_like(matrix), torch.zeros_like(down)
        for p in pieces(len(x), len(matrix)):
            grad = grads[0][p]
            gate_, up_ = wide[p].chunk(2, dim=1)  # [n, I]
            # One sigmoid for the activation and for its slope, s + silu * (1 - s).
            sigmoid = gate_.sigmoid()
            opened = gate_ * sigmoid
            slope = torch.addcmul(opened, opened, sigmoid, value=-1).add_(sigmoid)
            grad_inner = grad @ down
            if learns:
                grad_down.addmm_(grad.T, opened * up_)
            grad_wide = torch.empty_like(wide[p])
            grad_gate, grad_up = grad_wide.chunk(2, dim=1)
            torch.mul(grad_inner, opened, out=grad_up)
            torch.mul(grad_inner.mul_(up_), slope, out=grad_gate)
            normed = x[p] * inverse[p]
            if learns:
                grad_matrix.addmm_(grad_wide.T, normed)
            grad_x[p] = _norm_backward(grad_wide @ matrix, normed, inverse[p]).add_(grad)
        grad_norm = (grad_matrix * plain).sum(0)
        of_gate, of_up = grad_matrix.mul_(norm).chunk(2)
        return grad_x, None, grad_norm, of_gate, of_up, grad_down
