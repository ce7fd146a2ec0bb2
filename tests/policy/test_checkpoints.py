"""Which checkpoint of a run folder is meant."""

from __future__ import annotations

import json

import pytest

from visual_rft.errors import ConfigError, ModelError
from visual_rft.policy.stored.checkpoints import best_of, chosen, chosen_of


@pytest.fixture
def run(tmp_path):
    (tmp_path / "evaluation").mkdir()
    for step, ap in ((10, 0.2), (20, 0.5), (30, 0.5), (40, None)):
        (tmp_path / f"checkpoints/step-{step:06d}/model").mkdir(parents=True)
        if ap is not None:
            (tmp_path / f"evaluation/step-{step:06d}.json").write_text(json.dumps({"step": step, "AP": ap}))
    (tmp_path / "checkpoints/step-000050.unfinished").mkdir()
    (tmp_path / "config.yaml").write_text("run: {best: AP}")
    return tmp_path


@pytest.mark.parametrize(
    ("which", "step"),
    [("best", 20), ("step-000010", 10), ("step-10", 10), ("40", 40), ("last", None), (None, None)],
)
def test_a_checkpoint_is_chosen(run, which, step):
    assert chosen(str(run), which) == (str(run / f"checkpoints/step-{step:06d}") if step else str(run))


def test_the_earlier_of_equal_ones_is_the_best(run):
    assert best_of(run, "AP") == (run / "checkpoints/step-000020", "AP", 0.5)
    assert best_of(run, "mean_iou") is None


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        (
            "step-50",
            ModelError,
            r"has no step-000050 \(there are: step-000010, step-000020, step-000030, step-000040\)",
        ),
        ("newest", ConfigError, "--checkpoint: 'newest' is not last, best or a step such as step-000040"),
    ],
)
def test_what_is_not_there_is_named(run, which, error, message):
    with pytest.raises(error, match=message):
        chosen(str(run), which)


def test_best_of_a_run_that_was_not_told_what_is_best(run):
    (run / "config.yaml").write_text("run: {steps: 3}")
    with pytest.raises(ConfigError, match=r"was not told what is best \(run.best, e.g. AP\)"):
        chosen(str(run), "best")
    (run / "config.yaml").write_text("run: {best: accuracy}")
    with pytest.raises(ModelError, match=r"no checkpoint of .* has an evaluation with 'accuracy'"):
        chosen(str(run), "best")


def test_a_base_beside_runs_stays_as_it_is(run):
    assert chosen_of(["tiny", str(run)], "best") == ["tiny", str(run / "checkpoints/step-000020")]
    with pytest.raises(ModelError, match="'tiny' is not a run folder"):
        chosen_of(["tiny"], "best")


def test_there_is_nothing_to_choose_from_in_a_model(tmp_path):
    with pytest.raises(ModelError, match="'tiny' is not a run folder, so there is nothing to choose from"):
        chosen("tiny", "last")
