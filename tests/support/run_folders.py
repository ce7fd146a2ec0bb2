"""Run folders written by hand, as docs/run-folder.md describes them."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> {{DATA}} \u2028 <think>é"


def answer(text="<think>left</think><answer>x</answer>", **fields) -> dict:
    return {"text": text, "rewards": {"iou": 0.5, "format": 1.0}, "total": 1.5, "advantage": 0.0, "truncated": False,
            "tokens": 7, "answer": {"boxes": [[2.0, 3.0, 20.0, 30.0]], "confidence": [0.75]}, "failure": None,
            "notes": [], **fields}  # fmt: skip


def group(step: int, name: str = "a", answers: list[dict] | None = None, image: str = "images/a.png") -> dict:
    return {"step": step, "id": f"{name}-{step}", "images": [image], "image_size": [40, 60],
            "prompt": "Find every cat.", "question": {"category": "cat"},
            "truth": {"boxes": [[1, 2, 21, 31]], "image_size": [40, 60]},
            "completions": answers or [answer(), answer(total=0.5, advantage=-1.0)]}  # fmt: skip


def make_run(folder: Path, steps: int = 3, groups: int = 2, config: str = "run: {steps: 3}\n") -> Path:
    """A run folder as docs/run-folder.md describes it, written by hand."""
    for name in ("rollouts", "images", "evaluation"):
        (folder / name).mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    environment = {"device": "cpu", "git": {"commit": "0" * 40, "changed": True}}
    (folder / "environment.json").write_text(json.dumps(environment))
    Image.new("RGB", (40, 60), (10, 20, 30)).save(folder / "images" / "a.png")
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(steps):
            file.write(json.dumps({"step": step, "reward": 1.0 + step, "reward/iou": 0.5, "kl": None}) + "\n")
            rows = [json.dumps(group(step, "abcdefgh"[i])) for i in range(groups)]
            (folder / "rollouts" / f"step-{step:06d}.jsonl").write_text("".join(row + "\n" for row in rows))
    for step, total in ((0, 0.5), (steps, 2.0)):
        example = {**group(0), "completion": answer(total=total)}
        del example["completions"]
        (folder / "evaluation" / f"step-{step:06d}.json").write_text(
            json.dumps({"AP": 0.1 + step / 10, "AP75": -1.0, "n_images": 4, "failures": {}, "examples": [example]})
        )
    (folder / "summary.json").write_text(json.dumps({"seconds": {"total": 12.3}}))
    return folder
