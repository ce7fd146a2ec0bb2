"""What a step keeps for its backward pass: an estimate of the bytes of each token and of each patch of an image.

Decision: the tensors that autograd saves were counted, each storage once, on models with the proportions of
Qwen2-VL-2B, Qwen2.5-VL-3B and Qwen2.5-VL-7B in every setting that the package's configs use, and the terms below are
what was found; ``tests/policy/test_activations.py`` holds the sum within 15 % of the count for these three. (The terms
of Qwen3-VL's norms of queries and keys were counted on a tiny model only, to a quarter.) The types matter as much as
the widths: norms compute in float32 whatever the rest does, autocast makes a copy of its input for each linear layer,
and an adapter in float32 on a bfloat16 base keeps its inputs in float32 unless autocast is on. Logits are kept in
float32 and their gradient stands beside them; beyond a number of tokens they are made in pieces (``engine/logits.py``)
and take no more.

>>> size = ActivationSize(
...     prompt_bytes=100, checkpointed_prompt_bytes=10, bytes_per_token=1, checkpointed_bytes_per_token=1
... )
>>> size.times(2).prompt_bytes, size.prompt_bytes_at(0.5)  # half of the layers keep only their input
(200, 55.0)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from visual_rft.policy.engine.logits import tokens_at_once
from visual_rft.policy.families import Family
from visual_rft.policy.inputs import Inputs


@dataclass(frozen=True)
class ActivationSize:
    """Bytes that stay alive until the backward pass.

    Attributes:
        prompt_bytes: bytes of all prompts and their images.
        checkpointed_prompt_bytes: bytes of the same with gradient checkpointing.
        bytes_per_token: bytes of one completion token, without its logits.
        checkpointed_bytes_per_token: bytes of the same with gradient checkpointing.
        logits_per_token: bytes of the logits of a token and of their gradient.
        logits_at_most: bytes that all logits of a pass take at most.
    """

    prompt_bytes: float
    checkpointed_prompt_bytes: float
    bytes_per_token: float
    checkpointed_bytes_per_token: float
    logits_per_token: float = 0.0
    logits_at_most: float = 0.0

    def prompt_bytes_at(self, share: float) -> float:
        """Bytes of all prompts with this share of the layers checkpointed, 0 to 1."""
        return self.prompt_bytes + share * (self.checkpointed_prompt_bytes - self.prompt_bytes)

    def times(self, prompts: int) -> ActivationSize:
        """The size of this many such prompts; a completion token stays what it is."""
        return replace(
            self,
            prompt_bytes=self.prompt_bytes * prompts,
            checkpointed_prompt_bytes=self.checkpointed_prompt_bytes * prompts,
        )

    def repeated(self, prompts: int, max_tokens: int) -> ActivationSize:
        """The same on the repeated path: every completion carries its prompt, and nothing is kept before.

        Args:
            prompts: number of prompts that this is the size of.
            max_tokens: most tokens of a completion; each of them carries its share of the prompt.
        """
        plain, checkpointed = (x / prompts / max_tokens for x in (self.prompt_bytes, self.checkpointed_prompt_bytes))
        return replace(
            self,
            prompt_bytes=0,
            checkpointed_prompt_bytes=0,
            bytes_per_token=self.bytes_per_token + plain,
            checkpointed_bytes_per_token=self.checkpointed_bytes_per_token + checkpointed,
        )


@dataclass(frozen=True)
class NumberTypes:
    """In which types a model computes, as far as it decides what is kept.

    Attributes:
        weights: bytes of one value of the base weights, and so of what passes from layer to layer.
        computed: bytes of one value of what linear layers and attention compute.
        autocast: whether linear layers are told to compute in another type than their weights'.
        adapter: whether a LoRA adapter learns, in float32, and nothing else.
    """

    weights: int
    computed: int
    autocast: bool
    adapter: bool

    @classmethod
    def of(cls, core: Any, autocast: torch.dtype | None, *, adapter: bool) -> NumberTypes:
        """Those of a stock model that computes under ``autocast``."""
        weights = next(core.parameters()).dtype.itemsize
        return cls(weights, weights if autocast is None else autocast.itemsize, autocast is not None, adapter)

    @property
    def inputs(self) -> int:
        """Bytes that the five linear layers of a block on its normalised input (q, k, v, gate, up) keep of each value:
        the two inputs, or a copy for each layer."""
        if self.keeps_float32:
            return 5 * 4
        return (2 if self.weights == self.computed else 5) * self.computed

    @property
    def keeps_float32(self) -> bool:
        """Whether each adapted layer keeps a float32 copy of its input, because nothing says that it may compute in
        fewer bits."""
        return self.adapter and not self.autocast and self.weights < 4

    @property
    def norm(self) -> int:
        """Bytes that a norm keeps of each value: its input in float32, and where its weight learns what that is
        multiplied with."""
        return 4 + (0 if self.adapter else self.weights)


def activation_size(
    core: Any, inputs: Inputs, types: NumberTypes, *, vision_learns: bool, fused: bool = False
) -> ActivationSize:
    """What encoding ``inputs`` and scoring completions on them keeps.

    Args:
        core: the stock model, with or without its weights.
        inputs: the prompts.
        types: in which types it computes.
        vision_learns: whether the vision tower or projector is trained; otherwise its pass leaves no graph.
        fused: whether our own execution of the decoder layers runs (``engine/layers.py``), which keeps less.
    """
    text = core.config.get_text_config()
    hidden, heads, layers, size = text.hidden_size, text.num_attention_heads, text.num_hidden_layers, types.computed
    width = getattr(text, "head_dim", None) or hidden // heads
    query, key_value = heads * width, text.num_key_value_heads * width
    layer = 4 * text.intermediate_size * size + hidden * (2 * types.norm + types.inputs)
    layer += 2 * (query + key_value) * size + 4 * heads  # q, k, v, the output and its log-sum-exp
    if types.keeps_float32:
        layer += text.intermediate_size * 2  # the last linear layer's input, float32 instead of bfloat16
    if any(name.endswith("q_norm.weight") for name, _ in core.named_parameters()):
        layer += (query + key_value) * types.norm
    prompt_layer = layer + 2 * query * size  # keys and values once per query head
    if fused:  # inputs of both halves; gate, up; q, k, v, the output; queries and keys before their norm
        normed = any(name.endswith("q_norm.weight") for name, _ in core.named_parameters())
        values = 2 * text.intermediate_size + 2 * hidden + (3 if normed else 2) * (query + key_value)
        layer = prompt_layer = values * size + 4 * heads
    passed = hidden * types.weights  # from layer to layer
    # What a checkpointed layer leaves for the completions; ours writes queries, keys and values into one tensor.
    prefix = (2 * key_value + (query if fused else 0)) * size
    # Logits and their gradient in float32, and the gradient once more in the type that they are computed in.
    logits = text.vocab_size * (4 + 4 + (size if size < 4 else 0))
    vision = vision_checkpointed = 0.0
    if inputs.pixels is not None and vision_learns:
        vision, vision_checkpointed = _vision(core.config.vision_config, inputs, types)
    tokens, head = sum(inputs.lengths), hidden * (types.norm + size)
    return ActivationSize(
        prompt_bytes=tokens * prompt_layer * layers + vision,
        checkpointed_prompt_bytes=tokens * ((passed + prefix) * layers + prompt_layer) + vision_checkpointed,
        bytes_per_token=layer * layers + head,
        checkpointed_bytes_per_token=passed * layers + layer + head,
        logits_per_token=logits,
        logits_at_most=logits * tokens_at_once(text.vocab_size),
    )


def _vision(vision: Any, inputs: Inputs, types: NumberTypes) -> tuple[float, float]:
    """Bytes that the vision tower and projector keep of all images, and the same with gradient checkpointing."""
    patches, width, depth, wide = vision_shape(vision, inputs)
    assert inputs.pixels is not None
    size, activation = types.computed, str(getattr(vision, "hidden_act", "gelu"))
    gated = activation == "silu"
    # What a feed-forward layer keeps of each of its values: gate, up, silu, product; x, its sigmoid, product; x, gelu.
    feed_forward = wide * (4 if gated else 3 if activation == "quick_gelu" else 2) * size
    # The inputs of two norms in float32; q, k and v as computed and as rotated, two inputs, the output twice.
    layer = feed_forward + width * (2 * 4 + 9 * size + (2 * size if gated else 0))
    once = inputs.pixels.tensors["pixel_values"].numel() * size + patches * width * (3 * size + 4)  # and the projector
    return once + patches * layer * depth, once + patches * (width * size * depth + layer)


def copied_bytes(core: Any, family: Family, types: NumberTypes, *, graphs: int = 2) -> float:
    """Bytes of the matrices that autocast copies and a graph keeps: each graph has its own copy.

    Args:
        core: the stock model, with or without its weights.
        family: facts about it.
        types: in which types it computes.
        graphs: how many graphs of the language model there are: that of the prompts and that of the completions.
    """
    if types.weights == types.computed:
        return 0.0
    # Kernels of five dimensions are multiplied with patches, which need no gradient: the product keeps no copy of them.
    matrices = [(name, p) for name, p in core.named_parameters() if 2 <= p.ndim < 5]
    vision_learns = any(p.requires_grad for name, p in matrices if family.is_vision(name))
    words, head = core.get_input_embeddings().weight, core.get_output_embeddings().weight

    def copies(name: str, parameter: Any) -> int:
        if family.is_vision(name):
            return int(vision_learns)
        if parameter is head:
            return 1  # logits are of completions only
        return 0 if parameter is words else graphs  # words are looked up

    counts = (parameter.numel() * copies(name, parameter) for name, parameter in matrices)
    return float(types.computed * sum(counts))


def vision_shape(vision: Any, inputs: Inputs) -> tuple[int, int, int, int]:
    """Patches of all images; width, depth and feed-forward width of the vision tower."""
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
    return patches, width, depth, int(wide)
