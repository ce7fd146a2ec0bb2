"""What is kept for a backward pass is what the estimate says, in every setting, with the proportions of real models.

Decision: the oracle is autograd itself: every tensor that it saves is counted, each storage once, but for the weights
and autocast's copies of them, which the footprint counts on their own. Proportions stand for sizes, because what is
kept is a sum of widths times tokens.
"""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from support.oracles import prompts_of_mixed_size
from support.precisions import SETTINGS
from support.proportions import WIDTHS, model_in_proportion
from torch.profiler import ProfilerActivity, profile

from visual_rft.config.sections import EngineConfig, ModelConfig
from visual_rft.policy.engine import logits
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.logits import Head
from visual_rft.policy.engine.prefix import Prefix, Rows
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.families import family_of
from visual_rft.policy.memory.activations import activation_size
from visual_rft.policy.memory.plan import MemoryPlan, plan_memory
from visual_rft.policy.policy import Policy
from visual_rft.policy.trainable import trainable


def policy_of(name: str, settings: dict, depth: int = 2, **engine) -> Policy:
    config = ModelConfig.model_validate(settings)
    model, processor = model_in_proportion(name, depth)
    model = trainable(model.to(getattr(torch, config.dtype)), family_of(model.config.model_type, None), config)
    autocast = torch.bfloat16 if config.autocast == "bfloat16" else None
    return Policy(model.eval(), processor, Sampling(max_new_tokens=20), autocast, EngineConfig(**engine))


def kept(policy: Policy, run) -> tuple[int, object]:
    """Bytes of the tensors that autograd saves while ``run`` computes, and its result."""
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    shapes = {tuple(sorted(p.shape)) for p in policy.model.parameters() if p.ndim >= 2}
    storages, alive = {}, []

    def pack(tensor):
        alive.append(tensor)  # or its place would be taken by another
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tuple(sorted(tensor.shape)) not in shapes:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    for tensor in result.tensors if isinstance(result, Prefix) else ():  # what completions go on from
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values()), result


def score(policy, prefix, completions):
    with policy.computing(), policy.checkpointing(float(bool(policy.engine_config.checkpoint_completions))):
        return policy.engine.score(prefix.leaves(), Rows.of(completions, range(completions.mask[..., 0].numel())))


def measured(name: str, setting: str, depth: int = 2, **engine) -> dict[str, tuple[float, float]]:
    """Bytes kept and bytes estimated, of the prompts and of a completion token without its logits."""
    policy = policy_of(name, SETTINGS[setting], depth, **engine)
    inputs = policy.prepare(prompts_of_mixed_size(3))
    size = activation_size(
        policy.core, inputs, policy.types, vision_learns=not policy.tower.frozen, fused=policy.fuses_layers
    )
    prompt_bytes, prefix = kept(policy, lambda: policy.encode(inputs))
    completions = policy.sample(prefix, 4, Draws(0))
    completion_bytes, _ = kept(policy, lambda: score(policy, prefix, completions))
    logit = 4 * policy.model_config.get_text_config().vocab_size  # counted in a test of its own
    token_bytes = completion_bytes / int(completions.mask.sum()) - logit
    if engine:
        return {
            "prompts": (prompt_bytes, size.checkpointed_prompt_bytes),
            "token": (token_bytes, size.checkpointed_bytes_per_token),
        }
    return {"prompts": (prompt_bytes, size.prompt_bytes), "token": (token_bytes, size.bytes_per_token)}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", WIDTHS)
def test_what_is_kept_is_what_the_estimate_says(name, setting):
    for found, estimated in measured(name, setting).values():
        assert 0.85 < found / estimated < 1.15


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ["qwen2.5-vl-3b"])
def test_what_a_checkpointed_layer_keeps_is_what_the_estimate_says(name, setting):
    """The difference of two depths, because what the recomputed layer holds is not there before the backward pass."""
    shallow, deep = (
        measured(name, setting, depth, checkpoint_prompts=1, checkpoint_completions=True) for depth in (2, 4)
    )
    for part in ("prompts", "token"):
        found, estimated = (after - before for before, after in zip(shallow[part], deep[part], strict=True))
        assert 0.85 < found / estimated < 1.15, part


@pytest.mark.parametrize("tokens", [30, 100, 250], ids="{} tokens".format)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_logits_take_what_the_plan_says(dtype, tokens):
    """Bytes that are allocated at most, from scoring to the end of the backward pass; pieces of 100 tokens."""
    vocabulary, width = 20_000, 8
    piece = 100 * 4 * vocabulary
    head = Head(torch.nn.Linear(width, vocabulary, bias=False, dtype=dtype), 0.7, torch.tensor([3]), None, piece)
    hidden = torch.randn(tokens, width, dtype=dtype, requires_grad=True)
    wanted = torch.randint(4, vocabulary, (tokens,))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        head.of_tokens(hidden, wanted).sum().backward()
    changes = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = list(accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns())))
    per_token = vocabulary * (8 if dtype == torch.float32 else 10)
    most = per_token * logits.tokens_at_once(vocabulary, piece)
    plan = MemoryPlan(0, False, True, 1, None, 0, 0, logits_per_token=per_token, logits_at_most=most)
    gradient = head.projection.weight.nbytes  # of the matrix, counted on its own
    assert 0.85 < (max(live) - gradient) / plan.logits_bytes(tokens) < 1.15


@pytest.mark.parametrize("setting", ["float32", "bfloat16", "LoRA on bfloat16, autocast"])
def test_the_plan_is_told_what_logits_take(setting):
    policy = policy_of("qwen2-vl-2b", SETTINGS[setting])
    inputs = policy.prepare(prompts_of_mixed_size(2))
    size = activation_size(policy.core, inputs, policy.types, vision_learns=True)
    vocabulary = policy.model_config.get_text_config().vocab_size
    assert size.logits_per_token == vocabulary * (8 if setting == "float32" else 10)
    assert size.logits_at_most == size.logits_per_token * logits.tokens_at_once(vocabulary)
    plan = plan_memory(EngineConfig(), size, 1e12, 2, 20)
    assert plan.completion_bytes(10) == 10 * (size.bytes_per_token + size.logits_per_token)
    many = 10 * logits.tokens_at_once(vocabulary)
    assert plan.completion_bytes(many) == many * size.bytes_per_token + size.logits_at_most
    assert size.repeated(2, 20).logits_per_token == size.logits_per_token


def test_an_adapter_under_autocast_keeps_no_second_copy_and_computes_the_same():
    """peft's copy of the input in float32 is rounded back to what it was made of: the same to the last bit."""
    policy = policy_of("qwen2.5-vl-3b", SETTINGS["LoRA on bfloat16, autocast"])
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    inputs = policy.prepare(prompts_of_mixed_size(2))
    found = []
    for enabled in (False, True):
        for module in policy.model.modules():
            if hasattr(module, "cast_input_dtype_enabled"):
                assert enabled or module.cast_input_dtype_enabled is False
                module.cast_input_dtype_enabled = enabled
        found.append(kept(policy, lambda: policy.encode(inputs)))
    (small, ours), (large, theirs) = found
    assert small < 0.95 * large
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert torch.equal(mine, other)
