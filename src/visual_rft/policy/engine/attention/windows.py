"""Attention of a vision tower whose tokens see their own image or window: one call per layer.

Decision: the library cuts queries, keys and values at every boundary and calls attention once per piece, 63 times per
layer for an image of 1,000 tokens in windows of 64 patches; for eight images that is 14,112 calls per pass, of some 78
us each. It hands over the boundaries instead where the name of the attention holds "flash", so ours does. The pieces
become the rows of a padded batch, whose padding no token sees. Windows have nearly one length; of images of very
different sizes, sorted by length, those that would be padded to more than twice their own go into another call.

>>> boundaries = torch.tensor([0, 2, 3])
>>> [part.places.tolist() for part in parts_of(boundaries)]
[[[0, 1], [2, 2]]]
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
MOST_PADDED = 2.0
"""Longest piece of a call over the shortest; attention costs the square, so four times as much at worst."""


class Part(NamedTuple):
    """Pieces that are attended to in one call.

    Attributes:
        places: ``[W, L]`` token of each place in the pieces, the last token of a piece again in its padding.
        mask: ``[W, 1, 1, L]`` true where a place is no padding; None if there is none.
        tokens: ``[n]`` the tokens, piece after piece.
        rows: ``[n]`` where each of them stands in the flattened ``[W * L]``.
    """

    places: Tensor
    mask: Tensor | None
    tokens: Tensor
    rows: Tensor


_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Of boundaries that were seen: every layer is given the same tensor, and looking into it makes a GPU wait."""


def parts_of(boundaries: Tensor) -> list[Part]:
    """The calls of a layer.

    Args:
        boundaries: ``[W + 1]`` first token of each piece, and the number of all tokens.
    """
    if boundaries not in _known:
        _known[boundaries] = [_part(pieces, boundaries.device) for pieces in _alike(boundaries.tolist())]
    parts: list[Part] = _known[boundaries]
    return parts


def _alike(ends: list[int]) -> list[list[tuple[int, int]]]:
    """Pieces (first token, length) in groups of similar length; empty ones are left out."""
    pieces = [(start, end - start) for start, end in pairwise(ends) if end > start]
    groups: list[list[tuple[int, int]]] = []
    for piece in sorted(pieces, key=lambda piece: -piece[1]):
        if groups and groups[-1][0][1] <= MOST_PADDED * piece[1]:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _part(pieces: list[tuple[int, int]], device: torch.device) -> Part:
    longest = max(length for _, length in pieces)
    starts, lengths = (torch.tensor(column) for column in zip(*pieces, strict=True))
    steps = torch.arange(longest)
    places = starts[:, None] + torch.minimum(steps, lengths[:, None] - 1)
    real = steps < lengths[:, None]
    mask = None if bool(real.all()) else real[:, None, None, :].to(device)
    rows = real.flatten().nonzero().squeeze(1)
    return Part(places.to(device), mask, places.flatten()[rows].to(device), rows.to(device))


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
    out = torch.empty_like(query[0].transpose(0, 1))  # [N, heads, E]
    for part in parts:
        q, k, v = (x[0][:, part.places].transpose(0, 1) for x in (query, key, value))  # [W, heads, L, E]
        seen = scaled_dot_product_attention(q, k, v, attn_mask=part.mask, dropout_p=dropout, scale=scaling)
        flat = seen.transpose(1, 2).flatten(0, 1)  # [W * L, heads, E]
        if len(parts) == 1 and part.mask is None:  # pieces of one length, in their order
            return flat[None], None
        out = out.index_copy(0, part.tokens, flat[part.rows])
    return out[None], None


AttentionInterface.register(WINDOWED_ATTENTION, _attention)


def attend_in_windows(core: Any, family: Family) -> None:
    """Give the vision tower of a model this attention, where its tokens are patches in one row and its attention is the
    library's own SDPA; flash attention takes the boundaries already."""
    vision = getattr(core.config, "vision_config", None)
    if family.pixels == "patches" and getattr(vision, "_attn_implementation", None) == "sdpa":
        core.set_attn_implementation({"vision_config": WINDOWED_ATTENTION})
