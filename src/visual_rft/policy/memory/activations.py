"""What a step keeps for its backward pass: an estimate of the bytes of each token and of each patch of an image.

What a layer keeps for the backward pass was counted on Qwen2-VL, Qwen2.5-VL and Qwen3-VL models in eager mode (saved
tensors, each storage once): per text token and layer 4 x feed-forward + 8 x hidden + 3 x (query + key/value) values,
per patch and vision layer 4 x feed-forward + 9 x width, and the pixels once; ``tests/policy/test_engine.py`` holds the
formulas within 25 % of the count.

>>> size = ActivationSize(
...     prompt_bytes=100, checkpointed_prompt_bytes=10, bytes_per_token=1, checkpointed_bytes_per_token=1
... )
>>> size.times(2).prompt_bytes, size.prompt_bytes_at(0.5)  # half of the layers keep only their input
(200, 55.0)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from visual_rft.policy.inputs import Inputs


@dataclass(frozen=True)
class ActivationSize:
    """Bytes that stay alive until the backward pass.

    Attributes:
        prompt_bytes: bytes of all prompts and their images.
        checkpointed_prompt_bytes: bytes of the same with gradient checkpointing.
        bytes_per_token: bytes of one completion token.
        checkpointed_bytes_per_token: bytes of the same with gradient checkpointing.
    """

    prompt_bytes: float
    checkpointed_prompt_bytes: float
    bytes_per_token: float
    checkpointed_bytes_per_token: float

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
        return ActivationSize(0, 0, self.bytes_per_token + plain, self.checkpointed_bytes_per_token + checkpointed)


def activation_size(model_config: Any, inputs: Inputs, element_bytes: int, *, vision_learns: bool) -> ActivationSize:
    """What encoding ``inputs`` and scoring completions on them keeps.

    Args:
        model_config: config of the stock model.
        inputs: the prompts.
        element_bytes: bytes of one value.
        vision_learns: whether the vision tower or projector is trained; otherwise its pass leaves no graph.
    """
    text = model_config.get_text_config()
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
        patches, per_layer, patch_width, depth = _vision(model_config.vision_config, inputs)
        pixels = inputs.pixels.tensors["pixel_values"].numel()
        vision = pixels + patches * per_layer * depth
        vision_layer = pixels + patches * (patch_width * depth + per_layer)
    tokens = sum(inputs.lengths)
    return ActivationSize(
        prompt_bytes=element_bytes * (tokens * layer * layers + vision),
        checkpointed_prompt_bytes=element_bytes * (tokens * (kept * layers + layer) + vision_layer),
        bytes_per_token=element_bytes * layer * layers + logits,
        checkpointed_bytes_per_token=element_bytes * (text.hidden_size * layers + layer) + logits,
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
