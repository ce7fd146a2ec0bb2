"""Which questions are asked: others for flat groups, rest, more answers to hard ones, and the same after resuming."""

from __future__ import annotations

import json

import pytest
import torch
from support.runs import config, half_always_right, interrupt, metrics

from visual_rft.errors import ConfigError
from visual_rft.tasks import Sample, Score
from visual_rft.training import household
from visual_rft.training.advantages import ADVANTAGES, Rewards
from visual_rft.training.beside import as_one_group
from visual_rft.training.prompts.drawing import Drawing
from visual_rft.training.prompts.history import History
from visual_rft.training.rft import train
from visual_rft.training.rollout import Rollout, flat
from visual_rft.training.session import Questions


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(household, "write_artefacts", lambda folder: [])


def samples(count: int) -> list[Sample]:
    return [Sample(str(number), (), "detection", {}, {}) for number in range(count)]


def run_of(folder, base, steps=3, advantages="group", **rollout):
    return config(
        folder, base,
        data={"train": [{"source": "digits", "count": 40, "max_objects": 1}]},
        rollout={"group_size": 3, "max_new_tokens": 6, **rollout},
        objective={"beta": 0.0, "advantages": advantages}, engine={"self_check": False},
        run={"folder": str(folder), "steps": steps, "prompts_per_batch": 4, "evaluate_base": False,
             "checkpoint_every": 1},
    )  # fmt: skip


def history(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_with_a_budget_every_group_has_spread(monkeypatch, model_folders, tmp_path):
    half_always_right(monkeypatch)
    for name, extra in (("off", 0.0), ("little", 0.25), ("enough", 8.0)):
        train(run_of(tmp_path / name, model_folders["qwen2_vl"], extra=extra))
    flat = {name: [m["zero_std_share"] for m in metrics(tmp_path / name)] for name in ("off", "little", "enough")}
    assert 0.2 < sum(flat["off"]) / 3 < 0.8
    assert flat["enough"] == [0, 0, 0]
    assert sum(flat["off"]) > sum(flat["little"]) > 0
    for name, most in (("off", 0.0), ("little", 0.25), ("enough", 8.0)):
        for line, row in zip(metrics(tmp_path / name), history(tmp_path / name), strict=True):
            # what was answered besides is what the history has more than the step's four questions
            assert line["extra_share"] == (len(row["questions"]) - 4) / 4 <= most
            seen_flat = sum(spread == 0 for _, spread in row["questions"].values())
            assert (line["extra_share"] > 0) == (most > 0 and seen_flat > 0)
    learned = (tmp_path / "enough" / "rollouts" / "step-000000.jsonl").read_text().splitlines()
    assert len(learned) == 4  # the step keeps its size


def test_a_question_rests_and_comes_back():
    history = History()
    drawing = Drawing(samples(8), history, prompts=4, seed=0, rest_steps=2)
    first = drawing.step(0)
    history.note(0, {str(number): [1.0, 1.0] for number in first})
    assert not set(first) & set(drawing.step(1))
    assert [drawing.rests(first[0], step) for step in (1, 2, 3)] == [True, True, False]
    history.note(1, {str(number): [0.0, 1.0] for number in drawing.step(1)})
    assert not any(drawing.rests(number, 2) for number in range(8) if number not in first)
    # where all others are taken or rest too, what rests is asked all the same
    history.note(1, {str(number): [1.0, 1.0] for number in range(8)})
    assert sorted(drawing.others(2, taken=[0, 1])) == [2, 3, 4, 5, 6, 7]


def test_hard_questions_get_the_places_of_easy_ones():
    history = History()
    drawing = Drawing(samples(4), history, prompts=4, seed=0, hard_share=0.25)
    assert sorted(drawing.step(0)) == [0, 1, 2, 3]
    history.note(0, {"0": [0.0, 0.2], "1": [1.0, 0.9], "2": [0.5, 0.6], "3": [0.4, 0.6]})
    assert sorted(drawing.step(1)) == [0, 0, 2, 3]
    history.note(1, {str(number): [0.0, 1.0] for number in range(4)})
    assert sorted(drawing.step(2)) == [0, 1, 2, 3]  # all alike


@pytest.mark.parametrize("name", ["group", "none", "rloo", "rank"])
def test_two_groups_of_a_question_are_one_group(name):
    torch.manual_seed(0)
    parts = torch.rand(4, 3, 2)
    rewards = Rewards(parts.sum(-1), parts, (1.0, 1.0))
    got = as_one_group(rewards, ADVANTAGES[name], ["a", "b", "a", "c"])
    both = parts[[0, 2]].reshape(1, 6, 2)
    torch.testing.assert_close(got[[0, 2]].reshape(1, 6), ADVANTAGES[name](Rewards(both.sum(-1), both, (1.0, 1.0))))
    torch.testing.assert_close(got[[1, 3]], ADVANTAGES[name](rewards)[[1, 3]])


def test_what_is_flat_depends_on_what_is_compared():
    same_in_all = [Score({"a": 1.0, "b": 0.0}, 1.0), Score({"a": 0.0, "b": 1.0}, 1.0)]
    differs = [Score({"a": 1.0, "b": 0.0}, 1.0), Score({"a": 0.0, "b": 0.0}, 0.0)]
    equal = [Score({"a": 1.0, "b": 0.0}, 1.0)] * 2
    questions = Questions(samples(3), None, None)
    rollout = Rollout(questions, None, None, [same_in_all, differs, equal], 0, {})
    assert flat(rollout.earned(by_parts=False)) == [0, 2]
    assert flat(rollout.earned(by_parts=True)) == [2]


def test_hard_questions_and_a_batch_wide_spread_are_refused():
    for name in ("batch", "gdpo"):
        with pytest.raises(ConfigError, match="compares two groups as one"):
            config("x", "tiny", rollout={"hard_share": 0.25}, objective={"advantages": name})


def test_a_run_resumed_in_the_middle_equals_an_uninterrupted_one(monkeypatch, model_folders, tmp_path):
    """Dynamic sampling, rest, more answers to hard questions and ranks against earlier rewards at once: losses, history
    and weights bit by bit."""
    half_always_right(monkeypatch)
    settings = {"extra": 1.0, "rest_steps": 2, "hard_share": 0.25, "steps": 5, "advantages": "history_rank"}
    train(run_of(tmp_path / "whole", model_folders["qwen2_vl"], **settings))
    parts = run_of(tmp_path / "parts", model_folders["qwen2_vl"], **settings)
    interrupt(train, parts, 4)
    train(parts, resume=True)
    assert history(tmp_path / "whole") == history(tmp_path / "parts")
    for one, other in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "parts"), strict=True):
        assert (one["loss"], one["reward"], one["extra_share"]) == (
            other["loss"],
            other["reward"],
            other["extra_share"],
        )
    file = "checkpoints/step-000005/model/model.safetensors"
    assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()
    asked = [len(row["questions"]) for row in history(tmp_path / "whole")]
    assert max(asked) > 4  # others were drawn
    learned = [len(file.read_text().splitlines()) for file in (tmp_path / "whole" / "rollouts").iterdir()]
    assert learned == [4] * 5
