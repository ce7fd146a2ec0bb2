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
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visual_rft.config import Config, dump_config, load_config
from visual_rft.errors import RunFolderError
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.prefix import Completions
from visual_rft.tasks.base import Sample, Score
from visual_rft.vision.images import ImageReference

PACKAGES = ("visual-rft", "torch", "torchvision", "transformers", "accelerate", "peft", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run."""

    path: Path

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

    def create(self, config: Config) -> None:
        """Make the folder of a new run and write what it is.

        Raises:
            RunFolderError: if it exists already or cannot be written.
        """
        self.check_new()
        try:
            self.path.mkdir(parents=True)
            (self.path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot make this run folder ({error.strerror})") from None
        self.write_json("environment.json", environment())

    def resumable_checkpoint(self, config: Config) -> Path | None:
        """The checkpoint from which an interrupted run continues; None if it had not written one yet.

        Raises:
            RunFolderError: if there is nothing to continue, or the run was made with another config.
        """
        if not (self.path / "config.yaml").is_file():
            raise RunFolderError(f"{self.path}: no run to resume here (no config.yaml)")
        before = load_config(self.path / "config.yaml")
        for section in Config.model_fields:
            if getattr(before, section) != getattr(config, section):
                raise RunFolderError(
                    f"{self.path}: cannot resume: section {section!r} differs from the run's own config.yaml"
                )
        checkpoints = self.checkpoints()
        if checkpoints and checkpoints[-1].name == f"step-{config.run.steps:06d}":
            raise RunFolderError(f"{self.path}: this run is finished, there is nothing to resume")
        return checkpoints[-1] if checkpoints else None

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

    def drop_from(self, step: int) -> None:
        """Forget the metrics and rollouts of ``step`` and later, which a resumed run makes again."""
        for rollouts in (self.path / "rollouts").glob("step-*.jsonl"):
            if int(rollouts.stem.removeprefix("step-")) >= step:
                rollouts.unlink()
        file = self.path / "metrics.jsonl"
        if file.exists():
            lines = [x for x in file.read_text(encoding="utf-8").splitlines() if json.loads(x)["step"] < step]
            file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def write_rollouts(
        self,
        step: int,
        samples: Sequence[Sample],
        inputs: Inputs,
        completions: Completions,
        scores: Sequence[Sequence[Score]],
        advantages: Tensor,
    ) -> None:
        """Append every completion of a batch with its rewards to the step's file; each image is stored once."""
        folder = self.path / "rollouts"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        with (folder / f"step-{step:06d}.jsonl").open("a", encoding="utf-8") as file:
            for i, (sample, prompt) in enumerate(zip(samples, inputs.prompts, strict=True)):
                row = {
                    "step": step,
                    "id": sample.id,
                    "images": [self._store_image(image) for image in sample.images],
                    "prompt": prompt.text,
                    "question": dict(sample.question),
                    "truth": dict(sample.truth),
                    "completions": [
                        {
                            "text": text,
                            "rewards": dict(score.parts),
                            "total": score.total,
                            "advantage": advantage,
                            "truncated": truncated,
                            "answer": score.answer,
                            "failure": score.failure,
                            "notes": list(score.notes),
                        }
                        for text, score, advantage, truncated in zip(
                            completions.text[i],
                            scores[i],
                            advantages[i].tolist(),
                            completions.truncated[i].tolist(),
                            strict=True,
                        )
                    ],
                }
                file.write(json.dumps(row) + "\n")

    def _store_image(self, image: ImageReference) -> str:
        """Write an image if it is not there yet; returns its name relative to ``rollouts/``."""
        # Two paths may become the same name once slashes are gone; the checksum of the key keeps them apart.
        readable = re.sub(r"[^\w.-]+", "_", image.key)[-60:]
        name = f"{readable}-{zlib.crc32(image.key.encode()):08x}.png"
        file = self.path / "rollouts" / "images" / name
        if not file.exists():
            image.load().save(file)
        return f"images/{name}"


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
    parts = " ".join(
        f"{k.removeprefix('reward/')} {'-' if v is None else f'{v:.2f}'}"
        for k, v in metrics.items() if k.startswith("reward/")
    )  # fmt: skip
    seconds = " ".join(f"{k.removeprefix('seconds/')} {v:.2f}" for k, v in metrics.items() if k.startswith("seconds/"))
    return (
        f"step {metrics['step'] + 1}/{steps} | {parts} | total {metrics['reward']:.2f} ± {metrics['reward_std']:.2f} "
        f"equal {metrics['zero_std_share']:.0%} | kl {metrics['kl']:.4f} | length {metrics['length']:.0f} "
        f"cut {metrics['truncated_share']:.0%} | {metrics['tokens_per_second']:.0f} tok/s | {seconds} s"
    )
