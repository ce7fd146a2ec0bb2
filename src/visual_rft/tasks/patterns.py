"""Answers as regular expressions, for models that may write nothing else (``rollout.constrained``).

Decision: the pattern is the form of the gold answer and no more: order, separators and the range of numbers, so that
an answer that follows it can be read; that corners come in their order, no regular expression says, and whether a box
is right is left to the reward. It is plain enough for every engine that takes regular expressions, ours and those of
servers. Digits are written out: ``\\d`` means 760 characters, and a random model writes most of them.

>>> import re
>>> whole = completion_pattern(f"({box_list(1000)}|No Objects)", think=True)
>>> bool(re.fullmatch(whole, "<think>one</think><answer>[{'Position': [1, 2, 30, 400], 'Confidence': 0.95}]</answer>"))
True
>>> re.fullmatch(whole, "<answer>No Objects</answer>") is None
True
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from visual_rft.errors import ConfigError
from visual_rft.tasks.base import Task
from visual_rft.tasks.samples import Sample
from visual_rft.vision.coordinates import CoordinateSpace

THOUGHT_CHARACTERS = 600
"""Longest reasoning; a longer one would be cut off at the length limit in the middle of the answer."""
MAX_BOXES = 20
"""Boxes of one answer; without a limit a small model lists boxes until its length limit."""


def completion_pattern(answer: str, *, think: bool) -> str:
    """A whole completion around the pattern of its answer."""
    thought = rf"<think>[^<]{{1,{THOUGHT_CHARACTERS}}}</think>" if think else ""
    return f"{thought}<answer>{answer}</answer>"


def pattern_of(task: Task, space: CoordinateSpace, names: Sequence[str] = (), opened: str = "") -> str:
    """The pattern of a task's completions.

    Args:
        task: the one that asks.
        space: units in which the model writes boxes.
        names: of the classes, for a task whose answer is one of them.
        opened: what the chat template has already written of the reasoning, e.g. ``<think>``.

    Raises:
        ConfigError: if the task's answers have no pattern.
    """
    if task.style != "method":
        raise ConfigError(f"task.style {task.style!r}: constrained answers have the form of style method alone")
    answer = task.answer_pattern(space, sorted(set(names)))
    if answer is None:
        raise ConfigError(f"the task {task.name!r} has no answer_pattern, so its answers cannot be constrained")
    whole = completion_pattern(answer, think=task.think or bool(opened))
    return whole.removeprefix(opened.strip())


def largest_coordinate(space: CoordinateSpace) -> int:
    """Greatest number that a coordinate can be.

    Raises:
        ConfigError: if coordinates are tokens, which no pattern of characters describes.
    """
    if space is CoordinateSpace.LOCATION_TOKENS:
        raise ConfigError("constrained answers are made of characters, and this model writes boxes in location tokens")
    return 1000 if space is CoordinateSpace.RELATIVE_1000 else 9999


def number(largest: int) -> str:
    """An integer from 0 to 1000, or to 9999, without leading zeros."""
    return r"(0|[1-9][0-9]{0,2}|1000)" if largest == 1000 else r"(0|[1-9][0-9]{0,3})"


def box_list(largest: int) -> str:
    """Boxes with confidences, as the detection task asks for them."""
    position = ", ".join([number(largest)] * 4)
    item = rf"\{{'Position': \[{position}\], 'Confidence': (0\.[0-9][0-9]|1\.00)\}}"
    return rf"\[{item}(, {item}){{0,{MAX_BOXES - 1}}}\]"


def corners(largest: int) -> str:
    """One box, as its gold answer is written."""
    one = number(largest)
    return rf"\({one},{one}\),\({one},{one}\)"


def one_of(names: Sequence[str]) -> str:
    """One of these names.

    Raises:
        ConfigError: if there is none.
    """
    if not names:
        raise ConfigError("constrained answers of classification need the class names; ask with data that name them")
    return "(" + "|".join(re.escape(name).replace(r"\ ", " ").replace(r"\-", "-") for name in names) + ")"


def label_names(task: Task, samples: Iterable[Sample]) -> set[str]:
    """The labels of questions whose answer is a label; of others nothing is looked at."""
    if task.measured_as != "label":
        return set()
    return {str(sample.truth["label"]) for sample in samples if "label" in sample.truth}
