"""Numbers that change over a run: read, written, validated at both ends, and what may not change."""

from __future__ import annotations

import math

import pytest

from visual_rft.config.config import Config, dump_config, load_config, parse_config
from visual_rft.config.schedules import Schedule
from visual_rft.errors import ConfigError
from visual_rft.tasks import load_task, task_of


def objective(**fields):
    return parse_config({"objective": fields}, "run.yaml").objective


def test_shapes_by_hand():
    linear, early = Schedule(0.5, 0.9), Schedule(1.0, 0.0, until=0.25)
    assert [linear.at(p) for p in (0, 0.5, 1)] == pytest.approx([0.5, 0.7, 0.9])
    assert [early.at(p) for p in (0, 0.125, 0.25, 0.8)] == pytest.approx([1, 0.5, 0, 0])
    wave = Schedule(0.0, 2.0, "cosine")
    assert [wave.at(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([0, 1 - math.sqrt(0.5), 1, 2])


def test_a_section_holds_the_start_and_gives_the_rest():
    section = objective(beta={"from": 0.1, "to": 0.0}, clip_high=0.3)
    assert (section.beta, section.clip_high, section.ever("beta")) == (0.1, 0.3, 0.1)
    assert section.at(0.5).beta == pytest.approx(0.05)
    assert section.at(1).at(0.0).beta == 0.0  # what it gives is fixed
    assert objective(beta=0.1).at(0.7) == objective(beta=0.1)


def test_what_is_needed_later_is_known_at_the_start():
    assert objective(beta={"from": 0.0, "to": 0.2}).ever("beta") == 0.2
    for later in ({"entropy_weight": {"from": 0.0, "to": 0.1}}, {"top_entropy": {"from": 1.0, "to": 0.2}}):
        assert objective(**later).needs_entropies
    assert not objective(top_entropy={"from": 1.0, "to": 0.2}).at(0.0).needs_entropies


def test_a_config_is_written_as_it_was_read(tmp_path):
    values = {
        "objective": {"beta": {"from": 0.1, "to": 0.0, "shape": "cosine"}},
        "rollout": {"temperature": {"from": 1.2, "to": 0.8}},
        "task": {"weights": {"iou": {"from": 1, "to": 2}}, "options": {"iou_threshold": {"from": 0, "to": 1}}},
        "data": {"train": [{"source": "shapes"}]},
    }  # fmt: skip
    config = parse_config(values, "run.yaml")
    (tmp_path / "run.yaml").write_text(dump_config(config))
    again = load_config(tmp_path / "run.yaml")
    assert again == config != Config()
    assert again.rollout.at(0.5).temperature == pytest.approx(1.0)
    flag = load_config(tmp_path / "run.yaml", ["--objective.clip_high", "{from: 0.2, to: 0.4}"])
    assert flag.objective.at(0.5).clip_high == pytest.approx(0.3)


def test_the_size_of_groups_is_whole_at_every_step():
    rollout = parse_config({"rollout": {"group_size": {"from": 4, "to": 9}}}, "run.yaml").rollout
    assert [rollout.at(step / 5).group_size for step in range(6)] == [4, 5, 6, 7, 8, 9]
    assert isinstance(rollout.at(0.37).group_size, int)
    assert rollout.ever("group_size") == 9


def test_a_task_follows_its_options_and_weights():
    config = parse_config(
        {"task": {"weights": {"iou": {"from": 1, "to": 3}}, "options": {"iou_threshold": {"from": 0.3, "to": 0.5}}}},
        "x",
    )
    task = task_of(config.task)
    later = task.at(0.5)
    assert (task.iou_threshold, task.part_weights) == (0.3, {"iou": 1})
    assert (later.iou_threshold, later.part_weights) == (pytest.approx(0.4), {"iou": 2})
    hit = load_task("grounding", hit_threshold={"from": 0.3, "to": 0.7}).at(1.0)
    assert hit.hit_threshold == 0.7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": {"beta": {"from": 0.1, "to": -1}}}, "must be greater than or equal to 0, this is -1"),
        ({"objective": {"beta": {"from": 0.1, "to": 0, "shpe": "linear"}}}, "from, to, shape and until, not 'shpe'"),
        ({"objective": {"beta": {"from": 0.1, "to": 0, "shape": "wave"}}}, "choose from linear, cosine"),
        ({"objective": {"beta": {"from": 0.1, "to": 0, "until": 0}}}, "beta.until: 0 is not a share of the run"),
        ({"objective": {"beta": {"from": "a", "to": 0}}}, "beta.from: 'a' is not a number"),
        ({"objective": {"updates_per_rollout": {"from": 1, "to": 4}}}, "updates_per_rollout cannot change"),
        ({"rollout": {"group_size": {"from": 8, "to": 16.5}}}, "group_size: .*16.5"),
        ({"rollout": {"engine": "vllm", "serve": "x", "top_p": {"from": 1, "to": 0.9}}}, "top_k stays 0 and top_p 1"),
        ({"rollout": {"group_size": {"from": 8, "to": 1}}}, "group_size is 1, but GRPO compares"),
        ({"objective": {"kl": "k1", "beta": {"from": 0, "to": 0.1}}}, "0 in expectation"),
        ({"optimizer": {"learning_rate": {"from": 1, "to": 0}}}, "learning_rate cannot change over the run$"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(values, "run.yaml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_threshold": {"from": 0.5, "to": 1.5}}, r"iou_threshold: 1\.5 is not in \[0, 1\]"),
        ({"matching": {"from": 0.5, "to": 1}}, "matching: 1.0 is not one of"),
        ({"iou_threshold_end": 0.9}, r"iou_threshold: \{from: 0\.5, to: 0\.9\}"),
        ({"iou_threshold": {"from": 0.5, "to": "a"}}, "iou_threshold.to: 'a' is not a number"),
    ],
    ids=str,
)
def test_a_task_refuses_them_before_the_run(options, message):
    with pytest.raises(ConfigError, match=message):
        load_task("detection", **options)
