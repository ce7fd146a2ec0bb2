"""A question and its answer as tokens: how much each token counts, and which object it is about.

Decision: the tokens that decide something are weighted up: where the object is, how many there are, the first digit of
a coordinate. Without this 9 of 10 tokens teach what is the same in every answer. What a token is about is read from the
answer's own text, so that the tasks alone say how an answer is written.

>>> weights, about = marks(["<think>", "1", " found: ", "top left"], objects=[7])
>>> weights, about
([0.1, 2.0, 0.1, 4.0], [(), (7,), (), (7,)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from visual_rft.tiny import native
from visual_rft.tiny.build import PLACES
from visual_rft.tiny.questions import Question

FIXED, WORD, COUNT, REPEATED, PLACE, SEPARATOR = 0.1, 2.0, 2.0, 4.0, 4.0, 0.05
"""Weights of text that is always the same, words that name, a count of one or none, a higher count, a place, and of
what stands between numbers."""
DIGITS = (1.5, 1.0, 0.3)
"""Weights of the digits of a coordinate: the first is worth a tenth of the image, the third a thousandth."""
_OPENING, _CLOSING = ("[", "("), ("]", ")]", ")<")
_NOTHING = ("none", "<answer>No Objects</answer>", native.NOTHING)
_NAMED = ("<answer>", "</think><answer>", "</answer>", "<think>", "<think>a", "</think>", ", ", " found: ")


@dataclass(frozen=True)
class Exchange:
    """One question with its answer.

    Attributes:
        prompt: tokens of the question up to where the answer begins.
        answer: tokens of the answer and its end.
        weights: of each token of ``answer`` in the loss.
        about: for each token of ``answer`` the numbers of the objects it is about: one, all for their count, or none.
        asked: place in ``prompt`` of the last word of what is asked for.
        objects: what is asked for; empty where an expression means it, or nothing is to be found.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    weights: tuple[float, ...]
    about: tuple[tuple[int, ...], ...]
    asked: int
    objects: tuple[int, ...]

    def until_last_place(self, places: frozenset[int]) -> Exchange:
        """Cut after the last token that says a place, or whole if there is none."""
        last = max((i + 1 for i, token in enumerate(self.answer) if token in places), default=len(self.answer))
        return replace(self, answer=self.answer[:last], weights=self.weights[:last], about=self.about[:last])


class Writer:
    """Questions to tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._kept: dict[str, tuple[int, ...]] = {}
        self._text: dict[int, str] = {}
        self.before = self._ids("<|im_start|>user\n<|vision_start|>")
        """What comes before the image tokens."""
        self.after = self._ids("<|vision_end|>")
        """What comes between the image tokens and the question."""
        self._end = self._ids("<|im_end|>\n<|im_start|>assistant\n")

    @cached_property
    def places(self) -> frozenset[int]:
        """The tokens that say a place."""
        return frozenset(self._ids(place)[0] for place in PLACES)

    def write(self, question: Question) -> Exchange:
        """The tokens of a question."""
        prompt = self._ids(question.prompt)
        fixed = next(i for i, token in enumerate(prompt) if self.text(token).startswith(" in the image"))
        answer = self._tokens(question.gold)
        objects = [question.objects[place] for place in question.written_order]
        weights, about = marks([self.text(token) for token in answer], objects)
        return Exchange(
            prompt=prompt + self._end,
            answer=(*answer, *self._ids("<|im_end|>")),
            weights=(*weights, FIXED),
            about=(*about, ()),
            asked=fixed - 1,
            objects=question.objects if "category" in question.sample.question else (),
        )

    def text(self, token: int) -> str:
        """What a token stands for."""
        if token not in self._text:
            self._text[token] = self._tokenizer.decode([token])
        return self._text[token]

    def _ids(self, text: str) -> tuple[int, ...]:
        if text not in self._kept:
            self._kept[text] = self._tokens(text)
        return self._kept[text]

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text).input_ids)


def marks(answer: Sequence[str], objects: Sequence[int]) -> tuple[list[float], list[tuple[int, ...]]]:
    """Weight of each token of an answer, and the objects each is about.

    Args:
        answer: the tokens as text.
        objects: the objects in the order in which the answer writes them.
    """
    thinking = "think>" in answer[0] if answer else False
    weights: list[float] = []
    meant: tuple[int, ...]
    about: list[tuple[int, ...]] = []
    named, boxed, inside, digit = -1, -1, False, 0
    for place, token in enumerate(answer):
        weight, meant = FIXED, ()
        digit = digit + 1 if inside and token.isdigit() else 0
        if token in PLACES:
            named += 1
            weight, meant = PLACE, (objects[named],)
        elif inside and (token.isdigit() or token in (", ", ",", "),(")):
            weight, meant = DIGITS[min(digit - 1, 2)] if digit else SEPARATOR, (objects[boxed],)
        elif token in _NOTHING:
            weight = COUNT
        elif token.isdigit() and place == 1 and thinking and objects:
            weight, meant = REPEATED if len(objects) > 1 else COUNT, tuple(objects)
        elif token.endswith(_OPENING):
            # The answer goes on with another box, or (below) ends: without reasoning this is where it counts.
            weight = FIXED if thinking else COUNT if boxed < 0 else REPEATED
            boxed, inside = boxed + 1, True
        elif inside and token.startswith((*_CLOSING, ")")):
            inside = False
            weight = SEPARATOR
        elif token.startswith(("}]", '"}\n]')):
            weight = FIXED if thinking else COUNT
        elif not objects or (named < 0 and thinking):  # the name of what is seen
            weight = FIXED if token in _NAMED or token.startswith("<") else WORD
        weights.append(weight)
        about.append(meant)
    return weights, about
