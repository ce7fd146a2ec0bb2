"""The run folder, and the line a step prints.

Decision: the folder is the interface; everything that draws or compares a run reads it.

    config.yaml         the resolved config                environment.json   versions, device, command
    metrics.jsonl       one line per step                  rollouts/          completions with rewards, images once
    evaluation/*.json   one file per evaluation            checkpoints/       model and optimiser
    summary.json        what came out
"""

from __future__ import annotations

import json
import math
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from visual_rft.config import Config, dump_config, load_config
from visual_rft.errors import RunFolderError
from visual_rft.tasks.base import Sample, Score

PACKAGES = ("visual-rft", "torch", "torchvision", "transformers", "accelerate", "peft", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run."""

    path: Path

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Make the folder of a new run and write what it is.

        Raises:
            RunFolderError: if it exists already or cannot be written.
        """
        path = Path(config.run.folder)
        folder = cls(path)
        folder.check_new()
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot make this run folder ({error.strerror})") from None
        (path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        folder.write_json("environment.json", environment())
        return folder

    def check_new(self) -> None:
        """Refuse a folder that exists.

        Raises:
            RunFolderError: if it does.
        """
        if self.path.exists():
            raise RunFolderError(
                f"{self.path}: this run folder exists already; choose another name, continue it with --resume, "
                "or delete it"
            )

    @classmethod
    def resume(cls, config: Config) -> RunFolder:
        """Open the folder of an interrupted run.

        Raises:
            RunFolderError: if there is nothing to continue, or it was made with another config.
        """
        path = Path(config.run.folder)
        if not (path / "config.yaml").is_file():
            raise RunFolderError(f"{path}: no run to resume here (no config.yaml)")
        before, now = load_config(path / "config.yaml"), config
        for section in Config.model_fields:
            if getattr(before, section) != getattr(now, section):
                raise RunFolderError(
                    f"{path}: cannot resume: section {section!r} differs from the run's own config.yaml"
                )
        return cls(path)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*[0-9]"))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write one JSON file below the folder."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Append one step to ``metrics.jsonl``; a value that is not finite is written as null and named.

        The file is flushed, so that a crash loses nothing.
        """
        bad = [key for key, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            print(f"warning: step {metrics.get('step')}: not finite: {', '.join(bad)}", file=sys.stderr)
        clean = {key: None if key in bad else value for key, value in metrics.items()}
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")

    def drop_metrics_from(self, step: int) -> None:
        """Forget the lines of ``step`` and later, which a resumed run makes again."""
        file = self.path / "metrics.jsonl"
        if file.exists():
            lines = [x for x in file.read_text(encoding="utf-8").splitlines() if json.loads(x)["step"] < step]
            file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def write_rollouts(
        self,
        step: int,
        samples: Sequence[Sample],
        prompts: Sequence[str],
        texts: Sequence[Sequence[str]],
        scores: Sequence[Sequence[Score]],
        advantages: Sequence[Sequence[float]],
        *,
        append: bool,
    ) -> None:
        """Write every completion of a batch with its rewards; each image is stored once."""
        images = self.path / "rollouts" / "images"
        images.mkdir(parents=True, exist_ok=True)
        mode = "a" if append else "w"
        with (self.path / "rollouts" / f"step-{step:06d}.jsonl").open(mode, encoding="utf-8") as file:
            for i, sample in enumerate(samples):
                name = re.sub(r"[^\w.-]+", "_", sample.images[0].key.strip("/")) + ".png" if sample.images else None
                if name is not None and not (images / name).exists():
                    sample.images[0].load().save(images / name)
                completions = [
                    {
                        "text": text,
                        "rewards": dict(score.parts),
                        "total": score.total,
                        "advantage": advantage,
                        "answer": score.answer,
                        "failure": score.failure,
                        "notes": list(score.notes),
                    }
                    for text, score, advantage in zip(texts[i], scores[i], advantages[i], strict=True)
                ]
                row = {
                    "step": step,
                    "id": sample.id,
                    "image": f"images/{name}" if name else None,
                    "prompt": prompts[i],
                    "question": dict(sample.question),
                    "truth": dict(sample.truth),
                    "completions": completions,
                }
                file.write(json.dumps(row) + "\n")


def environment() -> dict[str, Any]:
    """Versions, machine and command of this process."""
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
    }


def progress_line(metrics: Mapping[str, Any], steps: int) -> str:
    """One step in one line, the same on a terminal and in a pipe."""
    parts = " ".join(f"{k.removeprefix('reward/')} {v:.2f}" for k, v in metrics.items() if k.startswith("reward/"))
    seconds = " ".join(f"{k.removeprefix('seconds/')} {v:.2f}" for k, v in metrics.items() if k.startswith("seconds/"))
    return (
        f"step {metrics['step'] + 1}/{steps} | {parts} | total {metrics['reward']:.2f} ± {metrics['reward_std']:.2f} "
        f"equal {metrics['zero_std_share']:.0%} | kl {metrics['kl']:.4f} | length {metrics['length']:.0f} "
        f"cut {metrics['truncated_share']:.0%} | {metrics['tokens_per_second']:.0f} tok/s | {seconds} s"
    )
