"""Where every token of a prompt stands, and where what follows it begins; the same for both engines.

Decision: positions are computed here and always given to the model. Left to itself it keeps those of an earlier batch
as hidden state. Text models count real tokens; where image tokens have a time, a row and a column (three axes), the
model's own ``get_rope_index`` counts them, so that what follows an image is nearer than its number of tokens says.

    positions, next_position = prompt_positions(core, family, tensors, inputs)
    positions.shape, next_position.shape      # [3, B, L], [B]; [B, L] with a single axis

Shapes: B prompts, L tokens of the longest (left-padded).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visual_rft.policy.families import Family
from visual_rft.policy.inputs import Inputs


def prompt_positions(core: Any, family: Family, tensors: Mapping[str, Tensor], inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Positions ``[3, B, L]`` (or ``[B, L]`` with one axis) of the prompt tokens, and ``[B]`` of the first token after.

    Args:
        core: the stock model.
        family: facts about it.
        tensors: those of ``inputs``, on the model's device.
        inputs: the prompts; their image grids are read.
    """
    mask = tensors["attention_mask"]  # [B, L]
    if family.axes == 1:
        return (mask.cumsum(1) - 1).clamp(min=0), mask.sum(1)
    grid = None
    if inputs.pixels is not None:
        grids = inputs.pixels.tensors["image_grid_thw"].split(list(inputs.pixels.images))
        grid = torch.cat([grids[s] for s in inputs.sets if s >= 0]).to(mask.device)
    positions, delta = core.model.get_rope_index(
        tensors["input_ids"], mm_token_type_ids=tensors["mm_token_type_ids"], image_grid_thw=grid, attention_mask=mask
    )
    return positions, mask.sum(1) + delta.view(-1)
