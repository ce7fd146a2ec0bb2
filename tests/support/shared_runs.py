"""What processes of one run are asked in the tests; each function gives in one process what many have to give too."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.oracles import prompts_of_mixed_size, random_completions
from support.runs import half_always_right, metrics, reward_the_letter
from support.tiny_models import random_model
from visual_rft.answering.local import LocalModel
from visual_rft.answering.predict import predict
from visual_rft.cli.main import main
from visual_rft.config.config import parse_config
from visual_rft.config.objective import ObjectiveConfig
from visual_rft.config.sections import EngineConfig, LoraConfig, ModelConfig
from visual_rft.data.sources import load_samples
from visual_rft.inspection.check import check_run
from visual_rft.parallel.gathering import ByLayer, layers_of
from visual_rft.parallel.meetings import gather, sum_gradients
from visual_rft.parallel.processes import alone, here
from visual_rft.parallel.shards import Shards
from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.policy.trainable import trainable
from visual_rft.tasks import task_of
from visual_rft.training.advantages import Rewards
from visual_rft.training.objective import GroupLoss, advantages_of
from visual_rft.training.rft import train
from visual_rft.training.sft import train_supervised

PROMPTS, GROUP, TOKENS = 5, 4, 9


def policy_of(kind: str, lora: bool, engine: EngineConfig | None = None) -> Policy:
    """A tiny random model; the second half of an adapter, which starts at 0, is random too, or half would be unseen."""
    model, processor = random_model(kind)
    policy = Policy(model, processor, Sampling(max_new_tokens=TOKENS), engine=engine)
    if lora:
        torch.manual_seed(3)
        adapted = trainable(model, policy.family, ModelConfig(lora=LoraConfig(rank=4)))
        generator = torch.Generator().manual_seed(2)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        policy = Policy(adapted.eval(), processor, policy.sampling, engine=engine)
    return policy


def gradients(
    kind: str, lora: bool, objective: ObjectiveConfig, flat_first: bool, short_first: bool = False
) -> tuple[dict[str, Any], float]:
    """The gradient of a batch of 5 prompts of different length with 4 completions each, and the loss.

    Processes cut their micro-batches differently. With ``flat_first`` the groups of the first process have equal
    rewards, so that it has no gradient of its own.
    """
    policy = policy_of(kind, lora, EngineConfig(micro_batch=3 + here().rank))
    own = list(here().share(PROMPTS))
    completions, loss = batch_of(policy, objective, flat_first, short_first)
    prompts = prompts_of_mixed_size(PROMPTS)
    logprobs = policy.backward(policy.encode([prompts[i] for i in own]), completions, loss)
    learning = [p for p in policy.model.parameters() if p.requires_grad]
    sum_gradients(learning)
    total = sum(gather(loss.stats(logprobs).loss * len(own) / PROMPTS, "the loss"))
    return {n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None}, total


def batch_of(
    policy: Policy, objective: ObjectiveConfig, flat_first: bool, short_first: bool = False
) -> tuple[Completions, GroupLoss]:
    """This process's share of the completions, and their loss; with ``short_first`` those of the first two prompts are
    one token each."""
    own = list(here().share(PROMPTS))
    everything = random_completions(policy, PROMPTS, GROUP, TOKENS)
    if short_first:
        everything.mask[:2, :, 1:] = False
    rewards = torch.rand(PROMPTS, GROUP, generator=torch.Generator().manual_seed(7))
    if flat_first:
        rewards[:2] = 0.5
    completions = Completions(
        everything.ids[own], everything.mask[own], everything.logprobs[own], [],
        everything.truncated[own],
    )  # fmt: skip
    advantages = advantages_of(Rewards(rewards[own], rewards[own][..., None], (1.0,)), objective, completions, None)
    return completions, GroupLoss(completions, advantages, None, objective, len(own) / PROMPTS, TOKENS)


def run(
    values: dict[str, Any], supervised: bool = False, resume: bool = False, flat_groups: bool = False
) -> list[dict[str, Any]]:
    """A whole run whose reward a random model can learn, or that is the same for half of the questions; its metrics."""
    config = parse_config(values, "test")
    with pytest.MonkeyPatch.context() as patch:
        (half_always_right if flat_groups else reward_the_letter)(patch)
        (train_supervised if supervised else train)(config, resume=resume)
    return metrics(Path(config.run.folder))


def assert_alike(found: list[dict], expected: list[dict], tolerance: float = 1e-4) -> None:
    """The same steps, within so much."""
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        for name in ("reward", "loss", "grad_norm", "length", "kl", "learning_rate"):
            assert row[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance), name


def run_alone(values: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A whole run of each process by itself, at the same time."""
    mine = values[here().rank]
    with alone():
        return run(mine)


def texts(folder: Path) -> list[Any]:
    """Everything that was sampled, with its rewards and advantages, in the order of the files."""
    lines = [line for file in sorted((folder / "rollouts").glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [
        [row["step"], row["id"], row["images"], [[c["text"], c["total"], c["tokens"]] for c in row["completions"]]]
        for row in map(json.loads, lines)
    ]


def checked(values: dict[str, Any], samples: int, sheet: Path) -> tuple[bool, str]:
    """Whether a run passes ``check``, and what the first process says of it."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said if here().first else io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        passed = check_run(parse_config(values, "test"), samples, sheet)
    return passed, said.getvalue()


def reproduced(folder: Path) -> int:
    """The exit code of three short runs of an experiment on one process or all."""
    words = ["reproduce", "few-shot-detection", "--quick", "--seeds", "2", "--shots", "1", "--methods", "base,rft"]
    return main([*words, "--domains", "handwriting", "--out", str(folder)])


def answers(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Greedy answers to the held-out questions of a run."""
    config = parse_config(values, "test")
    task = task_of(config.task)
    samples = load_samples(config.data.evaluation, task)
    policy = load_policy(config.model, config.rollout, engine=config.engine)
    return [(p.sample.id, p.completion) for p in predict(LocalModel(policy), task, samples)]


def run_settings(folder: Path, base: Path, **sections) -> dict[str, Any]:
    """A short run at a learning rate of real fine-tuning, where rounding does not grow into other answers."""
    values = {
        "model": {"path": str(base)},
        "data": {
            "train": [{"source": "digits", "count": 9}],
            "evaluation": [{"source": "digits", "split": "test", "count": 5, "seed": 1}],
        },
        "rollout": {"group_size": 3, "max_new_tokens": 5},
        "objective": {"beta": 0.0},
        "optimizer": {"learning_rate": 1e-5, "schedule": "constant"},
        "run": {"folder": str(folder), "steps": 3, "prompts_per_batch": 3, "evaluate_base": False},
    }
    for name, fields in sections.items():
        values[name] = {**values.get(name, {}), **fields}
    return values


def moved_bytes(kind: str) -> tuple[int, int]:
    """Bytes of the gradients that are summed for a model, and how many parameters it has."""
    model, _ = random_model(kind)
    return sum_gradients(model.parameters()), sum(p.numel() for p in model.parameters())


def parts_of(whole: torch.Tensor, within: int | None = None) -> tuple[Any, ...]:
    """A process's part of a master, its gradient and the norm of all, and the whole after a step of plain descent."""
    weight = torch.nn.Parameter(whole.clone())
    shards = Shards([("weight", weight)], within)
    weight.grad = (here().rank + 1) * whole
    part = shards.parts[0].detach().clone()
    norm = shards.reduce()
    grad = shards.parts[0].grad
    shards.parts[0].data.sub_(grad)
    shards.spread()
    return part, grad, norm, weight.detach()


def layer_gradients(
    kind: str, lora: bool, objective: ObjectiveConfig, flat_first: bool = False, gather: bool = True,
    within: int | None = None, short_first: bool = False, first_only_joins: bool = False,
) -> tuple[dict[str, Any], float, float]:  # fmt: skip
    """As :func:`gradients`, layer by layer, the parts of all processes put together; their norm; and the share of the
    decoder layers' bytes that was there at most when a layer had computed.

    Processes have other numbers of micro-batches and encode other numbers of prompts at once. With
    ``first_only_joins`` the first of several computes nothing.
    """
    policy = policy_of(kind, lora, EngineConfig(micro_batch=3 + 4 * here().rank, prompts_at_once=1 + here().rank))
    learning = [(name, p) for name, p in policy.model.named_parameters() if p.requires_grad]
    shards = Shards(learning, within)
    policy.by_layer = by_layer = ByLayer(layers_of(policy.core), shards, gather=gather, reduce=True)
    completions, loss = batch_of(policy, objective, flat_first, short_first)
    prompts = prompts_of_mixed_size(PROMPTS)
    there = [0]

    def look(*_: object) -> None:
        if by_layer.updating:
            there.append(sum(w.untyped_storage().nbytes() for layer in by_layer.layers for w, _ in layer.sources))

    handles = [layer.module.register_forward_hook(look) for layer in by_layer.layers]
    if first_only_joins and here().size > 1 and here().first:
        policy.join_backward()
    else:
        policy.backward(policy.encode([prompts[i] for i in here().share(PROMPTS)]), completions, loss)
    for handle in handles:
        handle.remove()
    assert not any(layer.away or layer.module._forward_hooks for layer in by_layer.layers)
    norm = shards.reduce()
    whole = shards.whole([part.grad for part in shards.parts])
    found = {name: grad.view_as(weight) for (name, weight), grad in zip(learning, whole, strict=True)}
    return found, norm, max(there) / max(1, sum(layer.bytes for layer in by_layer.layers))


def resumed_is_bit_equal(two: Any, folder: Path, base: Path, parallel: dict[str, Any]) -> dict[str, Any]:
    """Two sharded steps of two processes, whole and resumed after one, leave the same weights and shards; the settings
    of the resumed run."""
    every = {"checkpoint_every": 1}
    two.ask(run, run_settings(folder / "whole", base, run={"steps": 2, **every}, parallel=parallel))
    values = run_settings(folder / "again", base, run={"steps": 1, **every}, parallel=parallel)
    two.ask(run, values)
    values["run"]["steps"] = 2
    two.ask(run, values, False, True)
    for name in (
        "model/model.safetensors",
        *(f"shards/shard-0000{n}-model-00001-of-00001.safetensors" for n in (1, 2)),
    ):
        whole, again = (load_file(folder / f / "checkpoints" / "step-000002" / name) for f in ("whole", "again"))
        assert whole.keys() == again.keys()
        assert all(torch.equal(whole[key], again[key]) for key in whole)
    return values
