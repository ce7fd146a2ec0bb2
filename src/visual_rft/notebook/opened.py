"""A run folder in Python and notebooks: curves as arrays, held-out answers and rollouts with their pictures.

Decision: what :mod:`visual_rft.report.reading` reads, in the types that a notebook works with; a run that goes on, or
crashed, can be opened like any other, and neither torch nor pandas is needed. Steps are those that people are told: the
first step of training is 1, an evaluation stands at the steps done before it.

    run = visual_rft.open_run("runs/demo")
    run                                        # before and after, and the learning curve
    run.curves()["reward"].mean()
    run.frame("evaluation")[["AP"]]            # a pandas DataFrame, where pandas is installed
    run.rollouts(1)[0]                         # the picture with truth and answers, and each answer with its rewards
    run.answers()[0].picture                   # PIL
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from visual_rft.errors import RunFolderError
from visual_rft.notebook.question import Question, as_uri, escaped, small_png
from visual_rft.report.pictures import before_after
from visual_rft.report.plots import headline_of, learning_curve
from visual_rft.report.reading import Row, Run, read_run, step_number
from visual_rft.report.series import columns_of, label_of


def open_run(folder: Path | str) -> OpenedRun:
    """Open a run folder, of ``train`` or ``sft``, finished or not.

    Raises:
        RunFolderError: if it holds no run.
    """
    return OpenedRun(read_run(Path(folder)))


class OpenedRun:
    """What a run left behind, as it was when it was opened.

    Attributes:
        folder: of the run.
        config: every section of ``config.yaml`` as plain values; ``visual_rft.load_config(run.folder / "config.yaml")``
            makes a :class:`visual_rft.Config` of it.
        summary: ``summary.json``; {} while the run goes on.
        evaluations: the numbers of each evaluation with its ``step``, oldest first (docs/run-folder.md).
        leakage: sentences on held-out images that are trained on too.
        problems: sentences on what could not be read.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.folder = run.path
        self.config: Row = run.config
        self.summary: Row = run.summary or {}
        self.evaluations: tuple[Row, ...] = tuple(
            {name: value for name, value in row.items() if name != "examples"} for row in run.evaluations
        )
        self.leakage = run.leakage
        self.problems: Sequence[str] = run.problems

    def curves(self, of: str = "training") -> dict[str, npt.NDArray[np.float64]]:
        """Every number over steps, an array ``[N]`` each; NaN where a value is missing or was not finite.

        Args:
            of: ``training`` (docs/run-folder.md, ``metrics.jsonl``) or ``evaluation``.

        Returns:
            By name, with the steps as ``step``.
        """
        rows = {"training": self._run.metrics, "evaluation": self._run.evaluations}.get(of)
        if rows is None:
            raise ValueError(f"curves of {of!r}: there are those of 'training' and of 'evaluation'")
        steps, columns = columns_of(rows, of)
        return {"step": np.array(steps, float)} | {name: np.array(values, float) for name, values in columns.items()}

    def frame(self, of: str = "training") -> Any:
        """The same as a pandas ``DataFrame`` whose index is the step.

        Raises:
            ImportError: if pandas is not installed.
        """
        import pandas  # here, because it is optional

        return pandas.DataFrame(self.curves(of)).astype({"step": int}).set_index("step")

    @property
    def rollout_steps(self) -> list[int]:
        """The steps whose rollouts were kept, ascending; the first step is 1."""
        return [step_number({"step": step}) for step in self._run.rollout_steps]

    def rollouts(self, step: int | None = None) -> list[Question]:
        """The questions of one step with all answers to each.

        Args:
            step: one of ``rollout_steps``; default the last.

        Raises:
            RunFolderError: if no rollouts of it were kept.
        """
        step = self._chosen(step, self.rollout_steps, "rollouts")
        return [Question(self._run, row, row["completions"]) for row in self._run.rollouts(step - 1)]

    def answers(self, step: int | None = None) -> list[Question]:
        """The held-out questions with the one answer that an evaluation got.

        Args:
            step: steps done before the evaluation, 0 for the base; default the last evaluation.

        Raises:
            RunFolderError: if there was no evaluation then.
        """
        step = self._chosen(step, [row["step"] for row in self._run.evaluations], "evaluation")
        kept = self._run.answers(step)
        examples = next(row for row in self._run.evaluations if row["step"] == step).get("examples", [])
        return [Question(self._run, row, [row.get("completion") or {}]) for row in kept or examples]

    def before_after(self) -> Image.Image | None:
        """Held-out questions answered before (above) and after: truth green, answer red; None without two
        evaluations."""
        return before_after(self._run)

    def __repr__(self) -> str:
        done = max(map(step_number, self._run.metrics), default=0)
        state = "finished" if self._run.summary is not None else "not finished"
        return f"<run {self.folder}: {done} of {self._run.steps} steps, {state}>"

    def _repr_png_(self) -> bytes | None:
        drawn = io.BytesIO()
        return small_png(Image.open(drawn)) if learning_curve(self._run, drawn) else None

    def _repr_html_(self) -> str:
        curve = self._repr_png_()
        lines = [f"<p><b>{escaped(repr(self)[1:-1])}</b></p>", _before_and_after(self._run.evaluations)]
        lines += [f"<p>{escaped(text)}</p>" for text in (*self.leakage, *self.problems)]
        if curve is not None:
            lines.append(f'<img src="{as_uri(curve, "png")}" alt="learning curve" style="max-width: 100%">')
        return "\n".join(lines)

    def _chosen(self, step: int | None, known: Sequence[int], what: str) -> int:
        if not known or (step is not None and step not in known):
            there = f"there are {', '.join(map(str, known[:10]))}" + (" ..." if len(known) > 10 else "")
            raise RunFolderError(
                f"{self.folder}: has no {what}" + (f" of step {step}; {there}" if known else " that was kept")
            )
        return known[-1] if step is None else step


def _before_and_after(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """The main numbers of the first and of the last evaluation as a table; empty without one."""
    if not evaluations:
        return ""
    first, last = evaluations[0], evaluations[-1]
    shown = [first] if first is last else [first, last]
    heads = ["base" if row["step"] == 0 else f"after {row['step']} steps" for row in shown]
    rows = [[label_of(name), *(row.get(name) for row in shown)] for name in headline_of(evaluations)]
    cells = [
        "".join(f"<td>{escaped(f'{v:.3f}' if isinstance(v, (int, float)) else v or '-')}</td>" for v in row)
        for row in rows
    ]
    head = "".join(f"<th>{escaped(text)}</th>" for text in ("held-out images", *heads))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
