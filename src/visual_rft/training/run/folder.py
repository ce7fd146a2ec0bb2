"""The run folder.

Decision: the folder is the interface; everything that draws or compares a run reads the folder (``report/reading.py``),
never the process that wrote it. docs/run-folder.md says what each file holds.

    config.yaml         the resolved config                environment.json   command, versions, device, commit, seed
    metrics.jsonl       one line per step                  rollouts/          completions with rewards and answers
    history.jsonl       what questions earned, by step
    evaluation/*.json   numbers and fixed examples         images/            each picture once, for both
    checkpoints/        model and optimiser                plots/             learning curves
    summary.json        what came out                      report.html        all of it to look at
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visual_rft.config.config import Config, dump_config
from visual_rft.data.leakage import Leakage
from visual_rft.errors import RunFolderError, printable
from visual_rft.files import append_json_lines, json_or_nothing, parse_json, write_json, write_whole
from visual_rft.parallel.processes import here
from visual_rft.policy.stored.checkpoints import evaluation_of
from visual_rft.policy.stored.places import checkpoints_of
from visual_rft.report.reading import finite, read_lines
from visual_rft.tasks.samples import Prediction
from visual_rft.training.metrics import Rollouts
from visual_rft.training.run.continuing import DATA, LEAKAGE, data_of, extension
from visual_rft.training.run.environment import environment
from visual_rft.training.run.rows import completion_row, question_row
from visual_rft.vision.images import ImageReference

LOSSLESS_PIXELS = 262_144
"""A stored picture up to this many pixels (512 x 512) is PNG, a larger one JPEG: quicker to write, and smaller."""
OF_A_STEP = re.compile(r"step-([0-9]+)(?:\.json|\.jsonl|\.answers\.jsonl)")
"""Names of the files that a step has."""
SMALL_SIDE_PIXELS = 256
"""Longest side of a picture of the gallery: a thousand of them take about 15 MB."""
STORED_SIDE = 1280
"""Longest side of a stored picture; it is there to be looked at, and boxes stay in pixels of the original."""


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
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot make this run folder ({error.strerror})") from None
        try:
            write_whole(self.path / "config.yaml", dump_config(config))
            self.write_json("environment.json", environment(config.run.seed))
            self.write_json(DATA, data_of(config))
        except BaseException:  # half of it would refuse the same command tomorrow
            self.discard()
            raise

    def note_leakage(self, leakage: Leakage) -> None:
        """Add to ``data.json`` which held-out images are training images, so that whatever shows numbers can say it.

        Raises:
            RunFolderError: if it cannot be written.
        """
        self.write_json(DATA, {**json_or_nothing(self.path / DATA), LEAKAGE: leakage.as_json()})

    def discard(self) -> None:
        """Delete a folder that :meth:`create` has just made."""
        shutil.rmtree(self.path, ignore_errors=True)

    def reopen(self, config: Config, step: int) -> None:
        """Forget what a run that continues after ``step`` steps makes again, and note with what it was continued.

        The config is written anew, because more steps may have been asked for, which is noted too.

        Raises:
            RunFolderError: if a file cannot be written.
        """
        self._drop_from(step)
        self._drop_unfinished()
        self._note_resumed(config, step)
        write_whole(self.path / "config.yaml", dump_config(config))

    def _drop_unfinished(self) -> None:
        """Delete what a process that was killed was writing; half a checkpoint can be as large as a whole one."""
        for place in (self.path / "checkpoints").glob("step-*.unfinished*"):
            shutil.rmtree(place, ignore_errors=True)
        for pattern in ("*.unfinished", "evaluation/*.unfinished", "images/unfinished-*"):
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)

    def _note_resumed(self, config: Config, step: int) -> None:
        """Add to ``environment.json`` that and with what the run was continued after ``step`` steps."""
        file = self.path / "environment.json"
        try:
            before = parse_json(file.read_bytes())
        except (OSError, ValueError):
            before = None
        if not isinstance(before, dict) or not isinstance(before.get("resumed", []), list):
            print(f"warning: {printable(str(file))}: cannot be read; written anew", file=sys.stderr)
            before = {}
        longer = extension(self.path, config)
        noted = {"after_steps": step, **({"run_steps": list(longer)} if longer else {})}
        resumed = [*before.get("resumed", []), {**noted, **environment(config.run.seed)}]
        self.write_json("environment.json", {**before, "resumed": resumed})

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return checkpoints_of(self.path)

    def evaluation(self, step: int) -> dict[str, Any]:
        """The numbers of ``evaluation/step-N.json``, {} if there is none."""
        return evaluation_of(self.path, step)

    def steps_skipped(self) -> int:
        """Steps whose gradient was not finite, of the whole run; ``metrics.jsonl`` has null for it."""
        rows, _ = read_lines(self.path / "metrics.jsonl")
        return sum(row.get("grad_norm") is None for row in rows)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write one JSON file below the folder; complete or not at all. Numbers that are not finite become null.

        Raises:
            RunFolderError: if it cannot be written.
        """
        clean, bad = finite(content)
        _warn(name, bad)
        write_json(self.path / name, clean, RunFolderError)

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Append one step to ``metrics.jsonl``; a value that is not finite is written as null and named.

        The file is closed, so that a crash of this process loses nothing.
        """
        clean, bad = finite(metrics)
        _warn(f"step {metrics.get('step')}", bad)
        self._append("metrics.jsonl", [clean])

    def append_history(self, step: int, questions: Mapping[str, Sequence[float]]) -> None:
        """Append to ``history.jsonl`` what the completions of a step's questions earned.

        Args:
            step: number of the step, from 0.
            questions: mean reward of each, by id, and greatest less least.
        """
        self._append("history.jsonl", [{"step": step, "questions": questions}])

    def _drop_from(self, step: int) -> None:
        """Forget what a run that continues after ``step`` steps makes again.

        Those are the metrics, history and rollouts of ``step`` and later, and evaluations after more steps. A last line
        that was cut off by a crash goes too, and is named.

        Raises:
            RunFolderError: if ``metrics.jsonl`` or ``history.jsonl`` cannot be written.
        """
        for folder, least in (("rollouts", step), ("evaluation", step + 1)):
            for file in (self.path / folder).glob("step-*.json*"):
                named = OF_A_STEP.fullmatch(file.name)  # anything else is somebody's own copy
                if named and int(named[1]) >= least:
                    file.unlink()
        (self.path / "summary.json").unlink(missing_ok=True)
        for file in (self.path / "metrics.jsonl", self.path / "history.jsonl"):
            rows, problem = read_lines(file)
            if problem:
                print(f"warning: {printable(problem)}", file=sys.stderr)
            known = [row for row in rows if type(row.get("step")) is int]
            if len(known) < len(rows):
                left = len(rows) - len(known)
                print(f"warning: {printable(str(file))}: {left} lines name no step; left out", file=sys.stderr)
            if file.exists():
                write_whole(file, "".join(json.dumps(row) + "\n" for row in known if row["step"] < step))

    def write_evaluation(
        self, step: int, metrics: Mapping[str, Any], asked: Mapping[str, str], examples: Sequence[Prediction]
    ) -> None:
        """Write ``evaluation/step-N.json``: the numbers after ``step`` steps, and the answers to the fixed examples.

        Args:
            step: optimiser steps done.
            metrics: of all held-out questions.
            asked: the prompt of each example by its id.
            examples: the answers to show; the same questions at every evaluation.
        """
        rows = []
        for prediction in examples:
            sample = prediction.sample
            images = [self._store_image(image) for image in sample.images]
            completion = completion_row(prediction.completion, prediction.score)
            rows.append(
                question_row(sample, images, sample.truth.get("image_size"), asked[sample.id])
                | {"completion": completion}
            )
        self.write_json(f"evaluation/step-{step:06d}.json", {**metrics, "step": step, "examples": rows})

    def write_answers(self, step: int, asked: Mapping[str, str], answers: Sequence[Prediction]) -> None:
        """Write ``evaluation/step-N.answers.jsonl``: a line per held-out question, with a small picture of its image.

        Args:
            step: optimiser steps done.
            asked: the prompt of each question by its id.
            answers: the answers to keep; the same questions at every evaluation.
        """
        rows = []
        for prediction in answers:
            sample = prediction.sample
            images = [self._store_image(image, "small", SMALL_SIDE_PIXELS) for image in sample.images[:1]]
            row = question_row(sample, images, sample.truth.get("image_size"), asked[sample.id])
            truth = {name: value for name, value in sample.truth.items() if name not in ("segmentation", "thought")}
            row |= {"truth": truth, "completion": completion_row(prediction.completion, prediction.score)}
            clean, bad = finite(row)
            _warn(f"answers after {step} steps, {sample.id}", bad)
            rows.append(clean)
        file = self.path / "evaluation" / f"step-{step:06d}.answers.jsonl"
        file.parent.mkdir(exist_ok=True)
        write_whole(file, "".join(json.dumps(row) + "\n" for row in rows))

    def rollout_rows(self, step: int, rollouts: Rollouts) -> list[dict[str, Any]]:
        """Every completion of a batch with its rewards, a line per question; each image is stored once."""
        rows = []
        inputs, completions = rollouts.inputs, rollouts.completions
        for i, (sample, prompt) in enumerate(zip(rollouts.samples, inputs.prompts, strict=True)):
            images = [self._store_image(image) for image in sample.images]
            frame = inputs.frames[i]
            several = zip(
                completions.text[i], rollouts.scores[i], rollouts.advantages[i].tolist(),
                completions.truncated[i].tolist(), completions.lengths[i].tolist(), strict=True,
            )  # fmt: skip
            answers = [
                {**completion_row(text, score), "advantage": advantage, "truncated": truncated, "tokens": tokens}
                for text, score, advantage, truncated, tokens in several
            ]
            size = frame.image_size if frame else None
            row = {"step": step, **question_row(sample, images, size, prompt.text), "completions": answers}
            clean, bad = finite(row)
            _warn(f"rollouts of step {step}, {sample.id}", bad)
            rows.append(clean)
        return rows

    def write_rollouts(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append the lines of a batch (:meth:`rollout_rows`) to the step's file."""
        self._append(f"rollouts/step-{step:06d}.jsonl", rows)

    def _append(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        append_json_lines(self.path / name, rows, RunFolderError, make_folder=True)

    def _store_image(self, image: ImageReference, folder: str = "images", side: int = STORED_SIDE) -> str:
        """Write an image, its longer side at most ``side`` pixels, if it is not there yet; returns its name relative to
        the run folder."""
        # Two paths may become the same name once slashes are gone; the checksum of the key keeps them apart.
        readable = re.sub(r"[^\w.-]+", "_", image.key)[-60:]
        stem = f"{folder}/{readable}-{zlib.crc32(image.key.encode()):08x}"
        for suffix in (".png", ".jpg"):
            if (self.path / (stem + suffix)).exists():
                return stem + suffix
        picture = image.load()
        small = picture.width * picture.height <= min(LOSSLESS_PIXELS, side * side)
        name = stem + (".png" if small else ".jpg")
        picture.thumbnail((side, side))
        file = self.path / name
        unfinished = file.with_name(f"unfinished-{here().rank}-{file.name}")  # another process may have it too
        try:
            file.parent.mkdir(exist_ok=True)
            picture.save(unfinished, **({} if small else {"quality": 90}))
            unfinished.replace(file)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise RunFolderError(f"{file}: cannot be written ({error.strerror or error})") from error
        return name


def _warn(where: str, names: Sequence[str]) -> None:
    """Name the values that are not finite."""
    if names:
        print(printable(f"warning: {where}: not finite: {', '.join(names)}"), file=sys.stderr)
