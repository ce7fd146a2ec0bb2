"""What sampling needs beside the weights: keys and values of prompts and completions, and what one layer computes.

Decision: an evaluation is the first thing a run does, and 96 questions at once are no smaller than a step, so both are
asked about with one formula. Keys and values are exact; what a layer holds while it computes is the widest moment of
its feed-forward part, and the logits of a token are counted six times in float32, as sampling passes them on.

    sum(sampling_bytes(policy.core, inputs, policy.types, max_new_tokens=512, group=8).values())
"""

from __future__ import annotations

from typing import Any

from visual_rft.policy.engine.attention.decoding import block_tokens
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.memory.activations import NumberTypes, vision_shape

ANSWERED_AT_ONCE = 96
"""Most questions that an evaluation answers at once: ``BATCH`` of ``answering/answering.py``."""


def sampling_bytes(
    core: Any, inputs: Inputs, types: NumberTypes, *, max_new_tokens: int, group: int, graph: bool = False
) -> dict[str, float]:
    """Bytes by name that sampling ``group`` completions of each prompt takes at most.

    Args:
        core: the stock model, with or without its weights.
        inputs: the prompts.
        types: in which types it computes.
        max_new_tokens: most tokens of a completion.
        group: completions of each prompt.
        graph: whether the prompts keep their graph, which holds their keys and values and is counted elsewhere.
    """
    text = core.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cached = 2 * text.num_key_value_heads * width * text.num_hidden_layers * types.computed  # of one token
    prompts, tokens, longest = len(inputs.lengths), sum(inputs.lengths), max(inputs.lengths)
    buffered = block_tokens(max_new_tokens)
    layer = tokens * (3 * text.intermediate_size * types.computed + 4 * text.hidden_size * 4)
    if inputs.pixels is not None:
        patches, across, _, wide = vision_shape(core.config.vision_config, inputs)
        layer = max(layer, patches * (3 * wide + 6 * across) * types.computed + patches * across * 4)
    return {
        # Laid out anew for decoding, padded to the longest, beside the prefix itself.
        "prompts cached": float(cached * (prompts * longest + (0 if graph else tokens))),
        "completions cached": float(cached * prompts * group * buffered),
        "logits": 24.0 * text.vocab_size * prompts * group,
        "a layer": 0.0 if graph else float(layer),
    }


def laid_out_bytes(core: Any) -> float:
    """Bytes of the decoder layers' matrices, of which sampling has a transposed copy where we execute the layers."""
    return float(sum(p.numel() * p.element_size() for p in core.get_decoder().layers.parameters() if p.dim() == 2))


def answered_at_once(core: Any, inputs: Inputs, types: NumberTypes, max_new_tokens: int, limit_bytes: float) -> int:
    """How many of the prompts can be answered at once, if all are as long as the longest; at least 1.

    Args:
        core: the stock model.
        inputs: the prompts, each answered once.
        types: in which types it computes.
        max_new_tokens: most tokens of an answer.
        limit_bytes: bytes that they may take.
    """
    place = inputs.lengths.index(max(inputs.lengths))
    longest = inputs.select(range(place, place + 1))
    one = sum(sampling_bytes(core, longest, types, max_new_tokens=max_new_tokens, group=1).values())
    return max(int(limit_bytes / one), 1)
