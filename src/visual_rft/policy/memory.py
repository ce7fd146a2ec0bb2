"""How an update fits into memory: an estimate of what each token keeps, and the choices that follow from it.

Decision: four choices bound the memory of an update, all exact: gradient checkpointing, whether the prompts keep their
graph from sampling to the update, how many prompts are encoded at once where they do not, and how many completions run
at once. Each is a field of the config; left empty it is chosen from the estimate. Half of the limit is for prompts: as
many layers as need be keep only their input, and if even that does not fit, prompts are encoded a few at a time.
Completions take what is left, but a quarter at least; their layers are checkpointed only if a single one of full length
does not fit. The limit is taken once, so that the same choices are made in every step.

What a layer keeps for the backward pass was counted on Qwen2-VL, Qwen2.5-VL and Qwen3-VL models in eager mode (saved
tensors, each storage once): per text token and layer 4 x feed-forward + 8 x hidden + 3 x (query + key/value) values,
per patch and vision layer 4 x feed-forward + 9 x width, and the pixels once; ``tests/policy/test_engine.py`` holds the
formulas within 25 % of the count.

>>> size = Size(prompts=100, prompts_checkpointed=10, token=1, token_checkpointed=1)
>>> choice = choose(EngineConfig(), size, limit=120, prompts=2, longest=7)
>>> choice.keep_graph, choice.micro_batches([60, 60], [0, 1])
(True, [[0], [1]])
>>> round(choice.checkpoint_prompts, 2)  # 0.44 of the layers hold 60 instead of 100
0.44
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from visual_rft.config.sections import EngineConfig
from visual_rft.policy.inputs import Inputs

SHARE = 0.6
"""Share of the free memory that activations may take when no limit is given; the rest is for what is not counted."""


@dataclass(frozen=True)
class Size:
    """Bytes that stay alive until the backward pass.

    Attributes:
        prompts: of the prompts and their images.
        prompts_checkpointed: the same with gradient checkpointing.
        token: of one completion token.
        token_checkpointed: the same with gradient checkpointing.
    """

    prompts: float
    prompts_checkpointed: float
    token: float
    token_checkpointed: float


def size_of(config: Any, inputs: Inputs, element: int, *, vision_learns: bool = True) -> Size:
    """What encoding ``inputs`` and scoring completions on them keeps.

    Args:
        config: of the model.
        inputs: the prompts.
        element: bytes of one value.
        vision_learns: whether the vision tower or projector is trained; otherwise its pass leaves no graph.
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
    if inputs.pixels is not None and vision_learns:
        patches, per_layer, patch_width, depth = _vision(config.vision_config, inputs)
        pixels = inputs.pixels.tensors["pixel_values"].numel()
        vision = pixels + patches * per_layer * depth
        vision_layer = pixels + patches * (patch_width * depth + per_layer)
    tokens = sum(inputs.lengths)
    return Size(
        prompts=element * (tokens * layer * layers + vision),
        prompts_checkpointed=element * (tokens * (kept * layers + layer) + vision_layer),
        token=element * layer * layers + logits,
        token_checkpointed=element * (text.hidden_size * layers + layer) + logits,
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


@dataclass(frozen=True)
class Choice:
    """How one batch is computed.

    Attributes:
        checkpoint_prompts: share of the layers that keep only their input while prompts are encoded with graph.
        checkpoint_completions: whether all do while completions are scored.
        keep_graph: the graph of the prompts stays alive from sampling to the update.
        prompts_at_once: prompts that are encoded at once where it does not.
        micro_batch: completions at once; None takes as many as ``room`` allows.
        room: bytes for the activations of completions.
        token: bytes of one completion token.
    """

    checkpoint_prompts: float
    checkpoint_completions: bool
    keep_graph: bool
    prompts_at_once: int
    micro_batch: int | None
    room: float
    token: float

    def chunks(self, prompts: int) -> list[range]:
        """Consecutive prompts, of so many in all, that are encoded at once."""
        width = self.prompts_at_once
        return [range(start, min(start + width, prompts)) for start in range(0, prompts, width)]

    def micro_batches(self, lengths: Sequence[int], numbers: Sequence[int]) -> list[list[int]]:
        """``numbers`` of completions with these lengths, cut into pieces that run at once, in order."""
        parts: list[list[int]] = []
        used = 0.0
        for number, length in zip(numbers, lengths, strict=True):
            full = not parts or len(parts[-1]) == self.micro_batch
            if full or (self.micro_batch is None and used + length * self.token > self.room):
                parts.append([])
                used = 0.0
            parts[-1].append(number)
            used += length * self.token
        return parts


def choose(config: EngineConfig, size: Size, limit: float, prompts: int, longest: int) -> Choice:
    """The choices for a batch; fields of the config that are set are obeyed.

    Args:
        config: of the engine.
        size: what the batch keeps.
        limit: bytes that activations may take.
        prompts: prompts in the batch.
        longest: most tokens of a completion.
    """
    share = config.checkpoint_prompts
    if share is None:
        saved = max(size.prompts - size.prompts_checkpointed, 1e-9)
        share = min(max((size.prompts - limit / 2) / saved, 0.0), 1.0)
    every = config.checkpoint_completions
    checkpoint_completions = longest * size.token > limit / 4 if every is None else every
    kept = size.prompts + share * (size.prompts_checkpointed - size.prompts)
    reuse = config.reuse_rollout_graph
    fitting = int(prompts * limit / 2 / kept) if kept > 0 else prompts
    return Choice(
        share,
        checkpoint_completions,
        keep_graph=kept <= limit / 2 + 1 if reuse is None else reuse,  # a byte for rounding
        prompts_at_once=config.prompts_at_once or min(max(fitting, 1), prompts),
        micro_batch=config.micro_batch,
        room=max(limit - kept, limit / 4),
        token=size.token_checkpointed if checkpoint_completions else size.token,
    )


def free_memory(model: Any) -> float:
    """Bytes that activations of ``model`` may take on its device: a share of what is free after the optimiser."""
    parameters = list(model.parameters())
    device = parameters[0].device
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    else:
        free = psutil.virtual_memory().available
    # Gradients and AdamW's two averages come with the first step.
    owed = sum(3 * p.numel() * p.element_size() for p in parameters if p.requires_grad and p.grad is None)
    return max(0.0, SHARE * float(free - owed))
