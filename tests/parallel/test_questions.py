"""Dynamic sampling, rest and history of the questions: the same on 1, 2 and 4 processes, and after going on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.runs import metrics
from support.shared_runs import run, run_settings, texts

SETTINGS: dict[str, dict[str, Any]] = {
    "few others": {"rollout": {"extra": 0.75}},
    "all at once": {"rollout": {"extra": 4.0, "rest_steps": 2, "hard_share": 0.25}},
    "ranks in parts": {"rollout": {"extra": 2.0, "prompts_at_once": 4}, "objective": {"advantages": "history_rank"}},
}


def settings(folder: Path, base: Path, name: str, **loop: Any) -> dict[str, Any]:
    """Four questions a step (twice as many in parts), half of which are always answered alike."""
    sections = {
        **SETTINGS[name],
        "data": {"train": [{"source": "digits", "count": 30, "max_objects": 1}]},
        "run": {"steps": 4, "prompts_per_batch": 8 if "parts" in name else 4, "checkpoint_every": 1, **loop},
    }
    return run_settings(folder, base, **sections)


def history(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_questions_are_asked_and_kept(two, four, model_folders, tmp_path, name):
    base = model_folders["qwen2_vl"]
    alone = run(settings(tmp_path / "1", base, name), False, False, True)
    assert sum(row["extra_share"] for row in alone) > 0
    for size, pool in ((2, two), (4, four)):
        folder = tmp_path / str(size)
        pool.ask(run, settings(folder, base, name), False, False, True)
        assert history(folder) == history(tmp_path / "1")
        assert texts(folder) == texts(tmp_path / "1")
        for row, expected in zip(metrics(folder), alone, strict=True):
            assert row.keys() == expected.keys()
            for number in row.keys() - {key for key in row if "second" in key}:
                assert row[number] == pytest.approx(expected[number], rel=1e-4, abs=1e-4), number


def test_a_resumed_run_asks_the_same(two, model_folders, tmp_path):
    base, name = model_folders["qwen2_vl"], "all at once"
    two.ask(run, settings(tmp_path / "whole", base, name, steps=3), False, False, True)
    two.ask(run, settings(tmp_path / "parts", base, name, steps=1), False, False, True)
    two.ask(run, settings(tmp_path / "parts", base, name, steps=3), False, True, True)
    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    assert texts(tmp_path / "parts") == texts(tmp_path / "whole")
    file = "checkpoints/step-000003/model/model.safetensors"
    assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
