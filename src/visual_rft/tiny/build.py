"""Write the untrained embedded model: ``python -m visual_rft.tiny.build FOLDER``.

Teaching it is then two ordinary supervised runs, ``configs/tiny/base.yaml`` (exact labels) and
``configs/tiny/imprecise.yaml`` (labels made imprecise on purpose); see docs/tiny.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from visual_rft.data import digits, shapes
from visual_rft.tasks import TASKS
from visual_rft.tiny.architecture import build_model, build_processor, build_tokenizer


def phrases() -> list[str]:
    """What the tokenizer learns: the fixed phrases of the tasks, the class names' words, the chat's roles."""
    fixed = [phrase for task in TASKS.values() for phrase in task().vocabulary()]
    words = [word for name in (*shapes.CLASSES, *digits.CLASSES) for word in (name.split()[0], " " + name.split()[1])]
    # The trainer merges the most frequent pair first: repeated, phrases become whole tokens before anything else.
    return [*fixed * 20, *words * 5, *["user\n", "assistant\n"] * 20]


def build(folder: Path, seed: int = 0) -> None:
    """Write model, tokenizer and processor to ``folder``, randomly initialised from ``seed``."""
    tokenizer = build_tokenizer(phrases())
    build_model(tokenizer, seed).save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
