"""The chain that makes the embedded base: it runs from nothing, and a break changes nothing."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from visual_rft.tiny import bind, loop, scenes, see, train
from visual_rft.tiny.loop import Rate

SIZES = train.Sizes({"shapes": 6, "shape": 3, "digits": 8, "flowers": 4}, see=4, bind=5, blur=2)


class Break(Exception):
    """The machine goes down."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(see, "BATCH", 3)
    monkeypatch.setattr(bind, "BATCH", 3)
    monkeypatch.setattr(scenes, "PER_FILE", 4)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)


def result(folder):
    return load_file(folder / "base" / "model.safetensors")


def test_a_chain_that_was_interrupted_in_every_stage_ends_where_the_uninterrupted_one_ends(tmp_path, monkeypatch):
    said: list[str] = []
    train.Chain(tmp_path / "whole", SIZES, said.append).run()
    record = json.loads((tmp_path / "whole" / "record.json").read_text())
    assert {name: row.get("steps") for name, row in record.items()} == {
        "build": None, "draw": None, "see": 4, "bind": 5, "blur": 2}  # fmt: skip
    assert record["draw"]["scenes"] == 21
    assert record["bind"]["scenes"] == 15
    assert all(row["wall_seconds"] >= 0 and row["cpu_seconds"] >= 0 for row in record.values())
    assert any("held out: shapes right" in line for line in said)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole" / "base")
    assert type(model).__module__.startswith("transformers.")

    steps = Rate.at
    for stage_steps, breaks_at in ((4, 2), (5, 3), (2, 1)):

        def at(rate, step, stage_steps=stage_steps, breaks_at=breaks_at):
            if (rate.steps, step) == (stage_steps, breaks_at):
                raise Break
            return steps(rate, step)

        monkeypatch.setattr(Rate, "at", at)
        with pytest.raises(Break):
            train.Chain(tmp_path / "broken", SIZES, said.append).run()
    monkeypatch.setattr(Rate, "at", steps)
    said.clear()
    train.Chain(tmp_path / "broken", SIZES, said.append).run()
    assert [line for line in said if "goes on after step" in line] == ["blur | goes on after step 1"]
    whole, broken = result(tmp_path / "whole"), result(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    for name, value in whole.items():
        torch.testing.assert_close(broken[name], value, atol=0, rtol=0)


def test_the_rate_rises_stays_and_falls_to_nothing():
    rate = Rate(peak=2.0, warmup=4, flat=0.5, steps=100)
    assert [rate.at(step) for step in (0, 1, 3, 49)] == [0.5, 1.0, 2.0, 2.0]
    assert 0 < rate.at(99) < rate.at(75) < 2.0
