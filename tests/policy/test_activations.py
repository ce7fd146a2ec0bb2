"""What is kept for a backward pass is what the estimate says, in every setting, with the proportions of real models.

Decision: the oracle is autograd itself: every tensor that it saves is counted, each storage once, but for the weights
and autocast's copies of them, which the footprint counts on their own. Proportions stand for sizes, because what is
kept is a sum of widths times tokens.
"""

from __future__ import annotations

import pytest
import torch
from support.oracles import prompts_of_mixed_size
from support.precisions import SETTINGS
from support.proportions import WIDTHS, model_in_proportion

from visual_rft.config.sections import EngineConfig, ModelConfig
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.prefix import Prefix, Rows
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.families import family_of
from visual_rft.policy.memory.activations import activation_size
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
    with policy._computing(), policy.checkpointing(float(bool(policy.engine_config.checkpoint_completions))):
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
    logit = 4 * policy.model_config.get_text_config().vocab_size  # kept; twice as much again is for its gradient
    token_bytes = completion_bytes / int(completions.mask.sum()) - logit
    if engine:
        return {
            "prompts": (prompt_bytes, size.checkpointed_prompt_bytes),
            "token": (token_bytes, size.checkpointed_bytes_per_token),
        }
    return {"prompts": (prompt_bytes, size.prompt_bytes), "token": (token_bytes, size.bytes_per_token - 3 * logit)}


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
