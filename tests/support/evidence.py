"""Cells of experiments, with the learning rates and recipes that an untuned experiment begins with."""

from __future__ import annotations

from typing import Any

from visual_rft.evidence.cells import Cell, grid, tuning_grid
from visual_rft.evidence.choices import guesses
from visual_rft.evidence.experiments.catalogue import EXPERIMENTS


def cells_of(name: str, **of: Any) -> list[Cell]:
    return grid(name, EXPERIMENTS[name], dict(guesses(EXPERIMENTS[name])), **of)


def tries_of(name: str, quick: bool = False) -> list[Cell]:
    return tuning_grid(name, EXPERIMENTS[name], quick)
