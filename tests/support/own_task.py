"""A task of boxes as a user writes one: no subclass of the package's tasks, and without the question for classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visual_rft.tasks import Detection, Prediction, Task
from visual_rft.tasks.parsing.completion import Failure, Parsed
from visual_rft.tasks.samples import answer_rates
from visual_rft.vision.coordinates import CoordinateSpace, Frame


@dataclass(frozen=True, kw_only=True)
class Finder(Task):
    """Answer with boxes as detection does."""

    name = "finder"
    questions = "present"
    default_weights: ClassVar[Mapping[str, float]] = {"format": 1.0}
    rewards: ClassVar[Mapping[str, Callable[[Any], float]]] = {}
    headline = ("format_rate",)
    answers_boxes = True
    measured_as = "coco"

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        return f"Box every {question['category']}."

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        return Detection(think=self.think).gold(truth, frame)

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        return Detection(think=self.think).parse(completion, truth, frame)

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Any:
        return answer, truth

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        return answer_rates(predictions, self.think)
