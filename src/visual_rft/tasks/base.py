"""What passes between the rooms, and what a task is.

Decision: a task is one class on one page. It says what is asked (``prompt``), what a perfect answer looks like
(``gold``), how an answer is read (``parse``) and compared with the truth (``compare``), which rewards a comparison
earns (``rewards``) and how a data set of answers is summed up (``metrics``). The rest, weights, format, shaping, the
user's own rewards and the total, is here and the same for every task. A task is found by name in a plain dict
(:func:`visual_rft.tasks.load_task`), without registration. Questions and truths are plain mappings that can be
written as JSON, so a reward can be called from any trainer and a rollout can be logged as it is.

``examples/counting.py`` is a complete task outside the package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

from visual_rft.config.schedules import PARTLY, Path, Schedule, put, values_at
from visual_rft.config.sections import ScoreKind, StyleKind
from visual_rft.config.sources import QuestionKind, SourceConfig
from visual_rft.errors import ConfigError
from visual_rft.tasks import rewards
from visual_rft.tasks.parsing.completion import Failure, Parsed, without_empty_thought
from visual_rft.tasks.parsing.notations import NOTATIONS, Notation, noted
from visual_rft.tasks.plugins import check_weights, part_name, users_reward
from visual_rft.tasks.samples import Prediction, Sample, Score, answer_rates
from visual_rft.tasks.wording import UNWRITTEN, check_wording, filled
from visual_rft.vision.boxes import is_finite_number
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.drawing import Mark

Comparison = Any
"""What ``Task.compare`` returns; only the task's own rewards look inside."""
Measure = Literal["coco", "box", "label", "own"]
"""How held-out answers are measured.

* ``coco``: average precision. An answer is ``boxes`` and ``confidence``, the truth ``boxes`` and ``image_size``, the
  question a ``category``.
* ``box``: IoU. An answer is one box, the truth ``box``, and a mask where there is a segmenter.
* ``label``: accuracy, strict and lenient. The truth is ``label``; ``compare`` gives what that of classification does.
* ``own``: the numbers of ``Task.metrics`` alone.
"""
UNITS = {
    CoordinateSpace.RELATIVE_1000: "integers from 0 to 1000 measured from the top left corner",
    CoordinateSpace.PROCESSED_PIXELS: "integers in pixels measured from the top left corner",
    CoordinateSpace.PIXELS: "integers in pixels measured from the top left corner",
    CoordinateSpace.LOCATION_TOKENS: "location tokens <loc0000> to <loc1023>, y before x",
}
"""How a prompt describes coordinates."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A visual task with verifiable rewards.

    Attributes:
        think: whether the prompt asks for reasoning first and the format reward wants it.
        weights: factor of each reward part in the total, by name; a reward of the user's own is named
            ``module:function`` or ``file.py:function``. None takes the task's ``default_weights``.
        length_window: fewest and most words for the reward ``length``.
        reward_seconds: longest time that a reward of the user's own may take for one completion.
        scores: by which number held-out boxes are ranked: the confidence in the answer (``written``), how likely their
            own coordinates were (``tokens``), or how far the model says *Yes* to them (``asked``).
        style: in whose words boxes are asked for and answered; ``native`` is that of ``notation``, and without
            ``think`` it has no tags either.
        notation: the family's own way, a name of :data:`visual_rft.tasks.parsing.notations.NOTATIONS`.
        template: the user's wording, with {prompt} for the task's, or the fields of a question, e.g. {category}.
        schedules: options and weights that change over the training, by path; the fields hold their start.

    A user's reward is ``f(completion: str, truth: Mapping, answer) -> float | None``; ``answer`` is as in
    :class:`Score`, None means "does not apply". Both are copies.
    """

    think: bool = True
    weights: Mapping[str, float] | None = None
    length_window: tuple[int, int] = (1, 120)
    reward_seconds: float = 60.0
    scores: ScoreKind = "written"
    style: StyleKind = "method"
    notation: str | None = None
    template: str | None = None
    schedules: Mapping[Path, Schedule] = field(default_factory=dict)

    name: ClassVar[str]
    questions: ClassVar[QuestionKind]
    """Which questions a data source asks for this task, where the config does not say."""
    default_weights: ClassVar[Mapping[str, float]]
    rewards: ClassVar[Mapping[str, Callable[[Comparison], float]]]
    """Rewards of a comparison, by name, each in [0, 1]; an answer that cannot be read earns 0."""
    headline: ClassVar[tuple[str, ...]]
    """Names of the metrics that are printed."""
    answers_boxes: ClassVar[bool] = False
    """Whether an answer holds boxes, as ``parse`` gives it: one ``[x1, y1, x2, y2]``, or a mapping with the list
    ``boxes``; the truth then holds ``box`` or ``boxes``, and ``image_size``. Such a task is warned of boxes in the
    wrong units (:mod:`visual_rft.tasks.spaces`)."""
    styles: ClassVar[tuple[StyleKind, ...]] = ("method",)
    """In whose words the task can be asked; a task of several uses ``_asked``, ``_opened`` and ``_noted``."""
    measured_as: ClassVar[Measure] = "own"
    """How ``visual-rft evaluate`` measures the answers."""

    def __post_init__(self) -> None:
        check_wording(self.name, self.style, self.styles, self.notation, self.template, self.weights or ())
        if self.scores not in get_args(ScoreKind):
            raise ConfigError(f"task.scores: {self.scores!r} is not one of {', '.join(get_args(ScoreKind))}")
        if self.scores != "written" and self.measured_as != "coco":
            raise ConfigError(f"task.scores: {self.scores} ranks boxes by their confidence; {self.name} has none")
        if self.scores == "asked" and not hasattr(self, "box_prompt"):
            raise ConfigError(f"task.scores: the task {self.name!r} has no box_prompt that asks about a box")
        if self.measured_as not in get_args(Measure):
            choices = ", ".join(get_args(Measure))
            raise ConfigError(f"task {self.name!r}: measured_as is {self.measured_as!r}; choose from {choices}")
        check_weights(self._weights, {*self.rewards, *TEXT_REWARDS})
        if not (is_finite_number(self.reward_seconds) and self.reward_seconds > 0):
            raise ConfigError(
                f"task.options.reward_seconds: {self.reward_seconds!r} is not a number of seconds above 0"
            )
        window = self.length_window
        pair = isinstance(window, (list, tuple)) and len(window) == 2 and all(type(v) is int for v in window)
        if not (pair and 0 <= window[0] <= window[1] >= 1):
            said = list(window) if isinstance(window, tuple) else window
            raise ConfigError(f"task.options.length_window: {said!r} is not [fewest, most] words")
        if self.schedules:
            for progress in (1.0, PARTLY):  # what cannot be is refused now, not in the middle of a run
                self.at(progress)

    @abstractmethod
    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        """The text shown with the image, for a model that writes coordinates in ``space``."""

    @abstractmethod
    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        """The completion that deserves full marks, boxes in the units of ``frame``; supervised training learns it.

        Args:
            truth: as in :class:`Sample`; its ``thought``, if any, is the reasoning.
            frame: as in :meth:`score`.
        """

    @abstractmethod
    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        """The answer in a completion, JSON-able, boxes in pixels of the original image. Never raises for model text."""

    @abstractmethod
    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Comparison:
        """The parsed answer beside the truth, as the task's rewards want it.

        Raises:
            DataError: if the truth is not what the task needs; the message names the field.
        """

    @abstractmethod
    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """The numbers of a whole data set of answers; at least those of ``headline``."""

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        """Wrong completions by name, each of which must score less than the gold one; checked before a run."""
        return {}

    def worded(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        """The prompt in the user's words where there is a ``template``; a question that came ready-made as it is.

        Raises:
            ConfigError: if the template wants a field that the question does not have.
        """
        if self.template is None or "problem" in question:
            return self.prompt(question, space)
        return filled(self.template, {**question, "prompt": self.prompt(question, space)})

    @property
    def bare(self) -> bool:
        """Whether answers are asked for without tags."""
        return self.style == "native" and not self.think

    @property
    def words(self) -> Notation | None:
        """How boxes are asked for and written; None for the method's own way."""
        return None if self.style == "method" else NOTATIONS["lists" if self.style == "plain" else str(self.notation)]

    def is_whole(self, text: str) -> bool:
        """Whether a text without tags is one exact answer."""
        return self.words is not None and self.words.is_exact(without_empty_thought(text))

    def _asked(self, name: str, many: bool, thought: str, space: CoordinateSpace) -> str:
        """The question for the objects (or the one) of a name, in the words of ``style``."""
        assert self.words is not None
        text = self.words.ask(self.words.every.format(name) if many else name, UNITS[space])
        return text if self.bare else f"{text} {self._steps(thought)} the answer."

    def _noted(self, text: str, notes: Sequence[str]) -> tuple[str, ...]:
        """What is noted of an answer that was read: what ``style`` asks for is not."""
        return tuple(notes) if self.words is None else noted(text, notes, self.words)

    def of(self, sample: Sample) -> Task:
        """The task of a question of the run: this one, whichever; of several see :mod:`visual_rft.tasks.mixture`."""
        return self

    def asked_in(self, source: SourceConfig) -> tuple[str | None, Task]:
        """What is asked about a source: what it is called (None where the run has one task), and the task."""
        return None, self

    def labels(self, samples: Sequence[Sample]) -> list[str]:
        """What the tasks of questions are called in metrics; [] where the run has one."""
        return []

    @property
    def each(self) -> dict[str, Task]:
        """The tasks of the run by what they are called."""
        return {self.name: self}

    def completed(self, sample: Sample) -> Sample:
        """A question as a data source has it, with what prompt and truth need besides.

        Raises:
            DataError: if something is missing; the message names the field.
        """
        return sample

    def marks(self, question: Mapping[str, Any], answer: Any) -> list[Mark]:
        """How an answer is drawn on its picture: boxes with labels, or captions."""
        return [(None, str(answer))]

    def at(self, progress: float) -> Task:
        """The task as it is after a share ``progress`` in [0, 1] of the training, where a reward follows a schedule."""
        if not self.schedules:
            return self
        changed = {name: getattr(self, name) for name, *_ in self.schedules}
        return replace(self, schedules={}, **put(changed, values_at(self.schedules, progress)))

    def score(self, completion: str, truth: Mapping[str, Any], frame: Frame | None = None) -> Score:
        """Score one completion. Never raises for anything the model wrote.

        Args:
            completion: the model's text, without the prompt.
            truth: as in :class:`Sample`.
            frame: units of the coordinates in ``completion``; default 0..1000 on ``truth["image_size"]``.

        Raises:
            DataError: if the truth is not what the task needs; the message names the field.
        """
        parsed = self.parse(completion, truth, frame)
        comparison = self.compare(self._nothing if isinstance(parsed, Failure) else parsed.value, truth)
        parts: dict[str, float | None] = {}
        total = 0.0
        for name, weight in self._weights.items():
            value = self._part(name, completion, truth, parsed, comparison)
            parts[part_name(name)] = value
            if value is not None:
                total += weight * value
        if isinstance(parsed, Failure):
            return Score(parts, total, failure=parsed.reason)
        return Score(parts, total, answer=parsed.value, notes=parsed.notes)

    def _part(
        self,
        name: str,
        completion: str,
        truth: Mapping[str, Any],
        parsed: Parsed[Any] | Failure,
        comparison: Comparison,
    ) -> float | None:
        """The value of one named reward: of the comparison, of the text alone, or the user's own."""
        if name in self.rewards:
            return 0.0 if isinstance(parsed, Failure) else self.rewards[name](comparison)
        if name in TEXT_REWARDS:
            return TEXT_REWARDS[name](self, completion, parsed)
        answer = None if isinstance(parsed, Failure) else parsed.value
        return users_reward(name, completion, truth, answer, self.reward_seconds)

    _nothing: ClassVar[Any] = None
    """An answer that stands for none, so that a broken truth is found out even by an answer that cannot be read."""

    def not_full(self, score: Score) -> dict[str, float]:
        """The built-in parts of a score that are below 1; a user's own reward may have any greatest value."""
        own = {part_name(name) for name in self._weights if ":" in name}
        return {k: v for k, v in score.parts.items() if k not in own and v is not None and v < 1 - 1e-6}

    @property
    def part_weights(self) -> dict[str, float]:
        """The factor of each reward part in the total, by the name it has in :class:`Score`."""
        return {part_name(name): weight for name, weight in self._weights.items()}

    @property
    def _weights(self) -> Mapping[str, float]:
        if self.weights is not None:
            return self.weights
        if self.words is None:
            return self.default_weights
        return {name: weight for name, weight in self.default_weights.items() if name not in UNWRITTEN}

    def answer_pattern(self, space: CoordinateSpace, names: Sequence[str]) -> str | None:
        """Regular expression of an answer in ``space``, or one of ``names``; None if the task has none."""
        return None

    def _wrap(self, thought: str, answer: str) -> str:
        """A completion in the asked format."""
        if self.bare:
            return answer
        return f"<think>{thought}</think><answer>{answer}</answer>" if self.think else f"<answer>{answer}</answer>"

    def _steps(self, thought: str) -> str:
        """How a prompt asks for the format; ``thought`` says what belongs into the reasoning."""
        if self.think:
            return f"First say inside <think></think> {thought}. Then write inside <answer></answer>"
        return "Write inside <answer></answer>"

    def _rates(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """What every task's metrics report about the form of the answers."""
        return answer_rates(predictions, self.think, self.bare)


TEXT_REWARDS: dict[str, Callable[[Task, str, Parsed[Any] | Failure], float]] = {
    "format": lambda task, text, _: rewards.tag_format(text, task.think, task.bare),
    "strict_format": lambda task, text, parsed: rewards.strict_format(text, parsed, task.think, task.bare),
    "length": lambda task, text, _: rewards.length_window(text, *task.length_window),
    "repetition": lambda _task, text, _: rewards.no_repetition(text),
    "truncation": lambda task, text, _: float(task.is_whole(text)) if task.bare else rewards.not_truncated(text),
}
"""Rewards of the text alone, by name, which every task has: of the task, the completion and what was read of it."""
