"""Short runs: their config, what they left behind, a reward a random model can learn, and an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from visual_rft.config.config import Config, parse_config
from visual_rft.training import learner


def config(folder: Path, base: Path | str, **sections) -> Config:
    values = {
        "model": {"path": str(base)},
        "data": {
            "train": [{"source": "digits", "count": 6}],
            "evaluation": [{"source": "digits", "split": "test", "count": 2, "seed": 1}],
        },
        "rollout": {"group_size": 3, "max_new_tokens": 8},
        "optimizer": {"learning_rate": 1e-3},
        "run": {"folder": str(folder), "steps": 2, "prompts_per_batch": 2},
    }
    for name, fields in sections.items():
        values[name] = {**values.get(name, {}), **fields}
    return parse_config(values, "test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForImageTextToText.from_pretrained(folder).state_dict()


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def reward_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the format reward by the share of one letter, which a random model produces now and then."""
    from visual_rft.tasks import Detection, Score

    def score(self, completion, truth, frame=None):
        value = sum(c in "aeiou" for c in completion) / max(len(completion), 1)
        return Score({"iou": 0.0, "confidence": 0.0, "format": value}, value)

    monkeypatch.setattr(Detection, "score", score)


def half_always_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions about even digits are always right; others earn by their text, which a random model varies."""

    from visual_rft.tasks import Detection, Score

    def score(self, completion, truth, frame=None):
        digit = int(truth["category"].split()[-1])
        value = 1.0 if digit % 2 == 0 else sum(map(ord, completion)) % 997 / 997
        return Score({"iou": 0.0, "confidence": 0.0, "format": value}, value)

    monkeypatch.setattr(Detection, "score", score)


def interrupt(loop: Callable[..., Any], settings: Config, last: int) -> None:
    """Run until the checkpoint of step ``last`` would be written: the step before has left its line of metrics."""
    real = learner.save_checkpoint

    def dies(folder, policy, learning, step):
        if step == last:
            raise KeyboardInterrupt
        return real(folder, policy, learning, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "save_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            loop(settings)
