"""Our own execution of the decoder layers: where it runs, what it computes, and what is computed once."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from support.oracles import prompts_of_mixed_size, random_completions
from support.tiny_models import SHARED, random_model
from torch.profiler import ProfilerActivity, profile

from visual_rft.config.sections import EngineConfig, LoraConfig, ModelConfig
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.layers import Layers
from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.engine.tree import Tree
from visual_rft.policy.families import FAMILIES
from visual_rft.policy.loss import WeightedLogprobs
from visual_rft.policy.policy import Policy
from visual_rft.policy.trainable import trainable

FUSED = [kind for kind in SHARED if kind not in ("qwen3_vl_moe",)]


def hooked(policy: Policy) -> Policy:
    """The same policy on the library's own forward pass: a hook stands for all that is not known."""
    policy.core.get_decoder().layers[0].mlp.register_forward_hook(lambda *_: None)
    return policy


def scored(policy: Policy, completions: Completions, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    values = policy.backward(policy.encode(prompts_of_mixed_size(4)), completions, WeightedLogprobs(weight))
    grads = {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}
    return {"log-probabilities": values, **grads}


@pytest.mark.parametrize(
    "engine", [{}, {"checkpoint_completions": True, "checkpoint_prompts": 1.0, "micro_batch": 3}], ids=str
)
@pytest.mark.parametrize("kind", FUSED)
def test_the_fused_layers_compute_what_the_librarys_do(kind, engine):
    ours, theirs = (Policy(*random_model(kind), engine=EngineConfig(**engine)) for _ in range(2))
    hooked(theirs)
    assert (ours.engine.fuses_layers, theirs.engine.fuses_layers) == (True, False)
    completions = random_completions(ours, 4, group=3, length=9)
    weight = torch.randn(completions.ids.shape, generator=torch.Generator().manual_seed(5))
    got, wanted = scored(ours, completions, weight), scored(theirs, completions, weight)
    assert got.keys() == wanted.keys()
    # Where it checkpoints, the library hangs a hook on the embeddings: no reason to run its layers from then on.
    assert (ours.engine.fuses_layers, theirs.engine.fuses_layers) == (True, False)
    scale = torch.cat([g.flatten() for name, g in wanted.items() if name != "log-probabilities"]).norm()
    torch.testing.assert_close(got.pop("log-probabilities"), wanted.pop("log-probabilities"), atol=1e-5, rtol=1e-5)
    for name, gradient in wanted.items():
        assert (got[name] - gradient).norm() <= 1e-5 * max(gradient.norm(), 1e-3 * scale), name


@pytest.mark.parametrize("kind", FUSED)
def test_the_fused_layers_sample_what_the_librarys_score(kind):
    """Over two blocks of the buffers, with completions that share slots, split and end."""
    ours, theirs = (Policy(*random_model(kind), Sampling(max_new_tokens=70, temperature=0.3)) for _ in range(2))
    hooked(theirs)
    drawn = ours.sample(ours.encode(prompts_of_mixed_size(3)), 4, Draws(2))
    with torch.no_grad():
        scored = theirs.logprobs(theirs.encode(prompts_of_mixed_size(3)), drawn)
    torch.testing.assert_close(drawn.logprobs, scored, atol=2e-5, rtol=1e-5)  # a temperature of 0.3 enlarges rounding


def test_only_what_is_known_and_plain_is_fused():
    model, _ = random_model("qwen3_vl")
    text = model.get_decoder()
    assert Layers.of(text) is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert Layers.of(text) is None
    assert Layers.of(random_model("qwen3_vl")[0].to(torch.bfloat16).get_decoder()) is None
    adapted = trainable(model, FAMILIES["qwen3_vl"], ModelConfig(lora=LoraConfig(rank=2)))
    assert Layers.of(adapted.get_base_model().get_decoder()) is None
    changed, _ = random_model("qwen2_vl")
    changed.get_decoder().layers[1].mlp.act_fn = torch.nn.GELU()
    assert Layers.of(changed.get_decoder()) is None
    for kind in set(SHARED) - set(FUSED):
        assert Layers.of(random_model(kind)[0].get_decoder()) is None


def test_frozen_weights_get_no_gradient():
    ours, theirs = (Policy(*random_model("qwen3_vl")) for _ in range(2))
    hooked(theirs)
    for policy in (ours, theirs):
        for name, parameter in policy.model.named_parameters():
            parameter.requires_grad_("layers.1." in name and "proj" in name)
    completions = random_completions(ours, 4, group=2, length=6)
    weight = torch.randn(completions.ids.shape, generator=torch.Generator().manual_seed(5))
    got, wanted = scored(ours, completions, weight), scored(theirs, completions, weight)
    assert got.keys() == wanted.keys()
    # Where it checkpoints, the library hangs a hook on the embeddings: no reason to run its layers from then on.
    assert (ours.engine.fuses_layers, theirs.engine.fuses_layers) == (True, False)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, atol=1e-5, rtol=1e-4)


def test_completions_that_are_alike_are_computed_once_with_the_gradient_of_all():
    """Four completions of which three are the same, against one after the other."""
    policy = Policy(*random_model("qwen3_vl"))
    random = random_completions(policy, 4, group=4, length=7)
    ids, mask = random.ids.clone(), random.mask.clone()
    for place in (1, 3):
        ids[:, place], mask[:, place] = ids[:, 0], mask[:, 0]
    ids[:, 2, :3], mask[:, 2, :5] = ids[:, 0, :3], True  # begins alike
    completions = Completions(ids, mask, random.logprobs, [], random.truncated)
    weight = torch.randn(ids.shape, generator=torch.Generator().manual_seed(5))
    read = []
    hook = policy.model.lm_head.register_forward_pre_hook(lambda _, a: read.append(len(a[0])))
    got = scored(policy, completions, weight)
    hook.remove()
    policy.model.zero_grad()
    alone = Policy(*random_model("qwen3_vl"), engine=EngineConfig(micro_batch=1))
    wanted = scored(alone, completions, weight)
    for name, value in wanted.items():
        assert (got[name] - value).norm() <= 1e-5 * value.norm().clamp(min=1e-3), name
    rows = [
        (i // 4, row[:n])
        for i, (row, n) in enumerate(zip(ids.flatten(0, 1).tolist(), mask.sum(-1).flatten(), strict=True))
    ]
    assert read == [4 + len({(i, tuple(row[:n])) for i, row in rows for n in range(1, len(row))})]


def test_a_tree_of_nothing_alike_is_the_rows():
    tree = Tree.of([[1, 2], [3], [1]], prompts=(0, 0, 2))
    assert (tree.prompts, tree.tokens, tree.depths, tree.origins) == ([0, 2], [1], [0], [0])
    assert (tree.predicted, tree.sources) == ([1, 2, 3, 1], [0, 2, 0, 1])
    assert (tree.paths, tree.rows) == ([[0], [], []], [[0, 1], [2], [3]])


@pytest.mark.parametrize("kind", SHARED)
def test_the_librarys_layers_are_given_no_mask(kind):
    """Packed positions would make the library build one of tokens x tokens in every pass."""
    policy = hooked(Policy(*random_model(kind)))
    masks = []
    policy.core.get_decoder().layers[0].self_attn.register_forward_pre_hook(
        lambda _, a, k: masks.append(k.get("attention_mask")), with_kwargs=True
    )
    completions = random_completions(policy, 3, group=2, length=5)
    with torch.no_grad():
        policy.logprobs(policy.encode(prompts_of_mixed_size(3)), completions)
    assert masks == [None, None]


def operations(run) -> Counter[str]:
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        run()
    return Counter({e.key: e.count for e in recorded.key_averages() if e.key.startswith("aten::")})


def test_a_token_and_an_update_are_few_operations():
    """Counted, not timed: a third less than the library's layers need, in decoding and in the update."""
    counts = []
    for change in (lambda policy: policy, hooked):
        policy = change(Policy(*random_model("qwen3_vl"), Sampling(max_new_tokens=24)))
        inputs = policy.prepare(prompts_of_mixed_size(1))
        policy.end_ids = [-1]
        with torch.no_grad():
            prefix = policy.encode(inputs)
            decoding = operations(lambda policy=policy, prefix=prefix: policy.sample(prefix, 1, Draws(0)))
        completions = random_completions(policy, 1, group=4, length=12)
        prefix = policy.encode(inputs)
        loss = WeightedLogprobs(torch.ones(completions.ids.shape))
        update = operations(lambda policy=policy, prefix=prefix, c=completions, w=loss: policy.backward(prefix, c, w))
        counts.append((decoding.total(), update.total(), decoding["aten::mm"] + decoding["aten::addmm"]))
    ours, theirs = counts
    assert ours[0] < 0.67 * theirs[0]
    assert ours[1] < theirs[1]
    assert ours[2] < 0.67 * theirs[2]
