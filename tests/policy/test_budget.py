"""How much memory there is: what is owed to the first steps, and an evaluation that is cut to what is free."""

from __future__ import annotations

import pytest
import torch
from support.oracles import prompts_of_mixed_size
from support.tiny_models import random_model

from visual_rft.answering.answering import BATCH
from visual_rft.answering.local import LocalModel
from visual_rft.config.optimizer import OptimizerConfig
from visual_rft.config.sections import EngineConfig, ModelConfig
from visual_rft.errors import ModelError
from visual_rft.policy.agreement import verify
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.memory import budget as module
from visual_rft.policy.memory.activations import copied_bytes
from visual_rft.policy.memory.budget import ACTIVATION_SHARE, free_memory, owed_bytes
from visual_rft.policy.memory.caches import ANSWERED_AT_ONCE, sampling_bytes
from visual_rft.policy.policy import Policy
from visual_rft.policy.trainable import trainable
from visual_rft.training.learner import make_optimizer

NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


class AdamW8bit(torch.optim.AdamW):
    """Its averages in 8 bits, as those of bitsandbytes, which needs a GPU."""

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"state1": torch.zeros_like(p, dtype=torch.uint8), "state2": torch.zeros_like(p).byte()}


def test_what_is_owed_is_what_the_first_step_allocates():
    model, _ = random_model("qwen2_vl")
    count = sum(p.numel() for p in model.parameters())
    optimizer, _ = make_optimizer(model, OptimizerConfig(), 1)
    assert owed_bytes(model, optimizer) == (4 + 8) * count
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    assert owed_bytes(model, optimizer) == 8 * count
    optimizer.step()
    optimizer.zero_grad()
    assert owed_bytes(model, optimizer) == pytest.approx(4 * count)  # as in a run that was resumed


def test_averages_of_eight_bits_owe_a_quarter():
    model, _ = random_model("qwen2_vl")
    count = sum(p.numel() for p in model.parameters())
    optimizer = AdamW8bit(model.parameters())
    assert owed_bytes(model, optimizer) == (4 + 2) * count
    optimizer.step()
    assert owed_bytes(model, optimizer) == 4 * count


def test_an_adapter_owes_for_itself_alone():
    model, processor = random_model("qwen2_vl")
    family = Policy(model, processor).family
    model = trainable(model.to(torch.bfloat16), family, ModelConfig.model_validate({"lora": {"rank": 4}}))
    adapter = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert owed_bytes(model) == (4 + 8) * adapter


def test_copies_that_autocast_makes_are_taken_off(monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda device: 1e9)
    model, processor = random_model("qwen2_vl")
    policy = Policy(model, processor, autocast=torch.bfloat16)
    matrices = {name: p.numel() for name, p in model.named_parameters() if p.ndim >= 2}
    vision = sum(count for name, count in matrices.items() if "visual" in name)
    copies = copied_bytes(policy.core, policy.family, policy.types)
    words = matrices["model.language_model.embed_tokens.weight"]  # the head too; prompts have no logits
    patches = matrices["model.visual.patch_embed.proj.weight"]  # a product that keeps what it multiplies, not this
    assert copies == 2 * (2 * (sum(matrices.values()) - vision - words) + words + vision - patches)
    owed = 12 * sum(p.numel() for p in model.parameters())
    assert free_memory(model, None, copies) == ACTIVATION_SHARE * (1e9 - owed - copies)
    plan = policy.memory_plan(policy.prepare(prompts_of_mixed_size(2)))
    assert plan.free_bytes < free_memory(model, None, copies)
    assert policy.budget.limit_bytes(model, 0.0) == free_memory(model, None, copies)  # asked once


def answer_greedily(policy, prompts):
    with torch.no_grad():
        return next(LocalModel(policy).ask([prompts], 96))


def test_the_estimate_counts_the_questions_that_an_evaluation_asks_at_once():
    assert ANSWERED_AT_ONCE == BATCH


@pytest.fixture
def policy():
    model, processor = random_model("qwen2_vl")
    return Policy(model, processor, Sampling(max_new_tokens=6), engine=EngineConfig(memory_gib=1.0))


def _counted(policy, monkeypatch, most: int = 99) -> list[int]:
    """Prompts of each call of ``encode``, which runs out of memory above ``most`` of them."""
    sizes, real = [], policy.encode

    def encode(inputs):
        sizes.append(len(inputs.lengths))
        if sizes[-1] > most:
            raise NO_MEMORY
        return real(inputs)

    monkeypatch.setattr(policy, "encode", encode)
    return sizes


@pytest.mark.parametrize("fit", [1, 2, 5])
def test_an_evaluation_asks_as_much_at_once_as_fits(policy, monkeypatch, fit):
    prompts = prompts_of_mixed_size(5)
    expected = answer_greedily(policy, prompts)
    inputs = policy.prepare(prompts)
    place = inputs.lengths.index(max(inputs.lengths))
    one = sampling_bytes(policy.core, inputs.select([place]), policy.types, max_new_tokens=6, group=1)
    monkeypatch.setattr(policy.budget, "answer_bytes", lambda device: (fit + 0.5) * sum(one.values()))
    sizes = _counted(policy, monkeypatch)
    assert answer_greedily(policy, prompts) == expected
    assert sizes == {1: [1] * 5, 2: [2, 2, 1], 5: [5]}[fit]


def test_an_evaluation_that_runs_out_of_memory_asks_half_as_much(policy, monkeypatch, capsys):
    prompts = prompts_of_mixed_size(5)
    expected = answer_greedily(policy, prompts)
    sizes = _counted(policy, monkeypatch, most=2)
    assert answer_greedily(policy, prompts) == expected
    assert sizes == [5, 2, 2, 1]
    assert "2 instead of 5 questions at once" in capsys.readouterr().err
    assert answer_greedily(policy, prompts) == expected
    assert sizes[4:] == [2, 2, 1]  # and remembers it


def test_one_question_that_does_not_fit_is_an_error_with_remedies(policy, monkeypatch):
    _counted(policy, monkeypatch, most=0)
    with pytest.raises(ModelError, match=r"out of memory while one question is answered; lower model.max_pixels"):
        answer_greedily(policy, prompts_of_mixed_size(2))


def test_out_of_memory_in_the_self_check_says_so(policy, monkeypatch):
    _counted(policy, monkeypatch, most=0)
    with pytest.raises(ModelError, match=r"out of memory in the check before the first step .*; take less at once"):
        verify(policy, policy.prepare(prompts_of_mixed_size(2)))
    assert policy.shares_prefix
