"""A task of your own on one page: how many of a kind are in the image?

    visual-rft check examples/counting.yaml
    visual-rft train examples/counting.yaml
    visual-rft score --task examples/counting.py:Counting --truth '{"boxes": [[1, 1, 9, 9]], "image_size": [20, 20]}' \\
        --completion '<think>one</think><answer>1</answer>'

It asks the questions of detection data (``present``) and counts the true boxes. Nothing in the package knows about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visual_rft import Task
from visual_rft.tasks.parsing.completion import Failure, Parsed, answer_text
from visual_rft.tasks.samples import Prediction
from visual_rft.tasks.truth import boxes_of
from visual_rft.vision.coordinates import CoordinateSpace, Frame


@dataclass(frozen=True, kw_only=True)
class Counting(Task):
    """Answer with the number of objects of one category."""

    name = "counting"
    questions = "present"
    default_weights: ClassVar[Mapping[str, float]] = {"exact": 1.0, "close": 0.5, "format": 0.5}
    headline = ("accuracy", "mean_error")
    rewards: ClassVar[Mapping[str, Callable[[Any], float]]] = {
        "exact": lambda pair: float(pair[0] == pair[1]),
        "close": lambda pair: 1 / (1 + abs(pair[0] - pair[1])),
    }
    _nothing: ClassVar[Any] = 0

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        return f"How many of {question['category']} are in the image? {self._steps('where they are')} the number."

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        return self._wrap("counted", str(len(boxes_of(truth))))

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        found = answer_text(completion)
        if isinstance(found, Failure):
            return found
        body, _ = found
        if not (body.isascii() and body.isdigit() and len(body) < 5):
            return Failure("not a whole number")
        return Parsed(int(body))

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> tuple[int, int]:
        return answer, len(boxes_of(truth))

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """``accuracy`` and ``mean_error`` over questions; an answer that could not be read counts as 0."""
        pairs = [self.compare(p.score.answer or 0, p.sample.truth) for p in predictions]
        return {
            "accuracy": sum(said == true for said, true in pairs) / len(pairs),
            "mean_error": sum(abs(said - true) for said, true in pairs) / len(pairs),
            **self._rates(predictions),
        }

    def wrong(self, truth: Mapping[str, Any], frame: Frame | None = None) -> dict[str, str]:
        count = len(boxes_of(truth))
        return {"one more": self._wrap("counted", str(count + 1)), "a word": self._wrap("counted", "many")}
