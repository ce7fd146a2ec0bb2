"""Learning curves as a picture: one small plot per number, evaluation first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from visual_rft.report.reading import Run
from visual_rft.report.series import curves_of

COLUMNS = 4
WIDTH, HEIGHT = 3.0, 1.9
"""Of a plot, inches."""


def learning_curves(run: Run, file: Path) -> bool:
    """Draw the curves of a run into ``file`` (PNG or SVG by its name); False if there is nothing to draw.

    Faint: every step. Strong: the mean of the twentieth of the steps around it. Seconds are in the report only.
    """
    curves = [curve for curve in curves_of(run) if not curve.name.startswith(("seconds/", "tokens_", "samples_"))]
    if not curves:
        return False
    rows = -(-len(curves) // COLUMNS)
    # Margins by hand: Matplotlib's own layout takes longer than everything else here.
    figure = Figure(figsize=(WIDTH * COLUMNS, HEIGHT * rows), dpi=100)
    for place, curve in enumerate(curves):
        row, column = divmod(place, COLUMNS)
        left, bottom = (column + 0.17) / COLUMNS, (rows - row - 1 + 0.16) / rows
        axes = figure.add_axes((left, bottom, 0.78 / COLUMNS, 0.66 / rows))
        values = np.array([np.nan if v is None else v for v in curve.values], float)
        if curve.of == "evaluation":
            axes.plot(curve.steps, values, "o-", color="#b45309", markersize=3.5, linewidth=1.4)
        else:
            axes.plot(curve.steps, values, color="#2563eb", alpha=0.25, linewidth=0.8)
            axes.plot(curve.steps, _smooth(values), color="#2563eb", linewidth=1.4)
        axes.set_title(f"held-out {curve.label}" if curve.of == "evaluation" else curve.label, fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=4)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file)
    return True


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean of what is known among the neighbours of each value."""
    window = np.ones(2 * (len(values) // 40) + 1)
    known = ~np.isnan(values)
    total = np.convolve(np.where(known, values, 0.0), window, "same")
    count = np.convolve(known.astype(float), window, "same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
