"""Write the untrained embedded model: ``python -m visual_rft.tiny.build FOLDER``.

Teaching it is then one run on its vision tower (:mod:`visual_rft.tiny.see`) and two ordinary supervised runs,
the configs ``tiny/exact`` and ``tiny/imprecise``; see docs/tiny.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from visual_rft.data.procedural import flowers, shapes
from visual_rft.tasks import TASKS
from visual_rft.tiny.architecture import build_model, build_processor, build_tokenizer
from visual_rft.vision.coordinates import CoordinateSpace

_ASKED = {"category": "|", "subject": "|", "expression": "|"}
_PLACES = [f"{v} {h}" for v in ("top", "middle", "bottom") for h in ("left", "centre", "right")]
_WORDS = [
    *(f" {word}" for name in (*shapes.CLASSES, *flowers.CLASSES) for word in name.split()), *flowers.COLOURS,
    " digit ", "digit ", " flower", " handwritten digit", " the", " shape", " largest", " smallest", " leftmost",
    " rightmost", " topmost", " bottommost", " left of the", " right of the", " above the", " below the",
    " the only shape that is not", " a",
]  # fmt: skip
_ANSWERS = [
    "<think>", "</think>", "<answer>", "</answer>", "none", " found: ", ", ", "<answer>No Objects</answer>",
    "</think><answer>[{'Position': [", "<answer>[{'Position': [", "], 'Confidence': ", "}, {'Position': [",
    "}]</answer>", "</think><answer>", "</think><answer>(", "<answer>(", "),(", ")</answer>", "<think>a",
    "handwriting", "user\n", "assistant\n", " pointed petals,", " round petals,",
]  # fmt: skip


def phrases() -> list[str]:
    """What the tokenizer knows whole: fixed parts of prompts and answers, words of class names and expressions."""
    prompts = [part for task in TASKS.values() for think in (True, False)
               for part in task(think=think).prompt(_ASKED, CoordinateSpace.RELATIVE_1000).split(" |")]  # fmt: skip
    return [*prompts, *_ANSWERS, *_PLACES, *(f", {place}" for place in _PLACES), *_WORDS]


def build(folder: Path, seed: int = 0) -> None:
    """Write model, tokenizer and processor to ``folder``, randomly initialised from ``seed``."""
    tokenizer = build_tokenizer(phrases())
    build_model(tokenizer, seed).save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
