"""Which tries choose what an arm is run with, and the best of them.

Decision: recipes are tried in two rounds, every one at its middle learning rate and then the best three of each arm at
the others. Nine recipes at three rates are 15 runs then instead of 27, for either side; a recipe that is good at
another rate alone is missed, on either side as well.

    run_cells(first_round(tries), ...)
    run_cells(second_round(tries, results, "AP"), ...)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visual_rft.evidence.cells import Cell
from visual_rft.evidence.choices import Choice, Choices, key_of
from visual_rft.evidence.experiments.catalogue import EXPERIMENTS

FINALISTS = 3
"""Recipes of an arm that are tried at every learning rate."""


def first_round(tries: Sequence[Cell]) -> list[Cell]:
    """Every learning rate of what has no recipe, and every recipe at its middle one."""
    return [cell for cell in tries if not cell.recipe or cell.config.optimizer.learning_rate == _middle(cell)]


def second_round(tries: Sequence[Cell], results: Mapping[str, Mapping[str, Any]], metric: str) -> list[Cell]:
    """The other learning rates of the best recipes of each arm, of equal ones the first.

    Args:
        tries: all that there may be.
        results: by name of a cell; a recipe without one counts as the worst, so that before the first round the number
            of tries is right.
        metric: what is compared.
    """
    first = [cell for cell in first_round(tries) if cell.recipe]
    finalists: set[tuple[str, str]] = set()
    for arm in dict.fromkeys(cell.arm for cell in first):
        own = [cell for cell in first if cell.arm == arm]
        own.sort(key=lambda cell: -float(results[cell.name]["numbers"][metric]) if cell.name in results else 0.0)
        finalists |= {(arm, cell.recipe) for cell in own[:FINALISTS]}
    return [cell for cell in tries if (cell.arm, cell.recipe) in finalists and cell not in first]


def best_of(tries: Sequence[Cell], results: Mapping[str, Mapping[str, Any]], metric: str) -> Choices:
    """For each arm, or arm of a variant, the learning rate and recipe of the greatest number; of equal ones the first.

    Args:
        tries: those without a result are left out.
        results: by name of a cell.
        metric: what is compared.
    """
    best: dict[str, tuple[float, Choice]] = {}
    for cell in tries:
        if cell.name in results:
            key, value = key_of(cell.arm, cell.variant), float(results[cell.name]["numbers"][metric])
            if key not in best or value > best[key][0]:
                best[key] = value, Choice(cell.config.optimizer.learning_rate, cell.recipe)
    return {key: choice for key, (_, choice) in best.items()}


def _middle(cell: Cell) -> float:
    rates = EXPERIMENTS[cell.experiment].recipe_tries[cell.arm]
    return rates[len(rates) // 2]
