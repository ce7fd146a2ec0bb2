"""A language model's decoder layers, run over the stock modules' own weights in few and large operations.

Decision: the library's layers are many small operations, which cost a CPU as much as the mathematics in them. Where a
layer is one whose mathematics is known (:data:`KNOWN`), plain float32 on a CPU, nothing adapted, hooked or quantised,
its weights are taken as they are and the layer runs as ``fused.py`` writes it. Everything else runs the library's own
forward. Which of the two is decided anew at every pass, and the check at start (``agreement.py``) compares with the
library's forward pass either way.

    layers = Layers.of(core.get_decoder())              # None: call the library's forward
    hidden = layers(embeddings, positions, attention)   # [N, E] after the last norm

Shapes: N tokens, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from visual_rft.policy.engine.attention.shared_prefix import Attend
from visual_rft.policy.engine.fused import FeedForward, Projections, Rope, Shape, feed, head_norms, project

KNOWN = frozenset(
    {
        "LlamaDecoderLayer",
        "Qwen2DecoderLayer",
        "Qwen2VLDecoderLayer",
        "Qwen2_5_VLDecoderLayer",
        "Qwen3DecoderLayer",
        "Qwen3VLTextDecoderLayer",
    }
)
"""Layers of the library with this mathematics: norm, attention with rotary positions, norm, gated SiLU feed-forward."""
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
               "mlp.up_proj", "mlp.down_proj")  # fmt: skip
CHANGING_ROPE = ("dynamic", "longrope")
"""Kinds of rotary positions whose frequencies depend on the length."""


class Layers:
    """The decoder layers and the last norm.

    Args:
        text: the stock language model, for which :meth:`fits` holds.
    """

    def __init__(self, text: Any) -> None:
        self.text = text

    @classmethod
    def of(cls, text: Any) -> Layers | None:
        """The layers of a language model, or None where its own forward pass is to be used."""
        return cls(text) if cls.fits(text) else None

    @staticmethod
    def fits(text: Any) -> bool:
        """Whether every layer is known and its weights are plain float32 on a CPU."""
        if torch.is_autocast_enabled("cpu") or not isinstance(getattr(text, "layers", None), nn.ModuleList):
            return False
        rope = getattr(text.config, "rope_parameters", None) or {}
        kinds = getattr(text.config, "layer_types", None) or ["full_attention"]
        return (
            set(kinds) == {"full_attention"}
            and rope.get("rope_type", "default") not in CHANGING_ROPE
            and all(_is_known(layer) for layer in text.layers)
            and not any(x._forward_hooks or x._forward_pre_hooks or x._backward_hooks for x in _replaced(text))
        )

    def __call__(
        self,
        hidden: Tensor,
        positions: Tensor,
        attend: Attend,
        deepstack: tuple[Tensor, Sequence[Tensor]] | None = None,
    ) -> Tensor:
        """Final hidden states ``[N, E]``.

        Args:
            hidden: ``[N, E]`` embeddings.
            positions: ``[1, N]``, or ``[3, 1, N]`` with three axes.
            attend: what attention does.
            deepstack: which tokens are of images ``[N]``, and what is added to them after each of the first layers.
        """
        rope = self.rope(hidden, positions)
        for number, layer in enumerate(self.text.layers):
            if layer.training and layer.gradient_checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(
                    _layer, layer, hidden, rope, attend, use_reentrant=False, preserve_rng_state=False
                )  # fmt: skip
            else:
                hidden = _layer(layer, hidden, rope, attend)
            if deepstack is not None and number < len(deepstack[1]):
                images, added = deepstack
                hidden = hidden.index_add(0, images.nonzero().squeeze(1), added[number].to(hidden.dtype))
        out: Tensor = self.text.norm(hidden)
        return out

    def rope(self, hidden: Tensor, positions: Tensor) -> Rope:
        """Rotary positions; the library's own."""
        cos, sin = self.text.rotary_emb(hidden[None], positions)
        return Rope.of(cos[0], sin[0])

    def packed(self) -> list[PackedLayer]:
        """Every layer's weights put together once, for steps of a few tokens."""
        return [PackedLayer(layer) for layer in self.text.layers]


class PackedLayer:
    """A layer without gradient, its matrices put together once; weights must not change while it is used.

    The matrices lie transposed: a product of a few rows with one that lies so takes 0.5 to 0.75 of the time (1 to 64
    rows, 192 x 2240).

    Args:
        layer: the stock decoder layer.
    """

    @torch.no_grad()
    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.shape = shape_of(layer)
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.matrix = (torch.cat([x.weight for x in three]) * layer.input_layernorm.weight).T.contiguous()
        self.bias = None if three[0].bias is None else torch.cat([x.bias for x in three])
        self.head_norm = head_norms(*_head_norms(attention), self.shape)
        self.out, self.out_bias = attention.o_proj.weight.T.contiguous(), attention.o_proj.bias
        two = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        self.wide = (two * layer.post_attention_layernorm.weight).T.contiguous()
        self.down = mlp.down_proj.weight.T.contiguous()
        self.number, self.scale = int(attention.layer_idx), float(attention.scaling)

    def __call__(self, hidden: Tensor, rope: Rope, attend: Attend) -> Tensor:
        """``[N, E]`` after the layer."""
        shape = self.shape
        out = hidden.new_empty(len(hidden), self.matrix.shape[1] // shape.width, shape.width)
        project(hidden, rope, self.matrix, self.bias, self.head_norm, shape, out)
        q, k, v = out.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
        hidden = torch.addmm(hidden, attend(self.number, q, k, v, self.scale).flatten(1), self.out)
        if self.out_bias is not None:
            hidden = hidden + self.out_bias
        wide, fed = hidden.new_empty(len(hidden), self.wide.shape[1]), torch.empty_like(hidden)
        feed(hidden, self.wide, self.down, shape.eps, fed, wide)
        return fed


def shape_of(layer: Any) -> Shape:
    """The numbers that the weights do not tell."""
    attention = layer.self_attn
    width = int(attention.head_dim)
    heads, kv_heads = (len(x.weight) // width for x in (attention.q_proj, attention.k_proj))
    return Shape(heads, kv_heads, width, torch.tensor(layer.input_layernorm.variance_epsilon))


def _head_norms(attention: Any) -> tuple[Tensor | None, Tensor | None]:
    """Weights of the norms of queries and keys, if there are any."""
    norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
    q_norm, k_norm = (None if norm is None else norm.weight for norm in norms)
    return q_norm, k_norm


def _layer(layer: Any, hidden: Tensor, rope: Rope, attend: Attend) -> Tensor:
    attention, mlp = layer.self_attn, layer.mlp
    three = (attention.q_proj, attention.k_proj, attention.v_proj)
    q, k, v = Projections.apply(
        hidden, rope.cos, rope.sin, shape_of(layer), layer.input_layernorm.weight, *(x.weight for x in three),
        *(x.bias for x in three), *_head_norms(attention),
    )  # fmt: skip
    seen = attend(int(attention.layer_idx), q, k, v, float(attention.scaling)).flatten(1)  # [N, H * D]
    hidden = hidden + linear(seen, attention.o_proj.weight, attention.o_proj.bias)
    out: Tensor = FeedForward.apply(
        hidden, torch.tensor(layer.post_attention_layernorm.variance_epsilon), layer.post_attention_layernorm.weight,
        mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight,
    )  # fmt: skip
    return out


def _replaced(text: Any) -> list[nn.Module]:
    """The modules that our execution does not call: all but the embeddings, the last norm and the rotary positions.
    The library hangs a hook on the embeddings wherever it checkpoints."""
    called = {id(x) for part in (text.get_input_embeddings(), text.norm, text.rotary_emb) for x in part.modules()}
    return [module for module in text.modules() if id(module) not in called]


def _is_known(layer: Any) -> bool:
    kind = type(layer)
    if kind.__name__ not in KNOWN or not kind.__module__.startswith("transformers.models."):
        return False
    projections = [layer.get_submodule(name) for name in PROJECTIONS]
    activation = type(layer.mlp.act_fn).__name__
    return (
        all(type(x) is nn.Linear for x in projections)
        and all(x.bias is None for x in projections[4:])
        and len({x.bias is None for x in projections[:3]}) == 1
        and activation in ("SiLU", "SiLUActivation")
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in layer.parameters())
    )
