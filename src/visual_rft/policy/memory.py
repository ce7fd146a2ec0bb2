"""How an update fits into memory: an estimate of what each token keeps, and the choices that follow from it.

Decision: three choices bound the memory of an update, all exact: how many completions run at once, whether the prompts
keep their graph from sampling to the update, and gradient checkpointing. Each is a field of the config; left empty it
is chosen from the estimate, in this order: keep the graph if the prompts take at most half of the limit, checkpoint if
they would not fit even alone, then as many completions at once as fit into the rest.

What a layer keeps for the backward pass was counted on Qwen2-VL, Qwen2.5-VL and Qwen3-VL models in eager mode (saved
tensors, each storage once): per text token and layer 4 x feed-forward + 8 x hidden + 3 x (query + key/value) values,
per patch and vision layer 4 x feed-forward + 9 x width, and the pixels once; ``tests/test_engine.py`` holds the
formulas within 25 % of the count.

>>> plan = MemoryPlan(EngineConfig(micro_batch=2))
>>> plan.micro_batches([7, 7, 7], [0, 1, 2], Size(0, 0, 0), limit=1)
[[0, 1], [2]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from visual_rft.config import EngineConfig
from visual_rft.policy.inputs import Inputs

SHARE = 0.6
"""Share of the free memory that activations may take when no limit is given; the rest is for what is not counted."""


@dataclass(frozen=True)
class Size:
    """Bytes that stay alive until the backward pass.

    Attributes:
        prompts: of the prompts and their images.
        checkpointed: the same with gradient checkpointing.
        token: of one completion token.
    """

    prompts: float
    checkpointed: float
    token: float


def size_of(config: Any, inputs: Inputs, element: int, *, checkpointing: bool) -> Size:
    """What encoding ``inputs`` and scoring completions on them keeps.

    Args:
        config: of the model.
        inputs: the prompts.
        element: bytes of one value.
        checkpointing: whether completions are scored with gradient checkpointing.
    """
    text = config.get_text_config()
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    key_value = text.num_key_value_heads * width
    layer = 4 * text.intermediate_size + 8 * text.hidden_size + 3 * (heads * width + key_value)
    kept = text.hidden_size + 2 * key_value
    layers = text.num_hidden_layers
    # Logits, their log-softmax and its gradient, float32.
    logits = 3 * 4 * text.vocab_size
    vision = vision_layer = 0.0
    if inputs.pixels is not None:
        patches, per_layer, patch_width, depth = _vision(config.vision_config, inputs)
        pixels = inputs.pixels.tensors["pixel_values"].numel()
        vision = pixels + patches * per_layer * depth
        vision_layer = pixels + patches * (patch_width * depth + per_layer)
    tokens = sum(inputs.lengths)
    return Size(
        prompts=element * (tokens * layer * layers + vision),
        checkpointed=element * (tokens * (kept * layers + layer) + vision_layer),
        token=element * ((kept * layers + layer) if checkpointing else layer * layers) + logits,
    )


def _vision(vision: Any, inputs: Inputs) -> tuple[int, float, int, int]:
    """Patches of all images, values per patch and layer, width and depth of the vision tower."""
    assert inputs.pixels is not None
    pixels = inputs.pixels.tensors["pixel_values"]
    if "image_grid_thw" in inputs.pixels.tensors:
        patches = len(pixels)
    else:
        side = vision.patch_size[0] if isinstance(vision.patch_size, (tuple, list)) else vision.patch_size
        patches = pixels.numel() // (3 * side * side)
    width = int(getattr(vision, "embed_dim", None) or vision.hidden_size)
    depth = int(getattr(vision, "depth", None) or vision.num_hidden_layers)
    wide = getattr(vision, "intermediate_size", None) or width * getattr(vision, "mlp_ratio", 4)
    return patches, 4 * wide + 9 * width, width, depth


class MemoryPlan:
    """The choices for one policy.

    Args:
        config: fields that are set are obeyed; empty ones are chosen.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config

    def limit(self, model: Any) -> float:
        """Bytes that activations may take on the device of ``model``."""
        if self.config.memory_gib is not None:
            return self.config.memory_gib * 2**30
        parameters = list(model.parameters())
        device = parameters[0].device
        if device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        else:
            free = psutil.virtual_memory().available
        # Gradients and AdamW's two averages come with the first step.
        owed = sum(3 * p.numel() * p.element_size() for p in parameters if p.requires_grad and p.grad is None)
        return max(0.0, SHARE * float(free - owed))

    def checkpoints(self, size: Size, limit: float) -> bool:
        """Whether layers keep only their input."""
        chosen = self.config.gradient_checkpointing
        return size.prompts > limit if chosen is None else chosen

    def keeps_graph(self, size: Size, limit: float) -> bool:
        """Whether the graph of the prompts stays alive while completions are sampled."""
        chosen = self.config.reuse_rollout_graph
        needed = size.checkpointed if self.checkpoints(size, limit) else size.prompts
        return needed <= limit / 2 if chosen is None else chosen

    def chunks(self, size: Size, limit: float, count: int) -> list[range]:
        """Consecutive prompts, of ``count`` in all, whose graph is kept at once when they are encoded for an update."""
        needed = size.checkpointed if self.checkpoints(size, limit) else size.prompts
        fits = int(count * limit / 2 / needed) if needed > 0 else count
        width = self.config.prompts_at_once or min(max(fits, 1), count)
        return [range(start, min(start + width, count)) for start in range(0, count, width)]

    def micro_batches(
        self, lengths: Sequence[int], numbers: Sequence[int], size: Size, limit: float
    ) -> list[list[int]]:
        """``numbers`` cut into pieces that run at once, in order.

        Args:
            lengths: tokens of each completion.
            numbers: which completions.
            size: see :func:`size_of`.
            limit: bytes for all activations; at least a quarter of it is used for completions.
        """
        prompts = size.checkpointed if self.checkpoints(size, limit) else size.prompts
        room = max(limit - prompts, limit / 4)
        parts: list[list[int]] = []
        used = 0.0
        for number, length in zip(numbers, lengths, strict=True):
            full = len(parts[-1]) == self.config.micro_batch if parts else True
            if full or (self.config.micro_batch is None and used + length * size.token > room):
                parts.append([])
                used = 0.0
            parts[-1].append(number)
            used += length * size.token
        return parts
