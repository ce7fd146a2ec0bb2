"""One new token per completion on the shared prefix.

Decision: the completions of a prompt form a grid ``[B, G]``, so all G queries of a prompt meet its keys in one matrix
product and the prompt is read once per layer and token instead of G times. The keys of the completions themselves lie
in buffers that grow in blocks of 64 tokens, so a token is written in place and nothing is concatenated. When
completions have ended, the grid is made smaller.

Shapes: B prompts, G slots per prompt, H heads, K key/value heads, D head dimension, t tokens so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visual_rft.policy.attention import Layers

BLOCK = 64
"""Tokens by which the buffers grow."""


class DecodingAttention:
    """Attention of the newest token of every completion.

    Args:
        layers: keys and values of the prompts.
        prompt_lengths: tokens of each prompt.
        group_size: completions per prompt.
    """

    def __init__(self, layers: Layers, prompt_lengths: Sequence[int], group_size: int) -> None:
        longest = max(prompt_lengths)
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

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        (prompts, slots), kv_heads, width = self.shape, k.shape[1], q.shape[-1]
        if layer == len(self.own):
            empty = k.new_empty(prompts * slots, kv_heads, 0, width)
            self.own.append((empty, empty))
        if self.own[layer][0].shape[2] < self.length:
            self.own[layer] = tuple(torch.cat([x, x.new_empty(*x.shape[:2], BLOCK, width)], 2) for x in self.own[layer])
        own_k, own_v = self.own[layer]
        own_k[:, :, self.length - 1] = k[0].transpose(0, 1)
        own_v[:, :, self.length - 1] = v[0].transpose(0, 1)
        own_k, own_v = own_k[:, :, : self.length], own_v[:, :, : self.length]

        q = q[0].unflatten(1, (prompts, slots)).unflatten(0, (kv_heads, -1))  # [K, H/K, B, G, D]
        by_prompt = q.permute(2, 0, 3, 1, 4).flatten(2, 3)  # [B, K, G * H/K, D]
        by_slot = q.permute(2, 3, 0, 1, 4).flatten(0, 1)  # [B * G, K, H/K, D]
        scores = _scores(by_prompt, self.keys[layer], scale)
        if self.bias is not None:
            scores = scores + self.bias
        own_scores = _scores(by_slot, own_k.mT, scale).unflatten(0, (prompts, slots)).transpose(1, 2).flatten(2, 3)
        weights = torch.cat([scores, own_scores], dim=-1).softmax(-1).to(v.dtype)
        prefix_weights, own_weights = weights.split([scores.shape[-1], self.length], dim=-1)
        out = (prefix_weights @ self.values[layer]).unflatten(2, (slots, -1)).transpose(1, 2)  # [B, G, K, H/K, D]
        own_weights = own_weights.unflatten(2, (slots, -1)).transpose(1, 2).flatten(0, 1)
        out = out.flatten(0, 1) + own_weights @ own_v
        row: Tensor = out.flatten(1, 2).transpose(0, 1)[None]
        return row

    def compact(self, running: Tensor) -> Tensor | None:
        """Drop ended completions where that makes the grid at least a quarter smaller.

        Args:
            running: ``[B * G]`` bool, true where the completion has not ended; at least one is true.

        Returns:
            Indices of the slots that stay, in their new order, or None if nothing was dropped. A slot whose completion
            has ended may stay to keep the grid rectangular.
        """
        grid = running.view(self.shape)
        prompts = grid.any(1).nonzero().squeeze(1)
        slots = int(grid.sum(1).max())
        if len(prompts) * slots > 0.75 * grid.numel():
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


def _scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """``scale * q @ k`` from ``[N, K, R, D]`` and ``[N, K, D, P]``; on a GPU in float32 also from half precision.

    Rounded to the 8 bits of bfloat16, the scores would not be those that the update computes in flash attention.
    """
    if q.device.type != "cuda" or q.dtype == torch.float32:
        return (q * scale) @ k
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1), out_dtype=torch.float32)
    return scores.mul_(scale).unflatten(0, q.shape[:2])


def _padded(x: Tensor, lengths: Sequence[int], longest: int) -> Tensor:
    """``[B, K, P, D]``, zeros on the right, from a row ``[1, K, P, D]``."""
    if min(lengths) == longest:
        rows: Tensor = x[0].unflatten(1, (len(lengths), longest))
        return rows.transpose(0, 1).contiguous()
    padded = x.new_zeros(len(lengths), x.shape[1], longest, x.shape[-1])
    for target, part in zip(padded, x[0].split(list(lengths), dim=1), strict=True):
        target[:, : part.shape[1]] = part
    return padded
