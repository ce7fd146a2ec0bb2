"""The picture of a result file: numbers with their 95 % intervals.

Decision: SVG whose text stays text and whose ids do not change from call to call, so that a picture changes in a commit
only where a number did.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visual_rft.evidence.tables import NAMES, label, panels_of

COLOURS = {"base": "#777777", "sft": "#e69f00", "sft-time": "#d55e00", "sft-reasoning": "#009e73", "rft": "#0072b2",
           "sft-recipe": "#f0c000", "rft-recipe": "#56b4e9", "warm-rft": "#cc79a7"}  # fmt: skip
"""Colours that stay apart for colour-blind readers (Okabe and Ito 2008)."""


def plot(result: Mapping[str, Any], file: Path) -> None:
    """Draw a result into an SVG file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # here, because it takes 0.3 s, and not pyplot, which keeps every figure

    main = result["metrics"][0]
    means = [row for row in result["means"] if row["metric"] == main]
    panels = [(name, [row for row in means if row["domain"] == name])
              for name in dict.fromkeys(row["domain"] for row in means)]  # fmt: skip
    ablation = any(row["variant"] for row in means)
    if ablation:
        panels = [(name, rows) for domain, own in panels for name, rows, _ in panels_of(domain, own, [])]
    style: dict[str, Any] = {
        "svg.hashsalt": "visual-rft",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(style):
        height = 1.0 + 0.22 * len(panels[0][1]) if ablation else 3.4
        width = 3.6 * max(len(panels), 1 + ablation)
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=ablation)[0]
        for axis, (name, rows) in zip(axes, panels, strict=True):
            if ablation:
                _variants(axis, rows, label(main))
                axis.set_title(name if len(panels) > 1 else "")
            else:
                _arms(axis, rows)
                axis.set_title(name)
                axis.set_ylim(bottom=0)
        if not ablation:
            axes[0].set_ylabel(label(main))
            drawn = {
                name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
            }
            names = [name for name in NAMES.values() if name in drawn]  # a domain may lack an arm
            figure.legend(
                [drawn[name] for name in names], names, loc="outside lower center", ncols=2, frameon=False, fontsize=8
            )
        figure.savefig(file, metadata={"Date": None})


def plot_curves(result: Mapping[str, Any], file: Path) -> None:
    """Draw the course of what the unchanged runs logged into an SVG file: a panel per number, a colour per shots.

    A thin line is a run's mean over five steps; the dashed line is the most a reward can be.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    first = result["curves"][0]["variant"]
    rows = [row for row in result["curves"] if (row["variant"], row["arm"]) == (first, "rft")]
    names, shots = (list(dict.fromkeys(row[key] for row in rows)) for key in ("metric", "shots"))
    with rc_context({"svg.hashsalt": "visual-rft", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(2.4 * len(names), 2.6), layout="constrained")
        for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for row in (row for row in rows if row["metric"] == name):
                values, colour = row["values"], f"C{shots.index(row['shots'])}"
                means = [sum(part) / len(part) for n in range(len(values)) if (part := values[max(0, n - 4) : n + 1])]
                axis.plot(means, color=colour, linewidth=1, label=f"{row['shots']} shots" if row["seed"] == 0 else None)
            if name.startswith("reward/"):
                axis.axhline(1.0, color=COLOURS["base"], linewidth=0.8, linestyle="--")
            axis.set(title=name, xlabel="step", ylim=(0, None))
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(frameon=False, fontsize=7)
        figure.savefig(file, metadata={"Date": None})


def _arms(axis: Any, rows: list[Any]) -> None:
    """A curve over shots, or a point per arm where there is only one number of shots."""
    shots = sorted({row["shots"] for row in rows if row["shots"] is not None})
    present = [arm for arm in NAMES if any(row["arm"] == arm for row in rows)]
    for number, arm in enumerate(present):
        own = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["shots"] or 0)
        value = [row["value"] for row in own]
        error = _error(own)
        if arm == "base" and len(shots) > 1:
            axis.axhspan(own[0]["low"], own[0]["high"], color=COLOURS[arm], alpha=0.2, linewidth=0)
            axis.axhline(value[0], color=COLOURS[arm], linewidth=1, label=NAMES[arm])
            continue
        # Moved aside a little, so that intervals at the same number of shots do not hide each other.
        places = [shots.index(row["shots"]) + 0.06 * (number - 2) for row in own] if len(shots) > 1 else [number]
        line = "-" if len(shots) > 1 else "none"
        axis.errorbar(places, value, yerr=error, color=COLOURS[arm], marker="o", markersize=4, linestyle=line,
                      linewidth=1.2, capsize=2, label=NAMES[arm])  # fmt: skip
    if len(shots) > 1:
        axis.set_xticks(range(len(shots)), [str(k) for k in shots])
        axis.set_xlabel("shots per class")
    else:
        axis.set_xticks([])
        axis.set_xlabel(f"{shots[0]} shot{'s' * (shots[0] > 1)} per class" if shots else "")


def _variants(axis: Any, rows: list[Any], name: str) -> None:
    """One line per variant, the unchanged setting as a vertical line."""
    rows = [row for row in rows if row["arm"] == "rft"]
    for place, row in enumerate(rows):
        axis.errorbar(
            [row["value"]], [place], xerr=_error([row]), color=COLOURS["rft"], marker="o", markersize=4, capsize=2
        )
    axis.axvline(rows[0]["value"], color=COLOURS["base"], linewidth=1)
    axis.set_yticks(range(len(rows)), [row["variant"] for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel(name)


def _error(rows: list[Any]) -> list[list[float]]:
    """Lengths of the bars below and above; none below where the interval does not hold the value (AP is biased)."""
    return [
        [max(0.0, row["value"] - row["low"]) for row in rows],
        [max(0.0, row["high"] - row["value"]) for row in rows],
    ]
