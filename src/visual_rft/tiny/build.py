"""Write the untrained embedded model.

The first stage of :mod:`visual_rft.tiny.train`. What the tokenizer is to know whole is decided here, because it cannot
change once training has begun.
"""

from __future__ import annotations

from pathlib import Path

from visual_rft.data.procedural import flowers, shapes
from visual_rft.tasks import TASKS
from visual_rft.tiny import native
from visual_rft.tiny.architecture import build_model, build_processor, build_tokenizer
from visual_rft.tiny.questions import TAUGHT
from visual_rft.vision.coordinates import CoordinateSpace

_ASKED = {"category": "|", "subject": "|", "expression": "|"}
PLACES = [f"{v} {h}" for v in ("top", "middle", "bottom") for h in ("left", "centre", "right")]
"""The words in which an answer says where an object is."""
_WORDS = [
    *(f" {word}" for name in (*shapes.CLASSES, *flowers.CLASSES) for word in name.split()), *flowers.COLOURS,
    " digit ", "digit ", " flower", " handwritten digit", " the", " shape", " largest", " smallest", " leftmost",
    " rightmost", " topmost", " bottommost", " left of the", " right of the", " above the", " below the",
    " the only shape that is not", " a",
]  # fmt: skip
_ANSWERS = [
    "<think>", "</think>", "<answer>", "</answer>", "none", " found: ", ", ",
    "<answer>No Objects</answer>", "</think><answer>No Objects</answer>",
    "</think><answer>[{'Position': [", "<answer>[{'Position': [", "], 'Confidence': ", "}, {'Position': [",
    "}]</answer>", "</think><answer>", "</think><answer>(", "<answer>(", "),(", ")</answer>", "<think>a",
    "handwriting", "user\n", "assistant\n", " pointed petals,", " round petals,",
]  # fmt: skip
_NATIVE = [
    "Locate", "Locate every", native.prompt("").removeprefix("Locate "), native.NOTHING,
    '```json\n[\n\t{"bbox_2d": [', '], "label": "', '"},\n\t{"bbox_2d": [', '"}\n]\n```', *shapes.COLOURS,
]  # fmt: skip


def phrases() -> list[str]:
    """What the tokenizer knows whole: fixed parts of prompts and answers, words of class names and expressions."""
    prompts = [part for task in map(TASKS.__getitem__, TAUGHT) for think in (True, False)
               for part in task(think=think).prompt(_ASKED, CoordinateSpace.RELATIVE_1000).split(" |")]  # fmt: skip
    return [*prompts, *_ANSWERS, *PLACES, *_WORDS, *_NATIVE]


def build(folder: Path, seed: int = 0) -> None:
    """Write model, tokenizer and processor to ``folder``, randomly initialised from ``seed``."""
    tokenizer = build_tokenizer(phrases())
    build_model(tokenizer, seed).save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)
