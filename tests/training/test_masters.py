"""Training of bfloat16 weights: small updates arrive, a resumed run is the same to the last bit, and the reference."""

from __future__ import annotations

import pytest
import torch
from support.oracles import prompts_of_mixed_size, random_completions
from support.runs import config, interrupt, reward_the_letter, weights
from support.tiny_models import random_model

from visual_rft.config.optimizer import OptimizerConfig
from visual_rft.config.sections import EngineConfig, ModelConfig
from visual_rft.errors import ConfigError
from visual_rft.policy.loading import autocast_of
from visual_rft.policy.policy import Policy
from visual_rft.policy.reference import Reference
from visual_rft.training import masters as module
from visual_rft.training.learner import make_optimizer
from visual_rft.training.masters import MasterAdamW
from visual_rft.training.rft import train


@pytest.mark.parametrize("chunk", [1, 100, 2**26])
def test_masters_move_as_float32_weights_do_and_the_model_is_them_rounded(monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    torch.manual_seed(0)
    shapes = [(8, 5), (5,), (3, 7)]
    model = [torch.nn.Parameter(torch.randn(shape).bfloat16()) for shape in shapes]
    exact = [torch.nn.Parameter(p.detach().float()) for p in model]
    options = {"lr": 1e-4, "betas": (0.9, 0.999)}
    ours = MasterAdamW(
        [{"params": model[:2], "weight_decay": 0.1}, {"params": model[2:], "weight_decay": 0.0}], **options
    )
    theirs = torch.optim.AdamW(
        [{"params": exact[:2], "weight_decay": 0.1}, {"params": exact[2:], "weight_decay": 0.0}], **options
    )
    for _ in range(20):
        for p, q in zip(model, exact, strict=True):
            p.grad = torch.randn(p.shape).bfloat16()
            q.grad = p.grad.float()
        ours.step()
        theirs.step()
        ours.zero_grad()
        assert all(p.grad is None for p in (*model, *ours.masters))
    for p, master, q in zip(model, ours.masters, exact, strict=True):
        assert torch.equal(master, q)
        assert torch.equal(p, q.bfloat16())


def test_a_weight_without_gradient_stays():
    model = [torch.nn.Parameter(torch.ones(2).bfloat16()) for _ in range(2)]
    optimizer = MasterAdamW([{"params": model}], lr=0.1)
    model[0].grad = torch.ones_like(model[0])
    optimizer.step()
    assert model[0].tolist() != [1, 1]
    assert model[1].tolist() == [1, 1]


def test_updates_that_bfloat16_would_lose_arrive(monkeypatch, model_folders, tmp_path):
    """At 1e-6 nearly no weight of pure bfloat16 would change; their masters all do."""
    reward_the_letter(monkeypatch)
    run = config(tmp_path / "run", model_folders["qwen2_vl"], model={"dtype": "bfloat16"},
                 optimizer={"learning_rate": 1e-6}, rollout={"group_size": 8})  # fmt: skip
    summary = train(run)
    state = torch.load(tmp_path / "run" / "checkpoints" / "step-000002" / "trainer.pt", weights_only=True)["optimizer"]
    saved = weights(summary["checkpoint"] + "/model")
    assert {x.dtype for x in saved.values()} == {torch.bfloat16}
    apart = [bool((master != master.bfloat16().float()).any()) for master in state["masters"]]
    assert sum(apart) > 0.9 * len(apart)


def test_a_resumed_run_of_bfloat16_weights_is_the_same_to_the_last_bit(monkeypatch, model_folders, tmp_path):
    reward_the_letter(monkeypatch)
    sections = {
        "model": {"dtype": "bfloat16"},
        "optimizer": {"learning_rate": 1e-4},
        "rollout": {"group_size": 4},
        "run": {"steps": 4, "checkpoint_every": 2, "prompts_per_batch": 2},
        "engine": {"memory_gib": 1.0},
    }
    whole = train(config(tmp_path / "whole", model_folders["qwen2_vl"], **sections))
    halves = config(tmp_path / "halves", model_folders["qwen2_vl"], **sections)
    interrupt(train, halves, 4)
    resumed = train(halves, resume=True)
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoints" / "step-000004" / "trainer.pt", weights_only=True)["optimizer"]
        for name in ("whole", "halves")
    )
    for one, other in zip(ours["masters"], theirs["masters"], strict=True):
        assert torch.equal(one, other)
    one, other = weights(whole["checkpoint"] + "/model"), weights(resumed["checkpoint"] + "/model")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_averages_of_eight_bits_on_bfloat16_weights_are_refused():
    model, _ = random_model("qwen2_vl")
    with pytest.raises(ConfigError, match="'adamw_8bit' would lose updates of 1e-6 in bfloat16 weights; use adamw"):
        make_optimizer(model.to(torch.bfloat16), OptimizerConfig(name="adamw_8bit"), 1)


@pytest.mark.parametrize("published", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl"])
def test_the_reference_in_bfloat16_is_the_same_to_the_last_bit(kind, published):
    """Under autocast, of weights that were published in bfloat16; others are not rounded."""
    model, processor = random_model(kind)
    model.to(published).float()
    policy = Policy(model, processor, autocast=torch.bfloat16)
    prompts = prompts_of_mixed_size(2)
    completions = random_completions(policy, 2, group=2, length=6)
    with torch.no_grad():
        prefix = policy.encode(prompts)
        expected = policy.logprobs(prefix, completions)
    reference = Reference(policy)
    assert torch.equal(reference.logprobs(prefix, completions), expected)
    assert reference.frozen is not None
    core = reference.frozen.core
    tied = core.get_output_embeddings().weight is core.get_input_embeddings().weight
    assert tied
    assert core.get_output_embeddings().weight.dtype == torch.float32
    linear = [m.weight for m in core.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(w.dtype == torch.bfloat16 for w in linear) == (len(linear) - 1 if published == torch.bfloat16 else 0)
    assert all(p.dtype == torch.float32 for p in policy.model.parameters())


@pytest.mark.parametrize(
    ("model", "here", "expected"),
    [
        ({}, True, "bfloat16"),
        ({}, False, "no"),
        ({"autocast": "no"}, True, "no"),
        ({"dtype": "bfloat16"}, True, "no"),  # computes in bfloat16 as it is
        ({"dtype": "bfloat16", "lora": {"rank": 4}}, True, "bfloat16"),  # or the adapter would compute in float32
        ({"dtype": "bfloat16", "lora": {"rank": 4}, "quantization": "nf4"}, True, "bfloat16"),
    ],
)
def test_a_gpu_computes_in_bfloat16_unless_told_otherwise(monkeypatch, model, here, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    assert autocast_of(ModelConfig.model_validate(model)) == expected


def test_an_estimate_for_another_machines_card_is_that_of_a_gpu():
    assert autocast_of(ModelConfig(), EngineConfig(card_gib=24)) == "bfloat16"
