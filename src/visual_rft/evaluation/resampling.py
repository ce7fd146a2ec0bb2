"""Bootstrap intervals: what the numbers would have been on other images of the same kind.

Decision: the image is the unit that is drawn, because answers about one image are not independent. A draw of I images
out of I with replacement is a weight per image (how often it was drawn, summing to I); a statistic is a function of
the weights. Two models are compared on the *same* draws, so that images that are hard for both do not widen the
interval of the difference (percentile bootstrap, Efron and Tibshirani 1993, chapters 13 and 16).

>>> right = np.array([1.0, 1.0, 0.0, 1.0])
>>> draws = bootstrap(lambda weights: {"accuracy": float(weights @ right / weights.sum())}, images=4)
>>> interval(draws["accuracy"])
[0.25, 1.0]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Mapping[str, float]]
"""Numbers by name for weights ``[I]`` of the images; NaN where a draw leaves a number undefined."""
DRAWS = 1000
"""Draws of an interval: its ends then vary by about 1/15 of its width from seed to seed."""
LEVEL = 0.95


def bootstrap(statistic: Statistic, images: int, draws: int = DRAWS, seed: int = 0) -> dict[str, Floats]:
    """The statistic on ``draws`` random draws of images with replacement.

    Args:
        statistic: function from weights per image to numbers by name.
        images: I, at least 1.
        draws: number of draws.
        seed: random seed; equal seeds give equal draws, so two models can be compared draw by draw.

    Returns:
        Values ``[draws]`` by name.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        weights = np.bincount(rng.integers(0, images, images), minlength=images).astype(np.float64)
        rows.append(statistic(weights))
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}


def interval(values: Floats, level: float = LEVEL) -> list[float] | None:
    """``[low, high]`` that holds the middle ``level`` of the values; None if a twentieth of them is undefined."""
    defined = values[np.isfinite(values)]
    if len(defined) <= 0.95 * len(values):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]
