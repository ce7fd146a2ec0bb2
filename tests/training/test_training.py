"""The loops on tiny models: every family takes steps, resuming changes nothing, LoRA and references behave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.oracles import prompts_of_mixed_size
from support.runs import config, interrupt, metrics, reward_the_letter, weights
from support.tiny_models import FAMILIES
from transformers import AutoProcessor

from visual_rft.config.sections import ModelConfig, RolloutConfig
from visual_rft.errors import DataError, ModelError, RunFolderError
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.reference import Reference
from visual_rft.training import household
from visual_rft.training.batches import batch_indices, prefetch
from visual_rft.training.rft import train
from visual_rft.training.sft import train_supervised


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots and report are tested in test_tracking.py; here they would cost a second for each of many runs."""
    monkeypatch.setattr(household, "write_artefacts", lambda folder: [])


def test_a_run_leaves_metrics_rollouts_and_a_checkpoint(model_folders, tmp_path):
    folder = model_folders["qwen2_vl"]
    summary = train(config(tmp_path / "run", folder, objective={"beta": 0.1}))
    assert summary["steps"] == 2
    lines = metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1]
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert lines[0]["zero_std_share"] == 1
    for name in ("reward", "reward_std", "length", "tokens_per_second", "seconds/sample", "seconds/update"):
        assert name in lines[0]
    model = Path(summary["checkpoint"]) / "model"
    assert AutoProcessor.from_pretrained(model) is not None
    assert weights(model).keys() == weights(folder).keys()
    rows = [json.loads(x) for x in (tmp_path / "run" / "rollouts" / "step-000000.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert len(rows[0]["completions"]) == 3
    assert (tmp_path / "run" / rows[0]["images"][0]).is_file()


def test_reinforcement_raises_the_rewarded_behaviour(monkeypatch, model_folders, tmp_path):
    reward_the_letter(monkeypatch)
    train(
        config(
            tmp_path / "run",
            model_folders["qwen2_vl"],
            rollout={"group_size": 8},
            objective={"beta": 0.0},
            optimizer={"learning_rate": 5e-3, "schedule": "constant"},
            run={"folder": str(tmp_path / "run"), "steps": 25, "prompts_per_batch": 4, "rollouts_every": 0},
        )
    )
    rewards = [line["reward"] for line in metrics(tmp_path / "run")]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1
    assert not (tmp_path / "run" / "rollouts").exists()


@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["full", "lora"])
@pytest.mark.parametrize("loop", [train, train_supervised], ids=["rft", "sft"])
def test_a_resumed_run_equals_an_uninterrupted_one(monkeypatch, model_folders, tmp_path, loop, lora):
    reward_the_letter(monkeypatch)
    common = {"model": {"path": str(model_folders["qwen2_vl"]), "lora": lora}, "objective": {"beta": 0.1}}
    run = {"steps": 4, "checkpoint_every": 2, "prompts_per_batch": 2}
    whole = config(tmp_path / "whole", "", **common, run={**run, "folder": str(tmp_path / "whole")})
    loop(whole)
    parts = config(tmp_path / "parts", "", **common, run={**run, "folder": str(tmp_path / "parts")})
    interrupt(loop, parts, 4)
    loop(parts, resume=True)

    assert [m["step"] for m in metrics(tmp_path / "parts")] == [0, 1, 2, 3]
    for a, b in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "parts"), strict=True):
        assert a["loss"] == b["loss"]
    for name in ("whole", "parts"):
        assert (tmp_path / name / "checkpoints" / "step-000004").is_dir()
    from safetensors.torch import load_file

    file = "adapter_model.safetensors" if lora else "model.safetensors"
    one, other = (load_file(tmp_path / n / "checkpoints" / "step-000004" / "model" / file) for n in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    start = load_file(model_folders["qwen2_vl"] / "model.safetensors")
    if not lora:
        assert any(not torch.equal(one[key], start[key]) for key in one)


def test_several_updates_and_accumulation_run(monkeypatch, model_folders, tmp_path):
    reward_the_letter(monkeypatch)
    train(config(tmp_path / "a", model_folders["qwen2_vl"], objective={"updates_per_rollout": 2, "beta": 0.0},
                 run={"folder": str(tmp_path / "a"), "steps": 1}))  # fmt: skip
    train(config(tmp_path / "b", model_folders["qwen2_vl"], objective={"beta": 0.0},
                 run={"folder": str(tmp_path / "b"), "steps": 1, "accumulation": 2}))  # fmt: skip
    rows = (tmp_path / "b" / "rollouts" / "step-000000.jsonl").read_text().splitlines()
    assert len(rows) == 4


def test_groups_grow_over_a_run_and_go_on_growing_after_an_interruption(monkeypatch, model_folders, tmp_path):
    reward_the_letter(monkeypatch)
    folder, growing = model_folders["qwen2_vl"], {"group_size": {"from": 2, "to": 6}, "max_new_tokens": 6}
    runs = {
        name: config(tmp_path / name, folder, rollout=growing, objective={"beta": 0.0},
                     run={"folder": str(tmp_path / name), "steps": 4, "checkpoint_every": 2})
        for name in ("whole", "parts")
    }  # fmt: skip
    train(runs["whole"])
    interrupt(train, runs["parts"], 4)
    train(runs["parts"], resume=True)
    for name in runs:
        steps = sorted((tmp_path / name / "rollouts").glob("step-*.jsonl"))
        rows = [[json.loads(line) for line in step.read_text().splitlines()] for step in steps]
        assert [{len(row["completions"]) for row in step} for step in rows] == [{2}, {3}, {4}, {5}]
    whole, parts = (weights(tmp_path / name / "checkpoints" / "step-000004" / "model") for name in runs)
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_accumulated_batches_give_the_gradient_of_one_large_batch(monkeypatch, model_folders, tmp_path):
    """Supervised, where the loss does not depend on sampling: 2 x 1 prompts against 1 x 2 of equal length."""
    folders = {}
    for name, batch, accumulation in (("one", 2, 1), ("two", 1, 2)):
        folders[name] = tmp_path / name
        run = {"folder": str(folders[name]), "steps": 1, "prompts_per_batch": batch, "accumulation": accumulation}
        train_supervised(config(folders[name], model_folders["qwen3_vl"], run=run))
    one, two = (metrics(f)[0] for f in folders.values())
    # token means of unequal lengths differ a little; the order of magnitude is that of one batch, not of two
    assert one["loss"] == pytest.approx(two["loss"], rel=0.1)
    assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=0.3)


def test_lora_reference_is_the_base_and_the_vision_tower_is_untouched(model_folders):
    policy = load_policy(
        ModelConfig(path=str(model_folders["qwen3_vl"]), lora={"rank": 2}), RolloutConfig(max_new_tokens=4)
    )
    trainable = [n for n, p in policy.model.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in n and "visual" not in n for n in trainable)
    from visual_rft.data.procedural.shapes import Shapes

    prefix = policy.encode([Prompt("a", "Find every cat.", (Shapes(1)[0].image,))])
    completions = policy.sample(prefix, 2, Draws(0))
    before = policy.logprobs(prefix, completions).detach()
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
    reference = Reference(policy)
    assert reference.frozen is None
    torch.testing.assert_close(reference.logprobs(prefix, completions), before)
    after = policy.logprobs(policy.encode(prefix.inputs), completions)
    assert not torch.allclose(after, before, atol=1e-3)


def test_nothing_trainable_is_refused(model_folders):
    from visual_rft.config.optimizer import OptimizerConfig
    from visual_rft.training.learner import make_optimizer

    policy = load_policy(ModelConfig(path=str(model_folders["qwen2_vl"])), RolloutConfig())
    policy.model.requires_grad_(False)
    with pytest.raises(ModelError, match="no parameter is trainable"):
        make_optimizer(policy.model, OptimizerConfig(), 1)


def test_an_existing_folder_and_a_changed_config_are_refused(model_folders, tmp_path):
    run = config(tmp_path / "run", model_folders["qwen2_vl"], run={"folder": str(tmp_path / "run"), "steps": 1})
    train(run)
    with pytest.raises(RunFolderError, match="exists already"):
        train(run)
    changed = run.model_copy(update={"rollout": RolloutConfig(group_size=5)})
    with pytest.raises(RunFolderError, match=r"rollout\.group_size is 5, but this run was started with 3"):
        train(changed, resume=True)
    with pytest.raises(RunFolderError, match="is finished, there is nothing to resume"):
        train(run, resume=True)
    with pytest.raises(RunFolderError, match="no run to resume"):
        train(config(tmp_path / "none", "x"), resume=True)


def test_a_folder_that_cannot_be_made_is_refused(model_folders, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot make this run folder"):
        train(config(tmp_path / "file" / "run", model_folders["qwen2_vl"]))


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"'\./none' is not a model folder"):
        load_policy(ModelConfig(path="./none"), RolloutConfig())


def test_batches_cover_each_epoch_once():
    seen = [i for n in range(5) for i in batch_indices(n, size=10, batch=4, seed=1)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert batch_indices(3, 10, 4, seed=1) != batch_indices(3, 10, 4, seed=2)


def test_workers_change_nothing(monkeypatch, model_folders, tmp_path):
    reward_the_letter(monkeypatch)
    for name, workers in (("thread", 0), ("processes", 2)):
        run = {"folder": str(tmp_path / name), "steps": 3, "accumulation": 2, "workers": workers}
        train(config(tmp_path / name, model_folders["qwen2_vl"], objective={"beta": 0.0}, run=run))
    one, two = metrics(tmp_path / "thread"), metrics(tmp_path / "processes")
    assert [line["loss"] for line in one] == [line["loss"] for line in two]
    assert [line["reward"] for line in one] == [line["reward"] for line in two]


def test_preparing_a_batch_leaves_the_tokenizer_as_it_was(model_folders):
    """Padding is a state of the tokenizer: a batch prepared in a thread would pad what is tokenized beside it."""
    for kind in FAMILIES:
        policy = load_policy(ModelConfig(path=str(model_folders[kind])), RolloutConfig())
        tokenizer = policy.processor.tokenizer.backend_tokenizer
        policy.completions_of(["a"])
        before = tokenizer.padding, tokenizer.truncation
        policy.prepare(prompts_of_mixed_size(5))
        assert (tokenizer.padding, tokenizer.truncation) == before == (None, None)


def test_an_error_in_a_worker_stays_one_line(tmp_path):
    def make(n):
        if n == 1:
            raise DataError("b.png: no such image file")
        return n

    items = prefetch(make, 0, 3, workers=1)
    assert next(items) == 0
    with pytest.raises(DataError, match=r"^b\.png: no such image file$"):
        next(items)


@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["full", "lora"])
def test_bounded_memory_changes_nothing(monkeypatch, model_folders, tmp_path, lora):
    """The same run in one pass, in micro-batches with checkpointing, and on the repeated path."""
    reward_the_letter(monkeypatch)
    engines = {
        "default": {},
        "bounded": {
            "micro_batch": 2,
            "checkpoint_prompts": 1,
            "checkpoint_completions": True,
            "reuse_rollout_graph": False,
        },
        "repeated": {"shared_prefix": False},
    }
    losses = {}
    for name, engine in engines.items():
        model = {"path": str(model_folders["qwen3_vl"]), "lora": lora}
        train(config(tmp_path / name, "", model=model, engine=engine, objective={"beta": 0.1, "updates_per_rollout": 2},
                     optimizer={"learning_rate": 1e-4},
                     run={"folder": str(tmp_path / name), "steps": 3}))  # fmt: skip
        losses[name] = [line["loss"] for line in metrics(tmp_path / name)]
    assert losses["bounded"] == pytest.approx(losses["default"], abs=1e-4)
    assert losses["repeated"] == pytest.approx(losses["default"], abs=1e-4)


def test_prefetch_keeps_order_and_raises_where_the_item_would_come():
    def make(n):
        if n == 2:
            raise RuntimeError("two")
        return n

    items = prefetch(make, 0, 5)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(RuntimeError, match="two"):
        next(items)
    assert list(prefetch(make, 3, 3)) == []


def test_a_step_of_several_batches_is_answered_at_once(monkeypatch, model_folders, tmp_path):
    """4 x 2 prompts: one rollout, the samples, rewards and gradient of one batch of 8; in parts where asked for."""
    reward_the_letter(monkeypatch)
    calls: list[int] = []
    real = Policy.sample

    def sample(self, prefix, *arguments, **options):
        if not options.get("greedy"):
            calls.append(len(prefix))
        return real(self, prefix, *arguments, **options)

    monkeypatch.setattr(Policy, "sample", sample)
    lines = {}
    for name, batch, accumulation, at_once in (("one", 8, 1, None), ("four", 2, 4, None), ("parts", 2, 4, 3)):
        run = {"folder": str(tmp_path / name), "steps": 1, "prompts_per_batch": batch, "accumulation": accumulation}
        rollout = {"group_size": 3, "max_new_tokens": 8, "prompts_at_once": at_once}
        more = {"rollout": rollout, "objective": {"beta": 0.0}, "engine": {"self_check": False}}
        train(config(tmp_path / name, model_folders["qwen2_vl"], run=run, **more))
        lines[name] = metrics(tmp_path / name)[0]
    assert calls == [8, 8, 3, 3, 2]
    assert lines["one"]["grad_norm"] == lines["four"]["grad_norm"] > 0
    assert lines["one"]["reward"] == lines["four"]["reward"]


def test_parts_of_a_step_add_up_to_its_loss(model_folders, tmp_path):
    """Supervised: 8 prompts at once, and in parts of 3, 3 and 2 of equal weight per prompt."""
    sums = []
    for name, batch, accumulation in (("one", 8, 1), ("parts", 2, 4)):
        run = {"folder": str(tmp_path / name), "steps": 1, "prompts_per_batch": batch, "accumulation": accumulation}
        train_supervised(config(tmp_path / name, model_folders["qwen3_vl"], run=run))
        sums.append(metrics(tmp_path / name)[0]["grad_norm"])
    assert sums[0] == pytest.approx(sums[1], rel=0.2)  # token means of unequal lengths differ a little


def test_schedules_are_followed_step_by_step(monkeypatch, model_folders, tmp_path):
    """Threshold, temperature and beta of each of four steps, with a reference that is there because beta rises."""
    seen = []
    real = Policy.sample

    def sample(self, *arguments, **options):
        if not options.get("greedy"):
            seen.append(self.sampling.temperature)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Policy, "sample", sample)
    objective = {"beta": {"from": 0.0, "to": 0.4}}
    rollout = {"temperature": {"from": 1.0, "to": 2.0, "until": 0.5}}
    run = {"folder": str(tmp_path / "run"), "steps": 4}
    engine = {"self_check": False}  # samples, too
    train(
        config(
            tmp_path / "run", model_folders["qwen2_vl"], objective=objective, rollout=rollout, run=run, engine=engine
        )
    )
    assert seen == pytest.approx([1.0, 1.5, 2.0, 2.0])
    lines = metrics(tmp_path / "run")
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6)
