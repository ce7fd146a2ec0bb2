"""Classification: name what is in the image (arXiv 2503.01785, section 3.2), ``R = R_acc + R_format``.

Decision: the whole content of the answer tag is the answer, compared after normalisation and never as a substring, so
an answer that lists every class is wrong. Other accepted names come with the data (``synonyms``), never from a guess.

>>> task = Classification()
>>> truth = {"label": "red poppy", "synonyms": ["Papaver rhoeas"], "parents": ["poppy"]}
>>> dict(task.score("<think>4 round petals, red</think><answer>Red Poppy</answer>", truth).parts)
{'accuracy': 1.0, 'format': 1.0}
>>> task.score("<think>4 round petals, red</think><answer>red poppy or red lily</answer>", truth).total
1.0
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visual_rft.tasks import rewards
from visual_rft.tasks.base import Comparison, Task
from visual_rft.tasks.parsing.answers import parse_label
from visual_rft.tasks.parsing.completion import Failure, Parsed, normalized
from visual_rft.tasks.patterns import one_of
from visual_rft.tasks.samples import Prediction
from visual_rft.tasks.truth import label_of, names_of, ready_made
from visual_rft.vision.coordinates import CoordinateSpace, Frame


@dataclass(frozen=True)
class Named:
    """A name beside the right one, its other accepted names and its ancestors, the nearest first."""

    answer: str
    label: str
    synonyms: tuple[str, ...]
    parents: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """The classification task.

    The truth is a :class:`~visual_rft.tasks.truth.ClassificationTruth`: ``label``, and if the data have them
    ``synonyms`` and ``parents``.
    """

    name = "classification"
    questions = "name"
    default_weights: ClassVar[Mapping[str, float]] = {"accuracy": 1.0, "format": 1.0}
    headline = ("accuracy", "mean_class_accuracy")
    measured_as = "label"
    rewards: ClassVar[Mapping[str, Callable[[Comparison], float]]] = {
        "accuracy": lambda n: rewards.accuracy(n.answer, n.label, n.synonyms),
        "hierarchy": lambda n: rewards.hierarchy(n.answer, n.label, n.synonyms, n.parents),
    }
    _nothing: ClassVar[Any] = ""

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        steps = self._steps("what you see")
        asked = ready_made(question)
        return asked or f"Name the kind of {question['subject']} in the image. {steps} its name and nothing else."

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        label = label_of(truth)
        return self._wrap(str(truth.get("thought", label)), label)

    def answer_pattern(self, space: CoordinateSpace, names: Sequence[str]) -> str | None:
        return one_of(names)

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        return parse_label(completion)

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Named:
        return Named(answer, label_of(truth), names_of(truth, "synonyms"), names_of(truth, "parents"))

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """``accuracy`` over answers, ``mean_class_accuracy`` over classes, and per subject; 0..1.

        ``confused`` lists the ten most frequent pairs of true and given name.
        """
        by_class: dict[str, list[float]] = defaultdict(list)
        by_subject: dict[str, list[float]] = defaultdict(list)
        confused: Counter[tuple[str, str]] = Counter()
        for p in predictions:
            named = self.compare(p.score.answer or "", p.sample.truth)
            right = rewards.accuracy(named.answer, named.label, named.synonyms)
            by_class[named.label].append(right)
            by_subject[str(p.sample.question.get("subject", "object"))].append(right)
            if p.score.answer is not None and not right:
                confused[named.label, named.answer] += 1
        return {
            "accuracy": _mean([right for row in by_class.values() for right in row]),
            "mean_class_accuracy": _mean([_mean(row) for row in by_class.values()]),
            **{f"accuracy/{subject}": _mean(row) for subject, row in sorted(by_subject.items())},
            "n_classes": len(by_class),
            "confused": [[true, said, times] for (true, said), times in confused.most_common(10)],
            **self._rates(predictions),
        }

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        label = label_of(truth)
        named = {
            "empty": self._wrap("x", ""),
            "one letter": self._wrap("x", label[0]),
            "two names": self._wrap("x", f"{label}, something else"),
            "another name": self._wrap("x", f"not a {label}"),
            "only in the thought": self._wrap(label, "something else"),
        }
        if len(normalized(label)) == 1 or any(len(normalized(s)) == 1 for s in names_of(truth, "synonyms")):
            del named["one letter"]
        return named


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
