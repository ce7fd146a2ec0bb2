"""Learning curves as one picture: rewards, held-out numbers, and the shares that say why a run does not learn.

Decision: three panels, because it is looked at in a README or beside another run's; every curve is in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from visual_rft.report.reading import Row, Run, step_number
from visual_rft.report.series import label_of

SMOOTHING_STEPS = 10
"""Steps of the moving average: a step's reward is the mean of a few dozen completions and jumps by 0.1 and more."""
SHARES = {
    "zero_std_share": "groups with equal rewards",
    "parse_failure_share": "answers not readable",
    "truncated_share": "completions cut off",
}
HEADLINE = ("AP", "AP50", "AP75", "accuracy", "mean_class_accuracy", "mean_iou", "hit_rate")
_SIZE_INCHES, _DOTS_PER_INCH = (4.0, 3.2), 110

Points = Sequence[tuple[int, float]]
"""Step and value."""


def learning_curve(run: Run, file: Path | IO[bytes]) -> bool:
    """Draw the curves of a run into ``file`` (PNG or SVG by its name); False if there is nothing to draw yet.

    An open file gets a PNG. A value that was not finite is left out. The first step is 1; an evaluation stands at the
    steps done before it.

    Raises:
        OSError: if the picture cannot be written.
    """
    panels = [panel for panel in panels_of(run) if panel[1]]
    if not panels:
        return False
    from matplotlib.figure import Figure  # here, because it takes 0.3 s, and not pyplot, which keeps every figure

    figure = Figure(figsize=(_SIZE_INCHES[0] * len(panels), _SIZE_INCHES[1]), dpi=_DOTS_PER_INCH, layout="constrained")
    for number, (title, curves) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        for name, points in curves.items():
            _draw(axes, name, points)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("steps done")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if title.startswith("shares"):
            axes.set_ylim(0, 1)  # their own scale would make three answers of a hundred look like a catastrophe
        elif not title.startswith("loss"):
            axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, frameon=False)
    figure.savefig(file)
    return True


def panels_of(run: Run) -> list[tuple[str, dict[str, Points]]]:
    """Title and curves of every panel; a panel may be empty."""
    names = {name: None for row in run.metrics for name in row if name.startswith("reward/")}
    trained = [{**row, "step": step_number(row)} for row in run.metrics]
    rewards = {name.removeprefix("reward/"): _series(trained, name) for name in names}
    shares = {label: _series(trained, name) for name, label in SHARES.items()}
    held_out = {label_of(name): _series(run.evaluations, name) for name in headline_of(run.evaluations)}
    learned = ("rewards (training)", rewards) if names else ("loss (training)", {"loss": _series(trained, "loss")})
    return [
        (title, {name: points for name, points in curves.items() if points})
        for title, curves in (learned, ("held-out images", held_out), ("shares (training)", shares))
    ]


def headline_of(evaluations: Sequence[Row]) -> list[str]:
    """The main numbers, of several tasks those of each; of a task of the user's own the first four between 0 and 1."""
    known = [name for name in HEADLINE if any(name in row for row in evaluations)]
    if known or not evaluations:
        return known
    of_tasks = [name for name in evaluations[-1] if "/" in name and name.rpartition("/")[2] in HEADLINE]
    if of_tasks:
        return of_tasks
    return [name for name, value in evaluations[-1].items() if isinstance(value, float) and 0 <= value <= 1][:4]


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> Points:
    return [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float)) and row[name] != -1]


def smoothed(points: Points, width: int = SMOOTHING_STEPS) -> list[tuple[int, float]]:
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
    if len(points) <= 2 * SMOOTHING_STEPS:
        axes.plot(steps, values, marker="o", markersize=4, label=name)
        return
    (line,) = axes.plot(*zip(*smoothed(points), strict=True), label=name)
    axes.plot(steps, values, color=line.get_color(), alpha=0.2, linewidth=0.8)
