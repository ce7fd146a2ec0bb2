"""Log-probabilities of tokens from hidden states, in pieces.

Decision: the logits of all completion tokens at once are the largest tensor of a step (a vocabulary of 152,000 in
float32 costs 0.6 MB per token). Only they are kept, tempered where they lie, not their log-softmax beside them; beyond
:data:`MAX_PIECE_BYTES` they are made for a bounded number of tokens at a time and made again in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from visual_rft.policy.engine.constraint import Constraint
from visual_rft.policy.engine.prefix import Prefix, Rows

MAX_PIECE_BYTES = 256 * 2**20
"""Bytes of the largest tensor of logits that is made at once, float32."""


def tokens_at_once(vocabulary: int, max_piece_bytes: int = MAX_PIECE_BYTES) -> int:
    """Tokens whose logits are made at once, at least 1.

    >>> tokens_at_once(152_000)
    441
    """
    return max(1, max_piece_bytes // (4 * vocabulary))


class Head:
    """The output embedding and the distribution that is sampled: tempered, placeholders excluded.

    Args:
        projection: output embedding, from hidden states to logits.
        temperature: divides the logits, > 0.
        forbidden: ids that are never sampled.
        constraint: pattern that completions follow; None lets them say anything.
        max_piece_bytes: bytes of the largest tensor of logits that is made at once.
    """

    def __init__(
        self,
        projection: Any,
        temperature: float,
        forbidden: Tensor,
        constraint: Constraint | None = None,
        max_piece_bytes: int = MAX_PIECE_BYTES,
    ) -> None:
        self.projection, self.temperature, self.forbidden = projection, temperature, forbidden
        self.max_piece_bytes, self.constraint = max_piece_bytes, constraint

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.projection.weight.device
        return device

    def __call__(self, hidden: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Log-probabilities ``[..., V]`` (float32, without graph) after hidden states ``[..., E]``; ``-inf`` where
        ``allowed``, of the same shape, is false."""
        with torch.no_grad():
            return self._tempered(self.projection(hidden), allowed).log_softmax(-1)

    def allowed_bits(self, prefix: Prefix, rows: Rows) -> Tensor | None:
        """What the constraint allowed at each token of completions ``[n, T]``, as bits; None without one."""
        if self.constraint is None:
            return None
        tasks = [prefix.inputs.prompts[number].task for number in rows.prompts]
        return self.constraint.bits(rows.ids, rows.mask, tasks)

    def _tempered(self, logits: Tensor, allowed: Tensor | None = None) -> Tensor:
        """The logits of the one distribution that is sampled and scored, float32; written over ``logits`` where these
        are float32 (nothing else reads them, and a copy is the largest tensor of a step once more)."""
        logits = logits.float()
        if self.temperature != 1:
            logits.div_(self.temperature)
        if self.forbidden.numel():
            logits.index_fill_(-1, self.forbidden, -torch.inf)
        return logits if allowed is None else logits.masked_fill_(~allowed.to(logits.device), -torch.inf)

    def of_tokens(
        self, hidden: Tensor, tokens: Tensor, bits: Tensor | None = None, sources: Tensor | None = None
    ) -> Tensor:
        """Log-probability ``[N]`` of one token each; ``-inf`` if never sampled.

        Args:
            hidden: ``[M, E]`` hidden states.
            tokens: N ids.
            bits: ``[N, words]`` of :meth:`allowed_bits`, in the order of the tokens.
            sources: ``[N]`` the hidden state that each token follows; None where they lie side by side.
        """
        size = tokens_at_once(int(self.projection.weight.shape[0]), self.max_piece_bytes)
        if sources is not None and (bits is not None or len(hidden) > size):
            hidden, sources = hidden.index_select(0, sources), None
        if len(hidden) <= size:
            return self._token_logprobs(hidden, tokens, bits, sources)
        parts = [None] * -(-len(tokens) // size) if bits is None else bits.split(size)
        pieces = zip(hidden.split(size), tokens.split(size), parts, strict=True)
        if not torch.is_grad_enabled():
            return torch.cat([self._token_logprobs(*piece) for piece in pieces])
        # use_reentrant=True would give wrong gradients where the hidden states come from another checkpoint.
        return torch.cat([checkpoint(self._token_logprobs, *piece, use_reentrant=False) for piece in pieces])

    def _token_logprobs(
        self, hidden: Tensor, tokens: Tensor, bits: Tensor | None, sources: Tensor | None = None
    ) -> Tensor:
        allowed = None if bits is None or self.constraint is None else self.constraint.unpacked(bits)
        if sources is None:
            sources = torch.arange(len(tokens), device=tokens.device)
        logprobs: Tensor = _TokenLogprobs.apply(self.projection(hidden), tokens, sources, self, allowed)
        return logprobs


class _TokenLogprobs(torch.autograd.Function):
    """``t[s[n], token[n]] - logsumexp(t[s[n]])`` of tempered logits t, whose gradient is ``one-hot - softmax``, summed
    over n; what is never sampled has none."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, tokens: Tensor, sources: Tensor, head: Head, allowed: Tensor | None
    ) -> Tensor:
        tempered = head._tempered(logits, allowed)
        total = tempered.logsumexp(-1)
        ctx.save_for_backward(tempered, total, tokens, sources)
        ctx.temperature, ctx.dtype = head.temperature, logits.dtype
        return tempered[sources, tokens] - total[sources]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tempered, total, tokens, sources = ctx.saved_tensors
        grad = grads[0] if ctx.temperature == 1 else grads[0] / ctx.temperature
        of_row = torch.zeros_like(total).index_add_(0, sources, grad)
        slope = (tempered - total[:, None]).exp_().mul_(-of_row[:, None])
        slope.index_put_((sources, tokens), grad, accumulate=True)
        return slope.to(ctx.dtype), None, None, None, None
