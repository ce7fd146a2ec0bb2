"""The oracle of attention on a shared prefix: plain softmax attention of every completion with its prompt."""

from __future__ import annotations

import torch


def in_a_row(x):
    """``[N, H, ...]``, as the engine's attention takes it, from ``[1, H, N, ...]``."""
    return x[0].transpose(0, 1)


LAYOUTS = {
    "equal": ((3, 3), (4, 4, 4, 4), (0, 0, 1, 1)),
    "ragged": ((3, 5, 2), (4, 1, 7, 2, 3), (0, 0, 1, 2, 2)),
    "a prompt without completions": ((3, 5, 2), (4, 2), (0, 2)),
}


def whole(q, k, v, *, causal, scale):
    """Plain softmax attention with autograd."""
    scores = q @ k.mT * scale
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1) @ v


def rows_alone(q, k, v, prefix_k, prefix_v, layout, scale):
    """The oracle: each completion of a layout with its prompt in front, by plain softmax attention."""
    prompt_lengths, lengths, prompts = LAYOUTS[layout]
    rows = []
    ends = torch.tensor(prompt_lengths).cumsum(0)
    start = 0
    for length, prompt in zip(lengths, prompts, strict=True):
        before, own = slice(ends[prompt] - prompt_lengths[prompt], ends[prompt]), slice(start, start + length)
        keys, values = (
            torch.cat([p[:, :, before], x[:, :, own]], 2).repeat_interleave(q.shape[1] // x.shape[1], 1)
            for p, x in ((prefix_k, k), (prefix_v, v))
        )
        scores = q[:, :, own] @ keys.mT * scale
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + prompt_lengths[prompt])
        rows.append(scores.masked_fill(later, -torch.inf).softmax(-1) @ values)
        start += length
    return torch.cat(rows, 2)
