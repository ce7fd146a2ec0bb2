"""Learning curves of a run folder as one picture.

Decision: the picture is drawn from what is on disk (``metrics.jsonl``, ``evaluation/*.json``, ``summary.json``), so it
can be drawn again at any time, also of a run that goes on or was interrupted. Steps are counted from 1, and 0 is the
model before training. A value that was not finite is a gap.

    learning_curve(Path("runs/demo"))      # runs/demo/plots/learning_curve.png
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visual_rft.errors import RunFolderError

SMOOTHED = 10
"""Steps of the moving average: a step's reward is the mean of a few dozen completions and jumps by 0.1 and more."""
_SHARES = {
    "zero_std_share": "groups of equal rewards",
    "parse_failure_share": "answers not read",
    "truncated_share": "truncated answers",
}
_SIZE_INCHES, _DOTS_PER_INCH = (4.0, 3.2), 110


def learning_curve(run: Path) -> Path:
    """Draw the curves of a run; returns the picture's path, ``plots/learning_curve.png`` in the run folder.

    Args:
        run: a run folder with at least one line of metrics.

    Raises:
        RunFolderError: if there are no metrics, a file cannot be read, or the picture cannot be written.
    """
    rows = _metrics(run / "metrics.jsonl")
    panels = [panel for panel in (_rewards(rows), _evaluations(run), _shares(rows)) if panel[1]]
    from matplotlib.figure import Figure  # here, because it takes 0.3 s, and not pyplot, which keeps every figure

    figure = Figure(figsize=(_SIZE_INCHES[0] * len(panels), _SIZE_INCHES[1]), dpi=_DOTS_PER_INCH, layout="constrained")
    for number, (title, curves) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        for name, points in curves.items():
            _draw(axes, name, points)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if title.startswith("shares"):
            axes.set_ylim(0, 1)  # their own scale would make three answers of a hundred look like a catastrophe
        elif not title.startswith("loss"):
            axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, frameon=False)
    file = run / "plots" / "learning_curve.png"
    try:
        file.parent.mkdir(exist_ok=True)
        figure.savefig(file)
    except OSError as error:
        raise RunFolderError(f"{file}: cannot be written ({error.strerror})") from None
    return file


Points = Sequence[tuple[int, float]]
"""Step, from 0, and value."""


def smoothed(points: Points, width: int = SMOOTHED) -> list[tuple[int, float]]:
    """The mean of the last ``width`` values at each point.

    >>> smoothed([(1, 0.0), (2, 1.0), (3, 2.0)], width=2)
    [(1, 0.0), (2, 0.5), (3, 1.5)]
    """
    values = [value for _, value in points]
    windows = (values[max(0, i + 1 - width) : i + 1] for i in range(len(values)))
    return [(step, sum(window) / len(window)) for (step, _), window in zip(points, windows, strict=True)]


def _draw(axes: Any, name: str, points: Points) -> None:
    """Few points as they are, many as a moving average over their cloud."""
    steps, values = zip(*points, strict=True)
    if len(points) <= 2 * SMOOTHED:
        axes.plot(steps, values, marker="o", markersize=4, label=name)
        return
    (line,) = axes.plot(*zip(*smoothed(points), strict=True), label=name)
    axes.plot(steps, values, color=line.get_color(), alpha=0.2, linewidth=0.8)


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> Points:
    return [(row["step"] + 1, row[key]) for row in rows if isinstance(row.get(key), (int, float))]


def _rewards(rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Points]]:
    """The reward parts, or of supervised training the loss."""
    names = [key for key in rows[-1] if key.startswith("reward/")]
    if not names:
        return "loss (training)", _filled({"loss": _series(rows, "loss")})
    return "rewards (training)", _filled({name.removeprefix("reward/"): _series(rows, name) for name in names})


def _shares(rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Points]]:
    return "shares (training)", _filled({label: _series(rows, key) for key, label in _SHARES.items()})


def _evaluations(run: Path) -> tuple[str, dict[str, Points]]:
    """The main numbers of every evaluation, and of the base where it was evaluated."""
    by_step = {int(f.stem.removeprefix("step-")): _object(f) for f in sorted((run / "evaluation").glob("step-*.json"))}
    summary = run / "summary.json"
    base = _object(summary).get("base") if summary.is_file() else None
    if isinstance(base, dict):
        by_step = {0: base, **by_step}
    names = [name for name in ("AP", "AP50", "AP75", "accuracy", "mean_class_accuracy", "mean_iou", "hit_rate")
             if any(name in numbers for numbers in by_step.values())]  # fmt: skip
    if not names and by_step:  # a task of the user's own
        last = by_step[max(by_step)]
        names = [name for name, value in last.items() if isinstance(value, float) and 0 <= value <= 1][:4]
    curves = {
        name: [(step, numbers[name]) for step, numbers in by_step.items() if isinstance(numbers.get(name), float)]
        for name in names
    }
    return "held-out images", _filled(curves)


def _filled(curves: Mapping[str, Points]) -> dict[str, Points]:
    return {name: points for name, points in curves.items() if points}


def _metrics(file: Path) -> list[dict[str, Any]]:
    """Every whole line; a last line that was cut off by a crash is left out."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    except OSError as error:
        raise RunFolderError(f"{file}: cannot be read ({error.strerror}); is this a run folder?") from None
    if not lines:
        raise RunFolderError(f"{file}: holds no step yet")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise RunFolderError(f"{file}: line {number} is not JSON") from None
    return rows


def _object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file}: cannot be read ({error})") from None
    return content if isinstance(content, dict) else {}
