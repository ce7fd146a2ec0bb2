"""Learning curves as a picture: one small plot per number, evaluation first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from visual_rft.report.reading import Run
from visual_rft.report.series import curves_of

COLUMNS = 4


def learning_curves(run: Run, file: Path) -> bool:
    """Draw every curve of a run into ``file`` (PNG or SVG by its name); False if there is nothing to draw.

    Faint: every step. Strong: the mean of the last tenth of the steps so far.
    """
    curves = curves_of(run)
    if not curves:
        return False
    rows = -(-len(curves) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.1 * rows), layout="constrained")
    for place, curve in enumerate(curves, 1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        values = np.array([np.nan if v is None else v for v in curve.values], float)
        if curve.of == "evaluation":
            axes.plot(curve.steps, values, "o-", color="#b45309", markersize=3.5, linewidth=1.4)
        else:
            smooth = _smooth(values)
            axes.plot(curve.steps, values, color="#2563eb", alpha=0.25, linewidth=0.8)
            axes.plot(curve.steps, smooth, color="#2563eb", linewidth=1.4)
        axes.set_title(curve.label, fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("steps", fontsize=8)
    figure.savefig(file, dpi=110)
    return True


def _smooth(values: np.ndarray) -> np.ndarray:
    """The mean of what is known among the last tenth of the values, at each place."""
    width = max(1, len(values) // 10)
    known = np.nancumsum(values)
    count = np.cumsum(~np.isnan(values))
    total = known - np.concatenate([np.zeros(width), known[:-width]])[: len(values)]
    number = count - np.concatenate([np.zeros(width), count[:-width]])[: len(values)]
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


