"""How often a step asks what, where sources have weights or classes are balanced."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from support.runs import config

from visual_rft.config.config import parse_config
from visual_rft.config.sources import DataConfig
from visual_rft.errors import ConfigError
from visual_rft.tasks import Mixture, Sample, load_task
from visual_rft.training.batches import batch_indices
from visual_rft.training.prompts.drawing import Drawing
from visual_rft.training.prompts.history import History
from visual_rft.training.prompts.mixing import Mix, mix_of


def questions(*kinds: tuple[str, str, int, int]) -> list[Sample]:
    """So many questions of a task about a class out of a source: ``(task, class, source, count)``."""
    return [
        Sample(f"{task}-{name}-{source}-{n}", (), task, {"category": name}, {}, source)
        for task, name, source, count in kinds
        for n in range(count)
    ]


def data(*weights: float, balance: str = "none") -> DataConfig:
    return DataConfig(train=tuple({"source": "shapes", "weight": weight} for weight in weights), balance=balance)


def shares(samples, mix: Mix, by) -> dict[str, float]:
    asked = Counter(by(samples[number]) for number in mix.questions(0, 4000))
    return {name: count / 4000 for name, count in asked.items()}


def test_without_weights_and_balance_nothing_changes():
    samples = questions(("a", "x", 0, 30), ("a", "x", 1, 10))
    assert mix_of(samples, data(1, 1), seed=0) is None
    assert mix_of(samples, data(2, 2), seed=0) is None
    assert Drawing(samples, History(), prompts=8).step(3) == batch_indices(3, 40, 8, 0)


@pytest.mark.parametrize(
    ("weights", "balance", "expected"),
    [
        ((1, 3), "none", {0: 30 / 60, 1: 30 / 60}),  # a question of the second three times as often
        ((1, 1), "sources", {0: 0.5, 1: 0.5}),
        ((1, 3), "sources", {0: 0.25, 1: 0.75}),
    ],
)
def test_shares_of_sources_follow_weights_and_balance(weights, balance, expected):
    samples = questions(("a", "x", 0, 30), ("a", "x", 1, 10))
    found = shares(samples, mix_of(samples, data(*weights, balance=balance), seed=0), lambda sample: sample.source)
    assert found == pytest.approx(expected, abs=0.005)


def test_rare_classes_are_asked_as_often_as_common_ones_of_their_task():
    samples = questions(("find", "cat", 0, 27), ("find", "dog", 0, 3), ("name", "rose", 1, 10))
    mix = mix_of(samples, data(1, 1, balance="classes"), seed=0)
    found = shares(samples, mix, lambda sample: sample.question["category"])
    assert found == pytest.approx({"cat": 15 / 40, "dog": 15 / 40, "rose": 10 / 40}, abs=0.005)


def test_a_class_of_two_sources_is_shared_by_their_weights():
    samples = questions(("find", "cat", 0, 10), ("find", "cat", 1, 10), ("find", "dog", 1, 20))
    mix = mix_of(samples, data(1, 3, balance="classes"), seed=0)
    found = shares(samples, mix, lambda sample: (sample.question["category"], sample.source))
    assert found == pytest.approx({("cat", 0): 1 / 8, ("cat", 1): 3 / 8, ("dog", 1): 1 / 2}, abs=0.005)


def test_every_epoch_has_its_shares_and_no_question_waits_long():
    samples = questions(("a", "x", 0, 30), ("a", "x", 1, 10))
    mix = mix_of(samples, data(1, 1, balance="sources"), seed=1)
    for epoch in range(6):
        asked = Counter(samples[n].source for n in mix.questions(epoch * 40, epoch * 40 + 40))
        assert asked[0] in (19, 20, 21)
    counts = Counter(mix.questions(0, 240))
    assert {counts[n] for n in range(30)} <= {3, 4, 5}  # 120 places for 30 questions
    assert {counts[n] for n in range(30, 40)} <= {11, 12, 13}


def test_a_step_is_the_same_whatever_was_asked_for_before():
    samples = questions(("a", "x", 0, 30), ("a", "x", 1, 10))
    one, other = (mix_of(samples, data(1, 5), seed=3) for _ in range(2))
    late = one.questions(800, 808)
    for step in range(101):
        earlier = other.questions(step * 8, step * 8 + 8)
    assert late == earlier


def test_others_are_drawn_by_the_odds_without_repeating():
    samples = questions(("a", "x", 0, 20), ("a", "x", 1, 20))
    mix = mix_of(samples, data(1, 9), seed=0)
    drawing = Drawing(samples, History(), prompts=4, mix=mix)
    firsts = []
    for step in range(200):
        taken = drawing.step(step)
        others = list(drawing.others(step, taken))
        assert sorted({*others, *taken}) == list(range(40))
        assert len(others) == len(set(others))
        firsts.append(samples[others[0]].source)
    assert np.mean(firsts) == pytest.approx(0.9, abs=0.07)


def test_hard_and_easy_are_told_apart_within_a_task():
    samples = questions(("find", "cat", 0, 4), ("name", "rose", 1, 4))
    tasks = Mixture({"find": load_task("detection"), "name": load_task("classification")}, "find")
    history = History()
    # Every answer to "find" earns more than any to "name": across tasks all places would go to "name".
    history.note(0, {sample.id: [10 + n if n < 4 else n - 4] * 2 for n, sample in enumerate(samples)})
    drawing = Drawing(samples, history, prompts=8, hard_share=0.25, tasks=tasks)
    asked = Counter(drawing.step(1))
    assert (asked[0], asked[3], asked[4], asked[7]) == (2, 0, 2, 0)  # the hardest twice, the easiest not, of each


def test_balancing_classes_where_there_are_none_is_refused():
    samples = questions(("a", "x", 0, 3), ("b", "y", 1, 3))
    with pytest.raises(ConfigError, match=r"data\.balance classes: no task asks about several classes"):
        mix_of(samples, data(1, 1, balance="classes"), seed=0)


def test_weights_are_of_training(tmp_path):
    with pytest.raises(ConfigError, match=r"evaluation\.0\.weight is for training"):
        parse_config({"data": {"evaluation": [{"source": "shapes", "weight": 2}]}}, "test")
    assert config(tmp_path, "tiny", data={"balance": "classes"}).data.balance == "classes"
