"""Questions about an image with a short answer: a choice, a number, or a text.

Decision: the truth says which, and the whole answer counts. A choice is one letter (or its text), a number is within
its tolerance, a text is compared after normalisation with the right one and its synonyms, never as a substring.

>>> task = Vqa()
>>> truth = {"choice": "B", "choices": ["a cup", "a plate"]}
>>> dict(task.score("<think>it is flat</think><answer>B</answer>", truth).parts)
{'accuracy': 1.0, 'format': 1.0}
>>> task.score("<think>it is flat</think><answer>A or B</answer>", truth).failure
'not one of the choices'
>>> task.score("<think>x</think><answer>11.8 cm</answer>", {"number": 12, "tolerance": 0.5, "unit": "cm"}).total
2.0
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any, ClassVar, Literal

from visual_rft.errors import DataError
from visual_rft.tasks import rewards
from visual_rft.tasks.base import Comparison, Task
from visual_rft.tasks.parsing.answers import parse_label
from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, normalized
from visual_rft.tasks.parsing.numbers import parse_number
from visual_rft.tasks.samples import Prediction, Sample
from visual_rft.tasks.truth import names_of, ready_made
from visual_rft.vision.boxes import is_finite_number
from visual_rft.vision.coordinates import CoordinateSpace, Frame

Kind = Literal["choice", "number", "answer"]
_WANTED: Mapping[str, str] = {
    "choice": "the letter of the right choice",
    "number": "the number",
    "answer": "the answer in a word or a few",
}
_LETTER = re.compile(r"\(?([A-Za-z])(?:\)|\.|\.\)|:)?\.?")
_LETTER_AND_TEXT = re.compile(r"\(?([A-Za-z])(?:\)|\.|\.\)|:)\s*(\S.*)", re.DOTALL)
_SENTENCE = re.compile(
    r"(?:(?:the )?(?:correct |right )?(?:answer|choice|option)(?: is)?:? )+\(?([A-Z])\)?\.?", re.IGNORECASE
)


@dataclass(frozen=True)
class Answered:
    """Whether an answer is right."""

    right: float


@dataclass(frozen=True, kw_only=True)
class Vqa(Task):
    """The question-answering task.

    The truth is a :class:`~visual_rft.tasks.truth.VqaTruth`: ``choice`` and ``choices``, ``number``, or ``answer``.
    """

    name = "vqa"
    questions = "own"
    default_weights: ClassVar[Mapping[str, float]] = {"accuracy": 1.0, "format": 1.0}
    headline = ("accuracy",)
    rewards: ClassVar[Mapping[str, Callable[[Comparison], float]]] = {"accuracy": lambda a: a.right}

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        asked = ready_made(question)
        if asked:
            return asked
        choices = question.get("choices", ())
        listed = "".join(f" {letter}) {text}" for letter, text in zip(ascii_uppercase, choices, strict=False))
        wanted = _WANTED[question.get("kind", "choice" if choices else "answer")]
        unit = f" in {question['unit']}" if question.get("unit") else ""
        return f"{question['question']}{listed} {self._steps('what you see')} {wanted}{unit} and nothing else."

    def completed(self, sample: Sample) -> Sample:
        kind = kind_of(sample.truth)
        question, truth = {"kind": kind, **sample.question}, dict(sample.truth)
        if question["kind"] != kind:
            raise DataError(f"question.kind: {question['kind']!r} is not that of the truth, {kind!r}")
        if kind == "choice":
            question["choices"] = list(names_of(question, "choices", "question") or choices_of(truth))
            truth["choices"] = list(names_of(truth, "choices") or question["choices"])
            if question["choices"] != truth["choices"]:
                raise DataError("truth.choices: differs from the choices of the question")
        if truth.get("unit"):
            question.setdefault("unit", truth["unit"])
        return replace(sample, question=question, truth=truth)

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        kind = kind_of(truth)
        if kind == "choice":
            answer = right_letter(truth)
        else:
            answer = str(int(truth[kind])) if _is_whole(truth[kind]) else str(truth[kind])
        return self._wrap(str(truth.get("thought", answer)), answer)

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        if "number" in truth:
            return parse_number(completion, _unit_of(truth))
        read = parse_label(completion)
        if isinstance(read, Failure) or "choice" not in truth:
            return read
        return _choice(read, choices_of(truth))

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Answered:
        kind = kind_of(truth)
        if kind == "choice":
            return Answered(float(answer == right_letter(truth)))
        if kind == "number":
            number, allowed = _number_of(truth)
            return Answered(float(answer is not None and abs(answer - number) <= allowed))
        text = truth["answer"]
        if not isinstance(text, str) or not normalized(text):
            raise DataError(f'truth.answer: {text!r} is not a text; write {{"answer": "text"}}')
        return Answered(rewards.accuracy(answer or "", text, names_of(truth, "synonyms")))

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """``accuracy`` over answers, and of each kind of answer; 0..1."""
        by_kind: dict[str, list[float]] = defaultdict(list)
        for p in predictions:
            right = 0.0 if p.score.answer is None else self.compare(p.score.answer, p.sample.truth).right
            by_kind[kind_of(p.sample.truth)].append(right)
        return {
            "accuracy": sum(map(sum, by_kind.values())) / len(predictions),
            **{f"accuracy/{kind}": sum(rights) / len(rights) for kind, rights in sorted(by_kind.items())},
            **self._rates(predictions),
        }

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        kind = kind_of(truth)
        gold = self.gold({**truth, "thought": "x"})
        right = gold.rpartition("<answer>")[2].removesuffix("</answer>")
        wrong = {"empty": self._wrap("x", ""), "only in the thought": self._wrap(right, "something else")}
        if kind == "choice":
            letters = ascii_uppercase[: len(choices_of(truth))]
            other = letters[(letters.index(right) + 1) % len(letters)]
            return {**wrong, "another choice": self._wrap("x", other), "two": self._wrap("x", f"{right} or {other}")}
        if kind == "number":
            number, allowed = _number_of(truth)
            further = number + 2 * allowed + 1
            return {**wrong, "too much": self._wrap("x", f"{further:f}"), "two": self._wrap("x", f"{right} or 7")}
        return {**wrong, "negated": self._wrap("x", f"not {right}"), "two": self._wrap("x", f"{right}, or another")}


def kind_of(truth: Mapping[str, Any]) -> Kind:
    """What a truth holds.

    Raises:
        DataError: if it holds none of the three, or several.
    """
    kinds: list[Kind] = [kind for kind in ("choice", "number", "answer") if kind in truth]
    if len(kinds) != 1:
        said = f"holds {' and '.join(kinds)}" if kinds else "holds no answer"
        raise DataError(f"truth: {said}; write one of choice (with choices), number and answer")
    return kinds[0]


def choices_of(truth: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of the choices, checked.

    Raises:
        DataError: if there are fewer than 2 or more than 26, two read the same, or one reads as the letter of another.
    """
    choices = names_of(truth, "choices")
    if not 2 <= len(choices) <= len(ascii_uppercase):
        raise DataError(f"truth.choices: has {len(choices)} texts; write 2 to {len(ascii_uppercase)}")
    names = [normalized(text) for text in choices]
    if not all(names) or len(set(names)) < len(names):
        raise DataError(f"truth.choices: {list(choices)!r} holds an empty text, or two that read the same")
    letters = ascii_uppercase[: len(choices)].casefold()
    for n, name in enumerate(names):
        if len(name) == 1 and name in letters and letters.index(name) != n:
            raise DataError(
                f"truth.choices: the text {choices[n]!r} of choice {letters[n].upper()} is another's letter"
            )
    return choices


def right_letter(truth: Mapping[str, Any]) -> str:
    """The letter of the right choice.

    Raises:
        DataError: if ``truth["choice"]`` is neither a letter nor a text of the choices.
    """
    choices, choice = choices_of(truth), truth["choice"]
    if isinstance(choice, str):
        if choice in ascii_uppercase[: len(choices)] and len(choice) == 1:
            return choice
        for letter, text in zip(ascii_uppercase, choices, strict=False):
            if normalized(text) == normalized(choice):
                return letter
    raise DataError(f"truth.choice: {choice!r} is neither the letter nor the text of one of {list(choices)!r}")


def _choice(read: Parsed[str], choices: Sequence[str]) -> Parsed[Any] | Failure:
    """The letter that an answer means."""
    said = read.value.strip()
    by_name = {normalized(text): letter for letter, text in zip(ascii_uppercase, choices, strict=False)}
    letters = set(by_name.values())
    if said in letters:
        return Parsed(said, read.notes)
    if (found := _LETTER.fullmatch(said)) and found[1].upper() in letters:
        return Parsed(found[1].upper(), (*read.notes, "letter written otherwise"))
    if (found := _SENTENCE.fullmatch(said)) and found[1].upper() in letters:
        return Parsed(found[1].upper(), (*read.notes, "text around the letter"))
    if (found := _LETTER_AND_TEXT.fullmatch(said)) and by_name.get(normalized(found[2])) == found[1].upper():
        return Parsed(found[1].upper(), (*read.notes, "letter and text"))
    if normalized(said) in by_name:
        return Parsed(by_name[normalized(said)], (*read.notes, "choice by its text"))
    return Failure(Reason.NOT_A_CHOICE)


def _number_of(truth: Mapping[str, Any]) -> tuple[float, float]:
    """The right number and how far an answer may be off, with room for rounding in the last of 12 digits.

    Raises:
        DataError: if a field is no number, or a tolerance negative.
    """
    number = truth["number"]
    tolerances = truth.get("tolerance", 0.0), truth.get("relative_tolerance", 0.0)
    if not is_finite_number(number):
        raise DataError(f"truth.number: {number!r} is not a finite number")
    if not all(is_finite_number(value) and value >= 0 for value in tolerances):
        raise DataError(f"truth.tolerance, truth.relative_tolerance: {tolerances!r} are not numbers from 0")
    if tolerances[1] >= 1:
        raise DataError(f"truth.relative_tolerance: {tolerances[1]!r} would let 0 be right; 5 per cent are 0.05")
    _unit_of(truth)
    return number, max(tolerances[0], tolerances[1] * abs(number)) + 1e-12 * max(1.0, abs(number))


def _unit_of(truth: Mapping[str, Any]) -> str | None:
    """The unit that may follow the number.

    Raises:
        DataError: if it is no text.
    """
    unit = truth.get("unit", "")
    if not isinstance(unit, str):
        raise DataError(f"truth.unit: {unit!r} is not a text")
    return unit or None


def _is_whole(value: Any) -> bool:
    return is_finite_number(value) and value == int(value)
