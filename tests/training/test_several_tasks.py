"""One run of four tasks: every question is asked, rewarded, measured and shown by its own."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from support.runs import config, metrics, weights

from visual_rft.cli.main import main
from visual_rft.config.config import dump_config, load_config, parse_config
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError
from visual_rft.evaluation.plan import Plan
from visual_rft.evaluation.run import evaluate
from visual_rft.policy.prompt import tasks_for
from visual_rft.report.payload import embedded, payload
from visual_rft.report.reading import read_run
from visual_rft.tasks import Mixture, Score, load_task
from visual_rft.training.advantages import ADVANTAGES, Rewards
from visual_rft.training.beside import within_task
from visual_rft.training.objective import rewards_of
from visual_rft.training.rft import train

COUNTING = {"name": "counting", "weights": {"exact": 1.0, "close": 0.5, "format": 2.0}}
TASKS = ("detection", "classification", "grounding", "counting")


def sources(seed, count=3):
    return [
        {"source": "shapes", "count": count, "seed": seed, "max_objects": 2},
        {"source": "flowers", "count": count, "seed": seed, "task": "classification"},
        {"source": "shapes", "count": count, "seed": seed, "max_objects": 2, "task": {"name": "grounding"}},
        {"source": "shapes", "count": count, "seed": seed, "max_objects": 2, "task": COUNTING, "questions": "present"},
    ]


def settings(folder, base="tiny", **sections):
    data = {"train": sources(0), "evaluation": sources(1001, count=2), "balance": "sources"}
    run = {"folder": str(folder), "steps": 3, "prompts_per_batch": 4, **sections.pop("run", {})}
    return config(folder, base, data={**data, **sections.pop("data", {})}, run=run, **sections)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A run of four tasks on the embedded model."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    run = {"checkpoint_every": 2, "evaluate_every": 3, "best": "counting/mean_error"}
    train(settings(folder, rollout={"group_size": 2, "max_new_tokens": 64}, run=run))
    return folder


def test_each_question_is_asked_and_rewarded_by_its_own_task(mixed):
    rows = [json.loads(line) for file in (mixed / "rollouts").glob("*.jsonl") for line in file.read_text().splitlines()]
    parts = {"detection": {"iou", "confidence", "format"}, "classification": {"accuracy", "format"},
             "grounding": {"iou", "format"}, "counting": {"exact", "close", "format"}}  # fmt: skip
    words = {"detection": "Find", "classification": "Name the kind", "grounding": "Find", "counting": "How many"}
    assert {row["task"] for row in rows} == set(TASKS)
    for row in rows:
        assert row["id"].startswith(row["task"] + "/")
        assert words[row["task"]].lower() in row["prompt"].lower()
        for completion in row["completions"]:
            assert parts[row["task"]] <= set(completion["rewards"])


def test_metrics_and_summary_show_each_task(mixed, capsys):
    lines = metrics(mixed)
    for task in {key.partition("/")[0] for line in lines for key in line if key.endswith("/questions_share")}:
        assert task in TASKS
    for line in lines:
        asked = [task for task in TASKS if f"{task}/reward" in line]
        shares = [line[f"{task}/questions_share"] for task in asked]
        assert sum(shares) == pytest.approx(1)
        together = sum(line[f"{task}/reward"] * share for task, share in zip(asked, shares, strict=True))
        assert line["reward"] == pytest.approx(together, abs=1e-5)
    summary = json.loads((mixed / "summary.json").read_text())
    for number in ("detection/AP", "classification/accuracy", "grounding/mean_iou", "counting/mean_error"):
        assert number in summary["evaluation"]
        assert number in summary["base"]
    assert summary["evaluation"]["n_questions"] == sum(summary["evaluation"][f"{task}/n_questions"] for task in TASKS)
    assert summary["best"]["metric"] == "counting/mean_error"


def test_the_report_shows_each_task(mixed):
    run = read_run(mixed)
    (shown,) = payload([run], embedded([run]))["runs"]
    assert (shown["task"], shown["tasks"]) == (" + ".join(TASKS), list(TASKS))
    assert [gallery["task"] for gallery in shown["galleries"]] == list(TASKS)
    for gallery in shown["galleries"]:
        assert all(question["id"].startswith(gallery["task"] + "/") for question in gallery["questions"])
    labels = {curve["label"] for curve in shown["curves"]}
    assert {"detection: AP", "grounding: mean IoU", "classification: accuracy", "counting: accuracy"} <= labels
    assert (mixed / "report.html").is_file()


def test_a_resumed_run_equals_an_uninterrupted_one(mixed, tmp_path):
    folder = tmp_path / "run"
    run = {"checkpoint_every": 2, "evaluate_every": 3, "best": "counting/mean_error"}
    again = settings(folder, rollout={"group_size": 2, "max_new_tokens": 64}, run=run)
    shutil.copytree(mixed, folder)
    written = load_config(folder / "config.yaml")
    (folder / "config.yaml").write_text(
        dump_config(written.model_copy(update={"run": written.run.model_copy(update={"folder": str(folder)})}))
    )
    shutil.rmtree(folder / "checkpoints/step-000003")
    (folder / "summary.json").unlink()
    train(again, resume=True)
    for one, other in zip(metrics(mixed), metrics(folder), strict=True):
        assert {k: v for k, v in one.items() if "second" not in k} == {
            k: v for k, v in other.items() if "second" not in k
        }
    one, other = (weights(place / "checkpoints/step-000003/model") for place in (mixed, folder))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_dynamic_sampling_history_and_advantages_over_history(model_folders, tmp_path):
    """Dry answers of a random model are all equal: others are drawn, and every kind of advantage takes them apart."""
    for advantages, hard in (("history_rank", 0.5), ("gdpo", 0.0)):
        folder = tmp_path / advantages
        run = settings(
            folder, model_folders["qwen2_vl"], objective={"advantages": advantages, "beta": 0.0},
            rollout={"group_size": 2, "max_new_tokens": 4, "extra": 0.5, "hard_share": hard},
            run={"steps": 2, "evaluate_base": False},
        )  # fmt: skip
        whole = train(run)
        assert whole["steps"] == 2
        state = torch.load(folder / "checkpoints/step-000002/trainer.pt", weights_only=True)
        assert len(state["history"]["parts"][0]) == len(tasks_for(run).part_weights)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_groups_are_compared_with_those_of_their_own_task(name):
    """The oracle computes each task alone, from its own scores and weights."""
    tasks = Mixture({"find": load_task("detection"), "name": load_task("classification")})
    find = [[Score({"iou": i, "confidence": c, "format": 1.0}, i + c + 1) for i, c in group]
            for group in (((0.1, 0.9), (0.8, 0.2), (0.4, 0.4)), ((0.0, 0.0), (0.3, 0.1), (0.9, 0.9)))]  # fmt: skip
    named = [[Score({"accuracy": a, "format": f}, a + f) for a, f in ((1.0, 1.0), (0.0, 1.0), (0.0, 0.0))]]
    device, advantages = torch.device("cpu"), ADVANTAGES[name]
    labels = ["find", "name", "find"]
    mixed = rewards_of([find[0], named[0], find[1]], tasks.part_weights, [], device, labels)
    found = within_task(mixed, advantages, None)
    alone = advantages(rewards_of(find, load_task("detection").part_weights, [], device))
    other = advantages(rewards_of(named, load_task("classification").part_weights, [], device))
    torch.testing.assert_close(found[[0, 2]], alone)
    torch.testing.assert_close(found[[1]], other)


def test_rewards_of_one_task_are_as_they_were():
    rewards = Rewards(torch.tensor([[0.0, 1.0], [2.0, 5.0]]))
    torch.testing.assert_close(within_task(rewards, ADVANTAGES["group"], None), ADVANTAGES["group"](rewards))


def test_evaluate_gives_each_task_and_every_verb_takes_the_config(mixed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = load_config(mixed / "config.yaml")
    result = evaluate(run, Plan(folder=tmp_path / "answers"))
    assert list(result["tasks"]) == list(TASKS)
    assert {"AP", "intervals"} <= set(result["tasks"]["detection"])
    assert "top1_strict" in result["tasks"]["classification"]
    assert sorted(place.name for place in (tmp_path / "answers").iterdir()) == sorted(TASKS)
    with pytest.raises(ConfigError, match=r"--protocol all is for one task, and the held-out sources ask detection, "):
        evaluate(run, Plan(protocol="all"))
    config_file = str(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text(dump_config(run))
    assert main(["check", config_file, "--samples", "12"]) == 0
    said = capsys.readouterr().out
    assert "task detection + classification + grounding + counting" in said
    assert all(f"{task}/gold" in said for task in TASKS)
    assert main(["train", config_file, "--dry-run"]) == 0
    assert "task detection + classification + grounding + counting" in capsys.readouterr().out
    asked = [sample.task for sample in load_samples(run.data.train, tasks_for(run))]
    for task, part in (("detection", "confidence"), ("classification", "accuracy"), ("counting", "exact")):
        assert main(["play", config_file, "--sample", str(asked.index(task) + 1), "--gold"]) == 0
        assert part in json.loads(capsys.readouterr().out)["rewards"]
    assert main(["data", "info", config_file]) == 0
    assert main(["evaluate", config_file]) == 0
    said = capsys.readouterr().out
    assert all(f"{task}\n\n" in said for task in TASKS)


def test_supervised_training_takes_the_gold_answers_of_each(model_folders, tmp_path):
    from visual_rft.training.sft import train_supervised

    summary = train_supervised(settings(tmp_path / "run", model_folders["qwen2_vl"], run={"evaluate_base": False}))
    assert "grounding/mean_iou" in summary["evaluation"]


def test_two_tasks_of_one_name_need_labels():
    train_on = [{"source": "shapes"}, {"source": "shapes", "task": {"name": "detection", "think": False}}]
    with pytest.raises(
        ConfigError, match=r"data\.train\.1\.task: two tasks are called 'detection' and differ in think"
    ):
        parse_config({"data": {"train": train_on}}, "test")
    train_on[1]["task"]["label"] = "short"
    both = parse_config({"data": {"train": train_on, "evaluation": [{"source": "shapes"}]}}, "test")
    tasks = tasks_for(both)
    assert list(tasks.each) == ["detection", "short"]
    samples = load_samples(both.data.train, tasks)
    assert [tasks.of(sample).think for sample in (samples[0], samples[-1])] == [True, False]
    assert len({sample.id for sample in samples}) == len(samples)  # the same pictures, asked about twice


def test_one_task_that_all_sources_name_is_a_run_of_one():
    one = parse_config({"data": {part: [{"source": "flowers", "task": "classification"}]
                                 for part in ("train", "evaluation")}}, "test")  # fmt: skip
    assert tasks_for(one) == load_task("classification")
    assert load_samples(one.data.train, tasks_for(one))[0].question == {"subject": "flower"}


def test_schedules_of_each_task_are_followed():
    rising = {"name": "detection", "options": {"iou_threshold": {"from": 0.3, "to": 0.7}}}
    found = [{"source": "shapes", "task": rising}, {"source": "flowers", "task": "classification"}]
    run = parse_config({"data": {"train": found, "evaluation": found}}, "test")
    tasks = tasks_for(run)
    assert tasks.at(0.5).each["detection"].iou_threshold == pytest.approx(0.5)
    assert parse_config(run.model_dump(mode="json"), "again") == run


def test_paths_of_a_sources_own_task_are_completed(tmp_path):
    (tmp_path / "own.py").write_text("")
    (tmp_path / "run.yaml").write_text("data: {train: [{source: shapes, task: 'own.py:Count'}]}")
    from visual_rft.config.paths import completed

    values = completed({"data": {"train": [{"source": "shapes", "task": "own.py:Count"}]}}, tmp_path)
    assert values["data"]["train"][0]["task"] == f"{tmp_path / 'own.py'}:Count"
