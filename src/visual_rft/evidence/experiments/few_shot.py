"""Few-shot detection and classification, and open vocabulary.

>>> FEW_SHOT["few-shot-detection"].shots
(1, 2, 4, 8, 16)
"""

from __future__ import annotations

from typing import get_args

from visual_rft.config.sections import ScoreKind
from visual_rft.evidence.experiments.budgets import CLASSIFICATION, DETECTION, DETECTION_RATES, RATES, SHORT_DETECTION
from visual_rft.evidence.experiments.description import Experiment
from visual_rft.evidence.experiments.pictures import SEVERAL, digits, flowers, novel, shapes
from visual_rft.evidence.experiments.recipes import (
    DETECTION_RECIPE_RATES,
    RECIPE_RATES,
    recipes_of_detection,
    recipes_of_naming,
)

NOVEL_DIGITS = ("digit 7", "digit 8", "digit 9")
BASE_DIGITS = tuple(f"digit {i}" for i in range(7))
_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
BASE_SHAPES = tuple(f"{colour} {form}" for colour in _COLOURS for form in ("circle", "square", "triangle"))
NOVEL_SHAPES = tuple(f"{colour} {form}" for colour in _COLOURS for form in ("star", "cross"))

FEW_SHOT: dict[str, Experiment] = {
    "few-shot-detection": Experiment(
        title="Few-shot detection in scenes of several objects",
        metrics=("AP", "AP50", "mean_iou"),
        domains={
            "handwriting": digits(most=4),
            "shapes": shapes(most=5, validated=100, tested=150, **SEVERAL),
        },
        shots=(1, 2, 4, 8, 16),
        config=DETECTION,
        tries=DETECTION_RATES,
        recipes=recipes_of_detection(DETECTION["run"]["steps"]),
        recipe_tries=DETECTION_RECIPE_RATES,
    ),
    "few-shot-classification": Experiment(
        title="Few-shot classification",
        metrics=("top1_strict",),
        domains={"handwriting": digits(), "flowers": flowers()},
        shots=(1, 2, 4, 8, 16),
        config=CLASSIFICATION,
        tries=RATES,
        recipes=recipes_of_naming(CLASSIFICATION["run"]["steps"]),
        recipe_tries=RECIPE_RATES,
    ),
    "scores": Experiment(
        title="What ranks the boxes: AP and calibration by the written, the tokens' and the asked number",
        metrics=(*(f"{of}/{kind}" for of in ("AP", "ECE") for kind in get_args(ScoreKind)), "AP/tokens - written"),
        domains={"handwriting": digits(most=4), "shapes": shapes(most=5, validated=100, tested=150, **SEVERAL)},
        shots=(4,),
        config={**DETECTION, "task": {**DETECTION["task"], "scores": "asked"}},
        rates_of="few-shot-detection",
    ),
    "open-vocabulary": Experiment(
        title="Open vocabulary: trained on base classes, measured on novel ones",
        metrics=("AP", "AP50", "mean_iou"),
        domains={
            "handwriting": novel(digits(), BASE_DIGITS, NOVEL_DIGITS, 600),
            "shapes": novel(shapes(), BASE_SHAPES, NOVEL_SHAPES, 450),
        },
        shots=(1, 16),
        config=SHORT_DETECTION,
        rates_of="ablations",
    ),
}
