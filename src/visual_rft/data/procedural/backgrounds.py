"""Backgrounds and clutter of the procedural pictures, drawn with NumPy; float arrays ``[H, W, 3]`` in 0..255."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def background(
    rng: np.random.Generator, width: int, height: int, base: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """A plain, graded, striped, chequered, ruled or grainy area around the colour ``base [3]``."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    kind = rng.integers(6)
    other = np.clip(base + rng.uniform(-30, 30, 3), 0, 255)
    if kind == 1:
        angle = rng.uniform(0, 2 * np.pi)
        mix = x / width * np.cos(angle) + y / height * np.sin(angle)
        mix = (mix - mix.min()) / (np.ptp(mix) + 1e-9)
    elif kind == 2:
        angle = rng.uniform(0, np.pi)
        period = rng.uniform(6, 24)
        mix = 0.5 + 0.5 * np.sign(np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period))
    elif kind == 3:
        cell = int(rng.integers(6, 20))
        mix = ((x // cell + y // cell) % 2).astype(np.float64)
    elif kind == 4:
        spacing = int(rng.integers(8, 16))
        mix = ((y + rng.integers(spacing)) % spacing < 1).astype(np.float64)
    else:
        mix = np.zeros((height, width))
    picture = base + (other - base) * mix[..., None]
    if rng.random() < 0.7:
        picture = picture + rng.normal(0, rng.uniform(1, 9), (height, width, 1))
    return np.asarray(picture, dtype=np.float64)
