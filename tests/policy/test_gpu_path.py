"""What a GPU would run, looked at on a CPU: nothing in a layer waits for the device, and bases of few bits compute in
bfloat16.

Decision: what waits is known by construction. An operation whose result has a size or a Python value that depends on
numbers makes the host wait: reading one number, ``tolist``, ``nonzero``, and an index of booleans. They are counted
where they pass the dispatcher, while a hook says that a layer is at work; in the backward pass all are counted. A hook
on the layers also keeps our execution for CPUs away, so that the library's layers run, as on a GPU.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from support.oracles import prompts_of_mixed_size, random_completions
from support.tiny_models import random_model
from torch.utils._python_dispatch import TorchDispatchMode

from visual_rft.config.sections import LoraConfig, ModelConfig
from visual_rft.policy.engine.attention import flash, shared_prefix
from visual_rft.policy.engine.attention.decoding import DecodingAttention
from visual_rft.policy.engine.decoders import RecordedDecoder
from visual_rft.policy.engine.prefix import Rows
from visual_rft.policy.engine.replay import Replay
from visual_rft.policy.families import FAMILIES
from visual_rft.policy.policy import Policy
from visual_rft.policy.trainable import trainable

QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "equal")
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")


class Waiting(TorchDispatchMode):
    """Counts what would make the host wait, while :attr:`inside` is above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.seen = 0, []

    def note(self, name: str) -> None:
        if self.inside:
            self.seen.append(name)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in WAITS or (name in INDEXED and any(x is not None and x.dtype == torch.bool for x in args[1])):
            self.note(name)
        if name == "repeat_interleave" and args[0].dim() and (kwargs or {}).get("output_size") is None:
            self.note(name)
        return function(*args, **(kwargs or {}))

    @contextmanager
    def everywhere(self):
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


@pytest.fixture
def waiting(monkeypatch):
    mode, tolist = Waiting(), torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: (mode.note("tolist"), tolist(x))[1])
    with mode:
        yield mode


def watched(kind: str, mode: Waiting) -> Policy:
    """A policy whose layers of the tower and the language model say when they are at work."""
    policy = Policy(*random_model(kind))
    for layer in (*policy.core.model.visual.blocks, *policy.core.get_decoder().layers):
        layer.register_forward_pre_hook(lambda *_: setattr(mode, "inside", mode.inside + 1))
        layer.register_forward_hook(lambda *_: setattr(mode, "inside", mode.inside - 1))
    assert not policy.engine.fuses_layers
    return policy


def test_the_count_would_see_it(waiting):
    x = torch.arange(3.0)
    with waiting.everywhere():
        x[x > 1], x.max().item(), x.tolist(), x.nonzero(), bool(x[0] > 1)
        x[x > 1] = 0
        x[torch.tensor([0, 2])].sum()
    assert waiting.seen[:4] == ["index", "_local_scalar_dense", "tolist", "nonzero"]
    assert waiting.seen[4:] in (["_local_scalar_dense", "index_put_"], ["_local_scalar_dense", "_index_put_impl_"])


@pytest.mark.parametrize("kind", QWEN)
def test_no_layer_waits_for_the_device(kind, waiting):
    policy = watched(kind, waiting)
    prefix = policy.encode(prompts_of_mixed_size(4))
    # Where images and windows end is read once per pass, in the first layer that asks for it; not once per layer.
    assert waiting.seen in ([], ["tolist"], ["tolist", "tolist"])
    waiting.seen.clear()

    completions = random_completions(policy, 4, group=3, length=9)
    assert len(set(completions.lengths.flatten().tolist())) > 1  # or they would be one rectangle
    leaves = prefix.leaves()
    logprobs = policy.engine.score(leaves, Rows.of(completions, range(12)))
    with waiting.everywhere():
        logprobs.sum().backward()
    assert waiting.seen == []

    levels = len(getattr(policy.model_config.vision_config, "deepstack_visual_indexes", ()))
    with waiting.everywhere():
        sum(k.sum() + v.sum() for k, v in prefix.layers).backward()
    # The library adds deepstack features between layers by a mask, and image features by another.
    assert len(waiting.seen) <= 4 * levels + 1, waiting.seen


@pytest.mark.parametrize("kind", QWEN)
def test_a_decoded_token_waits_for_nothing(kind, waiting, monkeypatch):
    monkeypatch.setattr(Replay, "possible", False)  # called as it is
    policy = watched(kind, waiting)
    with torch.inference_mode():
        prefix = policy.encode(prompts_of_mixed_size(3))
        waiting.seen.clear()
        decoder = RecordedDecoder(policy.engine, prefix, 2)
        with waiting.everywhere():
            for _ in range(3):
                decoder.step(torch.full((6,), 7))
    assert waiting.seen == []


def test_1024_tokens_are_five_recordings():
    """Each growth of the buffers is a recording of its own; with blocks of 64 tokens they would be sixteen."""
    attention = DecodingAttention(((torch.zeros(3, 1, 2), torch.zeros(3, 1, 2)),), (3,), 1, fixed=True)
    capacities = []
    for _ in range(1024):
        attention.begin_token()
        capacities.append(attention.capacity)
    assert len(set(capacities)) == 5
    assert all(length <= capacity <= max(64, 2 * length) for length, capacity in enumerate(capacities, start=1))


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_queries_of_a_base_of_few_bits_are_bfloat16(quantization, monkeypatch):
    """Its flag is all that is quantised here. peft's preparation of such a base would make the rest float32, and
    queries in float32 have no flash attention on a GPU."""
    config = ModelConfig(dtype="bfloat16", lora=LoraConfig(rank=2), quantization=quantization, autocast="bfloat16")
    model, processor = random_model("qwen2_5_vl")
    model = model.to(torch.bfloat16)
    model.is_quantized = True
    setattr(model, "is_loaded_in_4bit" if quantization == "nf4" else "is_loaded_in_8bit", True)
    adapted = trainable(model, FAMILIES["qwen2_5_vl"], config)
    kept = {name: p.dtype for name, p in adapted.named_parameters() if "lora_" not in name}
    assert set(kept.values()) == {torch.bfloat16}, [name for name, dtype in kept.items() if dtype != torch.bfloat16]

    policy = Policy(adapted.eval(), processor, autocast=torch.bfloat16)
    types = []
    forward, dense = flash.forward, shared_prefix.scaled_dot_product_attention
    monkeypatch.setattr(
        flash, "forward", lambda q, k, v, **o: (types.extend((q.dtype, k.dtype, v.dtype)), forward(q, k, v, **o))[1]
    )
    monkeypatch.setattr(
        shared_prefix, "scaled_dot_product_attention",
        lambda q, k, v, **o: (types.extend((q.dtype, k.dtype, v.dtype)), dense(q, k, v, **o))[1],
    )  # fmt: skip
    prefix = policy.encode(prompts_of_mixed_size(2))
    policy.logprobs(prefix, random_completions(policy, 2, group=2, length=5))
    assert types
    assert set(types) == {torch.bfloat16}
