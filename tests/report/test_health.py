"""Warnings in words: one named row per finding, and none for a healthy run."""

from __future__ import annotations

import re

import pytest

from visual_rft.config.config import parse_config
from visual_rft.report.health import HealthWatch, findings
from visual_rft.tasks import TASKS

HEALTHY = {"loss": 0.01, "grad_norm": 0.4, "kl": 0.01, "zero_std_share": 0.1, "parse_failure_share": 0.05,
           "truncated_share": 0.0, "entropy_estimate": 0.9}  # fmt: skip


def rows(count: int, **last) -> list[dict]:
    """``count`` healthy steps, then ten with other values."""
    return [{"step": n, **HEALTHY} for n in range(count)] + [{"step": count + n, **HEALTHY, **last} for n in range(10)]


def then(count: int, **last) -> list[dict]:
    """``count`` healthy steps, then a single other one."""
    return [*({"step": n, **HEALTHY} for n in range(count)), {"step": count, **HEALTHY, **last}]


@pytest.mark.parametrize(
    ("history", "name", "words"),
    [
        pytest.param(rows(0, zero_std_share=0.9), "equal rewards", ["90%", "rollout.group_size above 8"], id="equal"),
        pytest.param(rows(50, zero_std_share=0.71), "equal rewards", ["71%", "last 10 steps"], id="equal later"),
        pytest.param(rows(5, parse_failure_share=0.5), "parse failures", ["50%", "warm start"], id="unreadable"),
        pytest.param(rows(5, truncated_share=0.25), "truncations", ["25%", "max_new_tokens above 160"], id="cut"),
        pytest.param(then(20, grad_norm=4.1), "grad_norm blew up", ["4.1", "0.4", "learning_rate"], id="gradient"),
        pytest.param(then(20, kl=0.2), "kl blew up", ["0.2", "objective.beta above 0.04"], id="KL jumps"),
        pytest.param(rows(0, kl=1.5), "kl blew up", ["1.50 nats per token"], id="KL has crept up"),
        pytest.param(then(0, loss=float("nan")), "not finite", ["loss is not finite", "was learned"], id="NaN loss"),
        pytest.param(then(3, grad_norm=float("inf"), loss=None), "not finite", ["loss and grad_norm are"], id="both"),
        pytest.param(rows(20, entropy_estimate=0.05, zero_std_share=0.6), "entropy collapse",
                     ["from 0.9 to 0.05", "rollout.temperature above 1.0"], id="collapse"),
    ],
)  # fmt: skip
def test_what_is_unhealthy_is_said_with_what_to_try(history, name, words):
    (finding,) = findings(history)
    assert finding.name == name
    for word in words:
        assert word in finding.text


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(rows(50), id="healthy"),
        pytest.param(rows(0, zero_std_share=1.0)[:9], id="too few steps to say"),
        pytest.param(rows(50, zero_std_share=0.69), id="just below the limit"),
        pytest.param(rows(50, grad_norm=3.9), id="nine times the median"),
        pytest.param(then(5, grad_norm=50.0), id="too few steps for a median"),
        pytest.param(then(20, kl=0.09), id="a small KL whatever its factor"),
        pytest.param(rows(20, entropy_estimate=0.05), id="sure, and still learning"),
        pytest.param(rows(20, entropy_estimate=0.31, zero_std_share=0.6), id="a third of the entropy"),
        pytest.param([{"step": n, "loss": 1.0, "grad_norm": 0.5} for n in range(50)], id="supervised"),
        pytest.param(then(20, kl=None), id="a value that is missing"),
    ],
)
def test_what_is_healthy_is_not_commented(history):
    assert findings(history) == []


def test_each_is_said_once_per_stretch():
    watch = HealthWatch()
    said = [len(watch.new(row)) for row in rows(0, zero_std_share=1.0) + rows(20) + rows(0, zero_std_share=1.0)]
    assert sum(said) == 2
    assert said[9] == 1, "at the tenth step, when there are enough"
    assert said[-4:] == [1, 0, 0, 0], "again when seven of the last ten are equal"


def test_advice_names_the_present_value():
    config = parse_config({"rollout": {"max_new_tokens": 32}}, "test")
    assert "above 32" in findings(rows(0, truncated_share=1.0), config)[0].text


@pytest.mark.parametrize("task", [*TASKS, "own.py:Own"])
def test_advice_follows_the_task(task):
    """Rewards of boxes are no help to a task that answers with a word: only what the task has is named."""
    config = parse_config({"task": {"name": task}}, "test")
    (finding,) = findings(rows(0, zero_std_share=1.0), config)
    others = {name for other in TASKS.values() for name in other.rewards} - set(
        TASKS[task].rewards if task in TASKS else ()
    )
    named = set(re.findall(r"\w+", finding.text))
    assert not named & others
    if task in TASKS and set(TASKS[task].rewards) - set(TASKS[task].default_weights):
        assert named & (set(TASKS[task].rewards) - set(TASKS[task].default_weights))


def test_the_metrics_of_a_healthy_demonstration_raise_nothing():
    """Measured: entropy fell from 0.93 to 0.31 and the gradient norm rose from 0.25 to 0.68 in 200 steps."""
    history = [
        {**HEALTHY, "step": n, "entropy_estimate": 0.93 - 0.0031 * n, "grad_norm": 0.25 + 0.002 * n} for n in range(200)
    ]
    watch = HealthWatch()
    assert [text for row in history for text in watch.new(row)] == []
