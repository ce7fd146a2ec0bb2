"""What the embedded model has learnt: ``python -m visual_rft.tiny.measure MODEL [--ancestor MODEL] [--out FILE]``.

Decision: greedy answers of the library's own ``generate`` about scenes that nothing teaches, one class asked per
scene. A box is *right* if the object it lies on (best IoU, then nearest centre) is of the class that was asked for,
which is so by chance for a share ``chance`` of boxes; ``mean_iou`` is over true boxes, of the best answered one each.
Handwriting is of the scans of split ``test``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.procedural import referring
from visual_rft.data.procedural.digits import Digits
from visual_rft.data.procedural.flowers import Flowers
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.policy.stored.places import weights_fingerprint
from visual_rft.tasks import TASKS
from visual_rft.tasks.parsing.completion import Failure
from visual_rft.tasks.truth import frame_of
from visual_rft.tiny import native
from visual_rft.tiny.questions import Question, Style
from visual_rft.vision.boxes import Box, iou

SCENES = 200
"""Scenes of each kind."""
BATCH = 50
_PLACES = ("leftmost", "rightmost", "topmost", "bottommost")
_SIZES = ("largest", "smallest")
EXPRESSIONS: dict[str, Callable[[AnnotatedImage], list[tuple[str, int]]]] = {
    "names": referring.KINDS["names"],
    "places": lambda image: _with_words(image, _PLACES),
    "sizes": lambda image: _with_words(image, _SIZES),
    "relations": referring.KINDS["relations"],
    "exceptions": referring.KINDS["exceptions"],
}


@dataclass(frozen=True)
class Case:
    """A question about an image."""

    image: AnnotatedImage
    question: Question


def lies_on(box: Box, objects: Sequence[Box]) -> int:
    """Which object a box lies on: the best IoU, then the nearest centre.

    >>> lies_on((0, 0, 10, 10), [(50, 50, 60, 60), (20, 0, 30, 10)])
    1
    """

    def nearness(number: int) -> tuple[float, float]:
        other = objects[number]
        return iou(box, other), -sum(abs(box[i] + box[i + 2] - other[i] - other[i + 2]) for i in (0, 1))

    return max(range(len(objects)), key=nearness)


def box_figures(cases: Sequence[Case], answers: Sequence[Sequence[Box] | None]) -> dict[str, float]:
    """How good answered boxes are.

    Args:
        cases: questions that mean objects of their images.
        answers: the boxes of each answer, in pixels; None where none could be read.
    """
    best: list[float] = []
    right: list[bool] = []
    chance: list[float] = []
    counted = 0
    for case, answer in zip(cases, answers, strict=True):
        objects, meant = case.image.boxes, case.question.objects
        boxes = answer or ()
        counted += len(boxes) == len(meant)
        best += [max((iou(box, objects[i]) for box in boxes), default=0.0) for i in meant]
        if len(meant) < len(objects):
            right += [lies_on(box, objects) in meant for box in boxes]
            chance.append(len(meant) / len(objects))
    figures = {
        "scenes": len(cases),
        "mean_iou": _mean(best),
        "found_at_0.5": _mean([value >= 0.5 for value in best]),
        "count_right": counted / len(cases),
        "readable": _mean([answer is not None for answer in answers]),
    }
    if right:
        figures |= {"right_object_share": _mean(right), "chance": _mean(chance)}
    return {name: round(value, 3) for name, value in figures.items()}


def read_boxes(case: Case, text: str) -> list[Box] | None:
    """The boxes of an answer in pixels; None where it cannot be read."""
    truth = case.question.sample.truth
    if case.question.style is Style.NATIVE:
        found = native.read(text)
        return None if found is None else [frame_of(truth, None).to_pixels(box) for box, _ in found]
    parsed = TASKS[case.question.sample.task]().parse(text, truth, None)
    if isinstance(parsed, Failure):
        return None
    boxes = parsed.value["boxes"] if isinstance(parsed.value, dict) else [parsed.value]
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes]


class Measure:
    """Asks one model."""

    def __init__(self, folder: Path, scenes: int = SCENES) -> None:
        self._model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()
        self._processor: Any = AutoProcessor.from_pretrained(folder)
        self._processor.tokenizer.padding_side = "left"
        self._scenes = scenes

    def run(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Everything, by kind."""
        per_kind: dict[str, dict[str, float]] = {}

        def keep(kind: str, figures: dict[str, float]) -> None:
            per_kind[kind] = figures
            say(f"{kind}: {figures}")

        crowded = {"shapes": Shapes(10**5, seed=9001, min_objects=2, max_objects=5),
                   "digits": Digits(10**5, "test", seed=9002)}  # fmt: skip
        both: list[tuple[Case, list[Box] | None]] = []
        for name, source in crowded.items():
            cases = self.cases(source, several)
            answers = self.boxes(cases)
            both += zip(cases, answers, strict=True)
            keep(name, box_figures(cases, answers))
        whole = box_figures(*zip(*both, strict=True))
        for name, source in crowded.items():
            repeated = self.cases(source, lambda image: len(set(image.labels)) < len(image.labels), repeated=True)
            keep(f"{name} repeated", box_figures(repeated, self.boxes(repeated)))
            absent = self._absent(source)
            empty = [boxes == [] for boxes in self.boxes(absent)]
            keep(f"{name} absent", {"scenes": len(absent), "said_none": round(_mean(empty), 3)})
        for style in (Style.PLAIN, Style.NATIVE):
            cases = self.cases(crowded["shapes"], several, style=style)
            keep(f"shapes {style}", box_figures(cases, self.boxes(cases)))
        single = {"one shape": Shapes(10**5, seed=9003, max_objects=1),
                  "one digit": Digits(10**5, "test", seed=9004, max_objects=1)}  # fmt: skip
        for name, source in single.items():
            cases = self.cases(source, lambda _: True)
            keep(name, box_figures(cases, self.boxes(cases)))
        keep("flowers named", self._named(Flowers(10**5, seed=9007), "flower"))
        keep("digits named", self._named(Digits(10**5, "test", seed=9006, max_objects=1), "handwritten digit"))
        for kind, expressions in EXPRESSIONS.items():
            cases = self._referring(expressions)
            keep(f"grounding {kind}", box_figures(cases, self.boxes(cases)))
        keys = ("right_object_share", "mean_iou", "scenes")
        return {**{key: whole[key] for key in keys}, "per_kind": per_kind}

    def cases(
        self,
        source: Iterable[AnnotatedImage],
        wanted: Callable[[AnnotatedImage], bool],
        repeated: bool = False,
        style: Style = Style.THINK,
    ) -> list[Case]:
        """A question for a class that is there, one per ``wanted`` scene; ``repeated``: a class of several objects."""
        rng = np.random.default_rng(7)
        cases = []
        for image in itertools.islice(filter(wanted, _each(source)), self._scenes):
            labels = [name for name in image.present if not repeated or image.labels.count(name) > 1]
            label = labels[rng.integers(len(labels))]
            objects = tuple(i for i, other in enumerate(image.labels) if other == label)
            cases.append(Case(image, Question(image.ask(label), style, objects)))
        return cases

    def _absent(self, source: Any) -> list[Case]:
        rng = np.random.default_rng(8)
        images = itertools.islice(_each(source), self._scenes)
        return [Case(image, Question(image.ask(str(rng.choice(image.absent(source.classes)))), Style.THINK, ()))
                for image in images]  # fmt: skip

    def _referring(self, expressions: Callable[[AnnotatedImage], list[tuple[str, int]]]) -> list[Case]:
        rng = np.random.default_rng(9)
        images = Shapes(10**5, seed=9005, max_objects=4, min_objects=2)
        cases = []
        for image in itertools.islice(filter(expressions, _each(images)), self._scenes // 2):
            found = expressions(image)
            text, target = found[rng.integers(len(found))]
            cases.append(Case(image, Question(image.refer(text, target), Style.THINK, (target,))))
        return cases

    def _named(self, source: Iterable[AnnotatedImage], subject: str) -> dict[str, float]:
        images = list(itertools.islice(_each(source), self._scenes))
        cases = [Case(image, Question(image.name(subject), Style.THINK, ())) for image in images]
        task = TASKS["classification"]()
        asked = zip(cases, self._ask(cases), strict=True)
        right = [task.score(text, case.question.sample.truth).parts["accuracy"] or 0.0 for case, text in asked]
        return {"scenes": len(cases), "accuracy": round(_mean(right), 3)}

    def boxes(self, cases: Sequence[Case]) -> list[list[Box] | None]:
        """The boxes of the answers to some questions, in pixels."""
        return [read_boxes(case, text) for case, text in zip(cases, self._ask(cases), strict=True)]

    def _ask(self, cases: Sequence[Case]) -> list[str]:
        """The greedy answers."""
        texts: list[str] = []
        for first in range(0, len(cases), BATCH):
            batch = cases[first : first + BATCH]
            contents = [[{"type": "image"}, {"type": "text", "text": case.question.prompt}] for case in batch]
            prompts = [self._processor.apply_chat_template([{"role": "user", "content": content}],
                                                           add_generation_prompt=True, tokenize=False)
                       for content in contents]  # fmt: skip
            inputs = self._processor(
                text=prompts, images=[case.image.image.load() for case in batch], return_tensors="pt", padding=True
            )
            with torch.inference_mode():
                tokens = self._model.generate(**inputs, max_new_tokens=160, do_sample=False)
            answers = tokens[:, inputs["input_ids"].shape[1] :]
            texts += self._processor.batch_decode(answers, skip_special_tokens=True)
        return texts


def several(image: AnnotatedImage) -> bool:
    """Whether it shows more than one class."""
    return len(image.present) > 1


def _each(source: Iterable[AnnotatedImage]) -> Iterator[AnnotatedImage]:
    return iter(source)


def _with_words(image: AnnotatedImage, words: Sequence[str]) -> list[tuple[str, int]]:
    return [pair for pair in referring.KINDS["superlatives"](image) if any(word in pair[0] for word in words)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m visual_rft.tiny.measure")
    parser.add_argument("model", type=Path)
    parser.add_argument("--ancestor", type=Path, help="the model before the blur, measured too")
    parser.add_argument("--scenes", type=int, default=SCENES, help="of each kind")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    figures = Measure(asked.model, asked.scenes).run(print)
    if asked.ancestor:
        figures["exact_ancestor"] = Measure(asked.ancestor, asked.scenes).run(print)
    figures["base"] = weights_fingerprint(str(asked.model))
    figures["command"] = " ".join(["python -m visual_rft.tiny.measure", *sys.argv[1:]])
    text = json.dumps(figures, indent=2) + "\n"
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
