"""Attention of a vision tower whose tokens see their own image or window: one call per layer and length.

Decision: the library cuts queries, keys and values at every boundary and calls attention once per piece, 63 times per
layer for an image of 1,000 tokens in windows of 64 patches; for eight images that is 14,112 calls per pass, of some 78
us each. It hands over the boundaries instead where the name of the attention holds "flash", so ours does. Pieces of one
length are a batch. Nothing is padded: what is computed about an image then does not depend on the others beside it, to
the bit, as a run that is gone on with needs it.

>>> [(part.places.tolist(), part.tokens.tolist()) for part in parts_of(torch.tensor([0, 2, 3, 5]))]
[([[0, 1], [3, 4]], [0, 1, 3, 4]), ([[2]], [2])]
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface

from visual_rft.policy.families import Family

WINDOWED_ATTENTION = "windows_as_flash"
"""Name under which the library finds it."""


class Part(NamedTuple):
    """Pieces of one length, which are attended to in one call.

    Attributes:
        places: ``[W, L]`` number of each of their tokens.
        tokens: ``[W * L]`` the same, piece after piece.
    """

    places: Tensor
    tokens: Tensor


_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Of boundaries that were seen: every layer is given the same tensor, and looking into it makes a GPU wait."""


def parts_of(boundaries: Tensor) -> list[Part]:
    """The calls of a layer.

    Args:
        boundaries: ``[W + 1]`` first token of each piece, and the number of all tokens.
    """
    if boundaries not in _known:
        pieces: dict[int, list[int]] = {}
        for start, end in pairwise(boundaries.tolist()):
            pieces.setdefault(end - start, []).append(start)
        _known[boundaries] = [_part(starts, length, boundaries.device) for length, starts in pieces.items() if length]
    parts: list[Part] = _known[boundaries]
    return parts


def _part(starts: list[int], length: int, device: torch.device) -> Part:
    places = (torch.tensor(starts)[:, None] + torch.arange(length)).to(device)
    return Part(places, places.flatten())


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The function behind :data:`WINDOWED_ATTENTION`: ``[1, heads, N, E]`` to ``[1, N, heads, E]``."""
    assert cu_seq_lens_q is not None, "the library hands over the boundaries to a flash attention"
    parts = parts_of(cu_seq_lens_q)
    if len(parts) == 1:  # all tokens, in their order: nothing has to be fetched
        shape = parts[0].places.shape
        q, k, v = (x[0].unflatten(1, shape).transpose(0, 1) for x in (query, key, value))  # [W, heads, L, E]
        seen = scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
        return seen.transpose(1, 2).flatten(0, 1)[None], None
    out = torch.empty_like(query[0].transpose(0, 1))  # [N, heads, E]
    for part in parts:
        q, k, v = (x[0][:, part.places].transpose(0, 1) for x in (query, key, value))  # [W, heads, L, E]
        seen = scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
        out = out.index_copy(0, part.tokens, seen.transpose(1, 2).flatten(0, 1))
    return out[None], None


AttentionInterface.register(WINDOWED_ATTENTION, _attention)


def attend_in_windows(core: Any, family: Family) -> None:
    """Give the vision tower of a model this attention, where its tokens are patches in one row and its attention is the
    library's own SDPA; flash attention takes the boundaries already."""
    vision = getattr(core.config, "vision_config", None)
    if family.pixels == "patches" and getattr(vision, "_attn_implementation", None) == "sdpa":
        core.set_attn_implementation({"vision_config": WINDOWED_ATTENTION})
