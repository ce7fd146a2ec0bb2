"""The domains: which pictures are trained on, which choose the learning rate, and which are tested.

Decision: detection looks at scenes of several objects and asks about each class that is there, and about some that are
not, as the demo does; what is named is alone in its picture.

>>> digits(most=4).test["split"], digits(most=4).train["split"]
('test', 'shots')
"""

from __future__ import annotations

from typing import Any

from visual_rft.evidence.experiments.description import Domain

SEVERAL: dict[str, Any] = {"min_objects": 2, "questions": "present", "absent_rate": 0.2}
"""Fields of a source whose scenes hold several objects."""


def digits(most: int = 1, **train: Any) -> Domain:
    """Scenes of handwriting, ``most`` digits each at most; ``train``: more fields of what is trained on."""
    scenes: dict[str, Any] = {"max_objects": most, **(SEVERAL if most > 1 else {})}
    return Domain(
        train={"source": "digits", "split": "shots", "count": 600, **scenes, **train},
        validation=_source("digits", 200 if most == 1 else 100, 501, split="validation", **scenes),
        test=_source("digits", 200, 1, split="test", **scenes),
    )


def shapes(
    count: int = 1500, most: int = 1, *, validated: int = 200, tested: int = 200, reasoning: bool = False, **more: Any
) -> Domain:
    """Scenes of shapes.

    Args:
        count: scenes to train on or to choose shots from.
        most: shapes of a scene at most.
        validated: scenes of the validation.
        tested: scenes of the test.
        reasoning: the scenes come with written reasoning.
        more: fields of all three sources.
    """
    scenes = {"max_objects": most, **more}
    return Domain(
        train={"source": "shapes", "count": count, **scenes},
        validation=_source("shapes", validated, 501, **scenes),
        test=_source("shapes", tested, 1001, **scenes),
        reasoning=reasoning,
    )


def flowers() -> Domain:
    """24 kinds of flower, one in each picture."""
    return Domain(
        train={"source": "flowers", "count": 24 * 40},
        validation=_source("flowers", 192, 501),
        test=_source("flowers", 192, 1001),
        reasoning=True,
    )


def novel(domain: Domain, base: tuple[str, ...], others: tuple[str, ...], count: int) -> Domain:
    """Training on base classes, measured on novel ones in ``count`` images before those are picked out.

    Validation is on base classes: the novel ones are not looked at before the test.
    """
    return Domain(
        train={**domain.train, "classes": base},
        validation={**domain.validation, "classes": base},
        test={**domain.test, "classes": others, "count": count},
    )


def _source(source: str, count: int, seed: int, **more: Any) -> dict[str, Any]:
    return {"source": source, "count": count, "seed": seed, **more}
