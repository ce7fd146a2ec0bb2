"""From cells to the rows of ``docs/evidence/*.json``: 95 % intervals over images, over seeds, and of differences.

Decision: the interval of one run draws the test images again; that of a mean over seeds draws seeds as well, because
another choice of shots would have given other numbers; a difference is taken draw by draw, on the same images and
seeds, before its interval. With three seeds the share of the seeds in the interval is too narrow by a factor of about
sqrt(2/3); nothing is added for that.

>>> import numpy as np
>>> draws = np.array([[0.1, 0.2], [0.3, 0.4]])     # two seeds, two draws of images
>>> over_seeds(draws, np.array([[0, 0], [0, 1]])).tolist()    # the first draw takes seed 0 twice
[0.1, 0.30000000000000004]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from visual_rft.evaluation.resampling import Floats, interval
from visual_rft.evidence.cells import Cell
from visual_rft.evidence.experiments.description import ARMS

PICK_SEED = 0
"""Of the draws of seeds: equal for all arms, so that differences are taken on the same seeds."""
Group = tuple[str, str, int | None, str]
"""Domain, arm, shots and variant."""


def over_seeds(draws: Floats, picks: npt.NDArray[np.int64]) -> Floats:
    """Mean over drawn seeds for each draw of images.

    Args:
        draws: ``[S, D]``, a statistic of each seed's run on each draw of images.
        picks: ``[D, S]``, which seeds each draw takes.

    Returns:
        ``[D]``.
    """
    mean: Floats = draws[picks, np.arange(draws.shape[1])[:, None]].mean(1)
    return mean


def pick_seeds(seeds: int, draws: int) -> npt.NDArray[np.int64]:
    """``[draws, seeds]``: seeds drawn with replacement, the same at every call."""
    return np.random.default_rng(PICK_SEED).integers(0, seeds, (draws, seeds))


def rows_of(
    cells: Sequence[Cell], results: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """One row per run and metric, with the interval over images."""
    rows = []
    for cell in cells:
        result = results[cell.name]
        for metric in metrics:
            low, high = _ends(np.array(result["draws"][metric]))
            rows.append(
                cell.labels()
                | {"metric": metric, "value": round(result["numbers"][metric], 4), "low": low, "high": high,
                   "images": result["images"], "optimizer_steps": result["optimizer_steps"],
                   "cpu_seconds": result["cpu_seconds"]}
            )  # fmt: skip
    return rows


def means_of(
    cells: Sequence[Cell], results: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Means over seeds, and what each arm of reinforcement (or an ablation) has more than each of gold answers and than
    the base, a recipe also than ``rft`` (or an ablation than the first variant).

    Returns:
        ``means`` and ``differences``; both with ``seeds``, ``value``, ``low`` and ``high``.
    """
    groups: dict[Group, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.domain, cell.arm, None if cell.arm == "base" else cell.shots, cell.variant].append(cell)
    first = next((cell.variant for cell in cells), "")
    means, differences = [], []
    for group, members in groups.items():
        domain, arm, shots, variant = group
        labels = {k: v for k, v in members[0].labels().items() if k != "seed"}
        for metric in metrics:
            value, draws = _mean(members, results, metric)
            low, high = _ends(draws)
            cost = [results[cell.name]["cpu_seconds"] for cell in members]
            means.append(
                labels | {"metric": metric, "seeds": len(members), "value": round(value, 4), "low": low, "high": high,
                          "cpu_seconds": round(float(np.mean(cost)), 1)}
            )  # fmt: skip
            if ARMS[arm][0] != "rft":
                continue
            others: list[tuple[str, int | None, str]] = [("base", None, variant)]
            others += [(other, shots, variant) for other, (method, _) in ARMS.items() if method == "sft"]
            if arm != "rft":
                others.append(("rft", shots, variant))
            elif variant != first:
                others.append(("rft", shots, first))
            for other, k, changed in others:
                there = groups.get((domain, other, k, changed))
                if there is None:
                    continue
                there = there * len(members) if other == "base" else there
                if other != "base" and [cell.seed for cell in there] != [cell.seed for cell in members]:
                    continue
                less, less_draws = _mean(there, results, metric)
                low, high = _ends(draws - less_draws)
                minus = {"minus": other, "minus_variant": changed}
                differences.append(
                    labels | minus | {"metric": metric, "seeds": len(members), "value": round(value - less, 4),
                                      "low": low, "high": high}
                )  # fmt: skip
    return means, differences


def over_shots(
    cells: Sequence[Cell], results: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """What each change has more than the first, over all numbers of shots and seeds; [] where there is one number.

    With fifteen changes at three numbers of shots, about two of 45 intervals hold no 0 by chance; this is one each.

    Returns:
        Rows with ``domain``, ``variant``, ``metric``, ``runs``, ``value``, ``low`` and ``high``; the interval draws
        images and, of the pairs of runs of equal shots and seed, as many as there are.
    """
    runs: dict[tuple[str, str], dict[tuple[int | None, int | None], Cell]] = defaultdict(dict)
    for cell in cells:
        if cell.arm == "rft" and cell.variant:
            runs[cell.domain, cell.variant][cell.shots, cell.seed] = cell
    rows = []
    for (domain, variant), own in runs.items():
        first = next(name for place, name in runs if place == domain)
        there = runs[domain, first]
        if variant == first or own.keys() != there.keys() or len({shots for shots, _ in own}) < 2:
            continue
        for metric in metrics:
            value, draws = _mean([own[key] for key in there], results, metric)
            less, less_draws = _mean(list(there.values()), results, metric)
            low, high = _ends(draws - less_draws)
            rows.append(
                {"domain": domain, "variant": variant, "metric": metric, "runs": len(own),
                 "value": round(value - less, 4), "low": low, "high": high}
            )  # fmt: skip
    return rows


def _mean(cells: Sequence[Cell], results: Mapping[str, Mapping[str, Any]], metric: str) -> tuple[float, Floats]:
    draws = np.array([results[cell.name]["draws"][metric] for cell in cells], dtype=np.float64)
    value = float(np.mean([results[cell.name]["numbers"][metric] for cell in cells]))
    return value, over_seeds(draws, pick_seeds(len(cells), draws.shape[1]))


def _ends(draws: Floats) -> tuple[float | None, float | None]:
    ends = interval(draws)
    return (None, None) if ends is None else (round(ends[0], 4), round(ends[1], 4))
