"""Two processes that hold everything against one: gradients, sampled texts, whole runs, evaluations."""

from __future__ import annotations

import json

import pytest
import torch
from support.shared_runs import answers, gradients, moved_bytes, run, run_settings, texts
from support.trajectories import GROUP, trajectory

from visual_rft.config.objective import LOSSES, ObjectiveConfig
from visual_rft.parallel.processes import Processes

MIXED = {
    "train": [
        {"source": "digits", "count": 5},
        {"source": "digits", "count": 4, "task": {"name": "detection", "label": "short", "think": False}},
        {"source": "flowers", "count": 3, "task": "classification"},
    ],
    "evaluation": [
        {"source": "digits", "split": "test", "count": 3, "seed": 1},
        {"source": "flowers", "count": 2, "seed": 1, "task": "classification"},
    ],
    "balance": "sources",
}
"""Three tasks, of which one is not measured."""


def error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Length of the difference over that of the whole."""
    difference = sum(float((found[name] - expected[name]).double().square().sum()) for name in expected)
    return (difference / sum(float(x.double().square().sum()) for x in expected.values())) ** 0.5


@pytest.mark.parametrize(
    ("kind", "lora", "objective", "flat_first"),
    [
        ("qwen3_vl", False, {}, False),
        ("qwen2_5_vl", True, {}, True),
        ("internvl", False, {"loss": "dapo"}, True),
        ("qwen3_vl", True, {"loss": "bnpo", "advantages": "batch"}, False),
        ("qwen2_vl", False, {"loss": "dr_grpo", "advantages": "none"}, False),
        ("qwen2_vl", False, {"loss": "gspo", "advantages": "gdpo"}, True),
    ],
)
def test_gradients_are_those_of_one_process(two, kind, lora, objective, flat_first):
    arguments = (kind, lora, ObjectiveConfig(beta=0.0, **objective), flat_first)
    expected, loss = gradients(*arguments)
    for found, total in two.ask(gradients, *arguments):
        assert found.keys() == expected.keys()
        assert error(found, expected) < 1e-5
        assert total == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_twenty_steps_of_each_loss_are_those_of_one_process(two, name):
    config = ObjectiveConfig(loss=name, beta=0.05, updates_per_rollout=2, top_entropy=0.61, entropy_weight=0.01)
    losses, table = trajectory(2 * GROUP, config)
    for found, found_table in two.ask(trajectory, GROUP // 2, config):  # in micro-batches, too
        assert found == pytest.approx(losses, abs=1e-5)
        torch.testing.assert_close(found_table, table, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("supervised", "sections"),
    [
        (False, {"run": {"steps": 20, "prompts_per_batch": 2}}),
        (False, {"model": {"lora": {"rank": 4}}, "objective": {"beta": 0.1, "updates_per_rollout": 2}}),
        (False, {"rollout": {"prompts_at_once": 2}, "run": {"accumulation": 2}}),
        (False, {"rollout": {"rest_steps": 2, "hard_share": 0.5}, "objective": {"advantages": "rloo"}}),
        (True, {"run": {"accumulation": 2}}),
        (False, {"data": MIXED, "objective": {"advantages": "batch"}, "run": {"prompts_per_batch": 5}}),
        (True, {"data": MIXED, "run": {"prompts_per_batch": 5}}),
    ],
    ids=["full", "lora with a reference", "in parts", "with a history", "supervised", "mixed", "mixed and supervised"],
)
def test_a_run_of_two_is_the_run_of_one(two, model_folders, tmp_path, supervised, sections):
    base = model_folders["qwen3_vl"]
    alone = run(run_settings(tmp_path / "one", base, **sections), supervised)
    two.ask(run, run_settings(tmp_path / "two", base, **sections), supervised)
    together = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert texts(tmp_path / "two") == texts(tmp_path / "one")
    assert len(together) == len(alone)
    for row, expected in zip(together, alone, strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - {n for n in row if "second" in n}:
            assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-4), name
    numbers = [json.loads((tmp_path / name / "summary.json").read_text())["evaluation"] for name in ("one", "two")]
    for name in [name for name, value in numbers[0].items() if isinstance(value, (dict, list, str))]:  # failures
        assert numbers[0].pop(name) == numbers[1].pop(name), name
    assert numbers[0] == pytest.approx(numbers[1])


def test_a_run_of_two_goes_on_in_one_and_back(two, model_folders, tmp_path):
    base = model_folders["qwen2_vl"]
    expected = run(run_settings(tmp_path / "one", base, run={"steps": 4}))
    values = run_settings(tmp_path / "two", base, run={"steps": 1})
    two.ask(run, values)
    run({**values, "run": {**values["run"], "steps": 2}}, False, True)
    values["run"]["steps"] = 4
    two.ask(run, values, False, True)
    found = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    for name in ("reward", "loss", "grad_norm", "length"):
        assert [row[name] for row in found] == pytest.approx([row[name] for row in expected], rel=1e-3, abs=1e-4), name


def test_a_resumed_run_of_two_is_bit_equal(two, model_folders, tmp_path):
    base = model_folders["qwen2_vl"]
    values = run_settings(tmp_path / "whole", base, run={"steps": 2, "checkpoint_every": 1})
    two.ask(run, values)
    again = run_settings(tmp_path / "again", base, run={"steps": 1, "checkpoint_every": 1})
    two.ask(run, again)
    again["run"]["steps"] = 2
    two.ask(run, again, False, True)
    files = [tmp_path / name / "checkpoints/step-000002/model/model.safetensors" for name in ("whole", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_answers_are_those_of_one_process(two, model_folders, tmp_path):
    values = run_settings(tmp_path / "run", model_folders["qwen3_vl"])
    expected = answers(values)
    assert len(expected) > 5
    assert two.ask(answers, values) == [expected, expected]


def test_four_bytes_a_parameter_are_summed(two):
    for moved, parameters in two.ask(moved_bytes, "qwen2_vl"):
        assert moved == 4 * parameters
    assert moved_bytes("qwen2_vl")[0] == 0


def test_shares_cover_everything_once():
    for size in range(1, 6):
        for count in range(size, 12):
            shares = [Processes(rank, size).share(count) for rank in range(size)]
            assert [n for share in shares for n in share] == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
