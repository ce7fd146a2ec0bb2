"""Reading the answer to the first question of the two-stage protocol: which of these classes are in the image?

Decision: by whole names, so that "hot dog" is not "dog". What is not on the list is left out, and an answer that
cannot be read lists nothing.

>>> said_classes(["<answer>Hot dog, unicorn</answer>", "cat"], ["cat", "hot dog", "dog"])
{'hot dog'}
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from visual_rft.answering.questions import ImageAnswers, ImageQuestions
from visual_rft.tasks.parsing.completion import Failure, answer_text, normalized


@runtime_checkable
class AsksForClasses(Protocol):
    """A task that can ask which classes are in an image; its questions are about a ``category`` each."""

    def classes_prompt(self, names: Sequence[str]) -> str:
        """The question which of ``names`` are in the image."""


def said_classes(texts: Sequence[str], names: Sequence[str]) -> set[str]:
    """Those of ``names`` that the completions list; an answer that cannot be read lists none."""
    said: set[str] = set()
    for text in texts:
        found = answer_text(text)
        if not isinstance(found, Failure):
            said |= set(names_in(found[0], names))
    return said


def names_in(text: str, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that stand in ``text`` as whole words and not merely inside a longer one of them.

    >>> names_in("a Hot-Dog and two cats, one cat", ["dog", "hot dog", "cat"])
    ['hot dog', 'cat']
    """
    words = normalized(f"names {text}").removeprefix("names") + " "  # a leading article may be a class: "a, b"
    found = []
    for name in sorted(names, key=lambda name: -len(normalized(name))):
        pattern = f"(?<= ){re.escape(normalized(name))}(?= )"
        if normalized(name) and re.search(pattern, words):
            found.append(name)
            words = re.sub(pattern, "|", words)
    return found


def class_list_numbers(questions: Sequence[ImageQuestions], images: Sequence[ImageAnswers]) -> dict[str, Any]:
    """How well the model said which classes are there: a class it does not say is lost for every box of it.

    Returns:
        ``n_lists``, ``parse_rate`` and ``failures`` of the lists; ``recall`` (share of the present classes that it
        said) and ``precision`` (share of those it said that are present) over all images, -1 where undefined.
    """
    texts = [text for row in images for text in row.class_lists or ()]
    failures = Counter(found.reason for found in map(answer_text, texts) if isinstance(found, Failure))
    present = sum(bool(sample.truth["boxes"]) for one in questions for sample in one.samples)
    said = [bool(row.sample.truth["boxes"]) for image in images for row in image.answers]
    return {
        "n_lists": len(texts),
        "parse_rate": 1 - failures.total() / len(texts) if texts else -1.0,
        "failures": dict(failures),
        "recall": sum(said) / present if present else -1.0,
        "precision": sum(said) / len(said) if said else -1.0,
    }
