"""The title of a question on a page: what was asked, in a few words.

Decision: a question of the user's own wording names itself by that wording; a class or an expression comes second,
because a ready-made question bears a placeholder there. A task of one's own has whatever fields it likes: the first
that is a text is taken, and without any the sentence of the prompt that asks.

>>> title_of({"problem": "Which thing is gone?", "category": "object"}), title_of({"category": "red circle"})
('Which thing is gone?', 'red circle')
>>> title_of({}, "Look closely. How many coins are there? Write the number in <answer> tags.")
'How many coins are there?'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FIELDS = ("problem", "question", "category", "expression", "subject")
"""In the order in which they are asked for."""
MAX_CHARACTERS = 90
"""A longer title is cut at a word: it is the heading of a card."""


def title_of(question: Mapping[str, Any], prompt: str = "") -> str:
    """The title, empty where neither the question nor the prompt has words.

    Args:
        question: as in :class:`visual_rft.tasks.Sample`.
        prompt: the text that was shown to the model.
    """
    texts = {name: value.strip() for name, value in question.items() if isinstance(value, str) and value.strip()}
    text = next((texts[name] for name in FIELDS if name in texts), "") or next(iter(texts.values()), "")
    if not text:
        asks = re.search(r"[^.!?\n]*\?", prompt)
        text = (asks[0] if asks else prompt.strip().partition("\n")[0]).strip()
    text = " ".join(text.split())
    beginning = text[:MAX_CHARACTERS]
    return text if text == beginning else f"{beginning.rpartition(' ')[0] or beginning} …"
