"""Reading the answer to the first question of the two-stage protocol: which of these classes are in the image?

Decision: by whole names, so that "hot dog" is not "dog". What is not on the list is left out, and an answer that
cannot be read lists nothing.

>>> said_classes(["<answer>Hot dog, unicorn</answer>", "cat"], ["cat", "hot dog", "dog"])
{'hot dog'}
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from visual_rft.tasks.answers import Failure, answer_text, normalized


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
    words = f" {normalized(text)} "
    found = []
    for name in sorted(names, key=lambda name: -len(normalized(name))):
        pattern = f"(?<= ){re.escape(normalized(name))}(?= )"
        if normalized(name) and re.search(pattern, words):
            found.append(name)
            words = re.sub(pattern, "|", words)
    return found
