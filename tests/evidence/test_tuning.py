"""Two rounds of tries: as many for each side, the finalists those that were best, nothing run twice."""

from __future__ import annotations

from collections import Counter

import pytest
from support.evidence import tries_of

from visual_rft.evidence.choices import Choice
from visual_rft.evidence.experiments.catalogue import EXPERIMENTS
from visual_rft.evidence.experiments.description import WITH_RECIPES
from visual_rft.evidence.tuning import best_of, first_round, second_round

WITH = [name for name, experiment in EXPERIMENTS.items() if experiment.recipes]


def results_of(cells, value):
    return {cell.name: {"numbers": {"AP": value(cell)}} for cell in cells}


@pytest.mark.parametrize("name", WITH)
def test_every_recipe_once_then_the_three_best_at_the_other_rates(name):
    tries = tries_of(name)
    first = first_round(tries)
    assert [cell for cell in first if not cell.recipe] == [cell for cell in tries if not cell.recipe]
    recipes = {arm: list(some) for arm, some in EXPERIMENTS[name].recipes.items()}
    assert {(c.arm, c.recipe): 1 for c in first if c.recipe} == Counter((c.arm, c.recipe) for c in first if c.recipe)
    # The later a recipe the better, but for the last one, which is the worst.
    value = {(arm, some[i]): (i + 1) / 100 if i < 8 else 0.0 for arm, some in recipes.items() for i in range(9)}
    results = results_of([c for c in first if c.recipe], lambda cell: value[cell.arm, cell.recipe])
    second = second_round(tries, results, "AP")
    assert Counter(c.arm for c in second) == dict.fromkeys(WITH_RECIPES, 6)
    assert {(c.arm, c.recipe) for c in second} == {(arm, r) for arm, some in recipes.items() for r in some[5:8]}
    rates = {arm: set(EXPERIMENTS[name].recipe_tries[arm]) for arm in WITH_RECIPES}
    for arm in WITH_RECIPES:
        for recipe in recipes[arm][5:8]:
            tried = {c.config.optimizer.learning_rate for c in (*first, *second) if (c.arm, c.recipe) == (arm, recipe)}
            assert tried == rates[arm]
    assert len({c.name for c in (*first, *second)}) == len(first) + len(second)
    before = second_round(tries, {}, "AP")
    assert len(before) == len(second), "how long it takes is said before anything was tried"


def test_a_finalist_may_win_at_another_rate_and_a_loser_is_not_asked():
    tries = tries_of("few-shot-detection")
    first = first_round(tries)
    found = results_of(first, lambda cell: 0.3 if cell.recipe in ("rank", "gdpo", "15 copies") else 0.2)
    second = second_round(tries, found, "AP")
    found |= results_of(second, lambda cell: 0.4 if cell.config.optimizer.learning_rate == 4e-5 else 0.1)
    best = best_of(tries, found, "AP")
    assert best["rft-recipe"] == Choice(4e-5, "gdpo")  # the first of equal ones
    assert best["sft-recipe"] == Choice(5e-5, "15 copies")
    assert best["rft"] == Choice(2.5e-5), "without a recipe every rate is tried in the first round"


def test_variants_have_one_round():
    tries = tries_of("objectives-classification")
    assert first_round(tries) == tries
    assert second_round(tries, {}, "AP") == []
