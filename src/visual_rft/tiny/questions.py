"""What is asked about a scene while the embedded model is taught, and the right answers.

Decision: everything is asked about every scene from the start, in the tasks' own words with and without thinking and
in the words of the model's family (:mod:`visual_rft.tiny.native`). Detection alone for 31,000 scenes taught detection
well and made the model forget the other formats entirely.

>>> scene = shapes.Shapes(1, seed=3)[0]
>>> Question(scene.ask("green star"), Style.NATIVE, ()).prompt
'Locate every green star in the image. Report bbox coordinates in JSON format.'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.imprecise import Imprecise
from visual_rft.data.procedural import digits, referring, shapes
from visual_rft.tasks import TASKS
from visual_rft.tasks.samples import Sample
from visual_rft.tasks.truth import frame_of
from visual_rft.tiny import native
from visual_rft.vision.coordinates import CoordinateSpace

TAUGHT = ("detection", "classification", "grounding")
"""The tasks whose questions the embedded model was taught, and whose words its tokenizer knows."""

ABSENT_RATE = 0.12
"""Share of scenes with a question about a class that is not there."""
REFER_RATE = 0.4
"""Share of questions about shapes that name one object by an expression; the others ask for every object of a class."""


class Style(StrEnum):
    """In which words a question is asked."""

    THINK = "think"
    """The task's, the reasoning first."""
    PLAIN = "plain"
    """The task's, the answer alone."""
    NATIVE = "native"
    """The model family's: boxes as JSON."""


STYLES = {Style.THINK: 0.84, Style.PLAIN: 0.07, Style.NATIVE: 0.09}
"""How often each is used."""


@dataclass(frozen=True)
class Question:
    """A question about one scene.

    Attributes:
        sample: question and truth, as a task takes them.
        style: in which words.
        objects: numbers of the objects that are meant, in the order of the truth's boxes; none in classification.
    """

    sample: Sample
    style: Style
    objects: tuple[int, ...]

    @property
    def prompt(self) -> str:
        """What is asked."""
        asked = self.sample.question
        if self.style is Style.NATIVE:
            return native.prompt(f"every {asked['category']}" if "category" in asked else asked["expression"])
        task = TASKS[self.sample.task](think=self.style is Style.THINK)
        return task.prompt(asked, CoordinateSpace.RELATIVE_1000)

    @property
    def gold(self) -> str:
        """The right answer."""
        truth = self.sample.truth
        if self.style is not Style.NATIVE:
            return TASKS[self.sample.task](think=self.style is Style.THINK).gold(truth)
        frame = frame_of(truth, None)
        boxes = truth["boxes"] if "boxes" in truth else [truth["box"]]
        label = truth["category"] if "category" in truth else truth["thought"].split(" ", 1)[1]
        return native.answer((frame.from_pixels(boxes[place]), label) for place in self.written_order)

    @property
    def written_order(self) -> list[int]:
        """Places in ``objects`` in the order in which an answer writes them: from top to bottom."""
        boxes = self.sample.truth.get("boxes", [])
        return sorted(range(len(self.objects)), key=lambda i: (boxes[i][1], boxes[i][0]) if boxes else (0, 0))


def ask(image: AnnotatedImage, count: int, rng: np.random.Generator, styles: bool = True) -> list[Question]:
    """Up to ``count`` questions about a scene, no two of them the same.

    Args:
        image: shapes, digits or a flower.
        count: how many.
        rng: draws them.
        styles: use all of :data:`STYLES`; otherwise all questions want the reasoning first.
    """
    if "petals" in str(image.facts.get("thought", "")):
        return [Question(image.name("flower"), _style(rng, styles, (Style.THINK, Style.PLAIN)), ())]
    handwriting = image.labels[0] in digits.CLASSES
    questions: list[Question] = []
    if handwriting and len(image.labels) == 1:
        named = image.name("handwritten digit")
        questions.append(Question(named, _style(rng, styles, (Style.THINK, Style.PLAIN)), ()))
    categories = _categories(image, digits.CLASSES if handwriting else shapes.CLASSES, rng)
    expressions = [] if handwriting else _expressions(image, rng)
    while len(questions) < count and (categories or expressions):
        refers = expressions and (not categories or rng.random() < REFER_RATE)
        if refers:
            text, target = expressions.pop()
            questions.append(Question(image.refer(text, target), _style(rng, styles), (target,)))
        else:
            category = categories.pop(0)
            members = tuple(i for i, label in enumerate(image.labels) if label == category)
            questions.append(Question(image.ask(category), _style(rng, styles), members))
    return questions


def blurred(questions: Sequence[Question], enlarged: float, mistaken: float, seed: int) -> list[Question]:
    """The same questions with imprecise truths (:mod:`visual_rft.data.imprecise`)."""
    samples = Imprecise([question.sample for question in questions], enlarged, mistaken, seed)
    return [replace(question, sample=sample) for question, sample in zip(questions, samples, strict=True)]


def _style(rng: np.random.Generator, styles: bool, among: Sequence[Style] = tuple(STYLES)) -> Style:
    if not styles:
        return Style.THINK
    shares = np.array([STYLES[style] for style in among])
    return among[rng.choice(len(among), p=shares / shares.sum())]


def _categories(image: AnnotatedImage, classes: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The classes of a scene in random order, half of the time repeated ones first; sometimes one that is absent."""
    present = list(rng.permutation(image.present))
    if rng.random() < 0.5:  # a repeated class is one question in six, and was under-counted
        present.sort(key=lambda label: -image.labels.count(label))
    if rng.random() < ABSENT_RATE:
        present.insert(int(rng.integers(2)), str(rng.choice(image.absent(classes))))
    return [str(label) for label in present]


def _expressions(image: AnnotatedImage, rng: np.random.Generator) -> list[tuple[str, int]]:
    """One expression of each kind that fits the scene, in random order."""
    found = [options for options in (kind(image) for kind in referring.KINDS.values()) if options]
    return [found[i][rng.integers(len(found[i]))] for i in rng.permutation(len(found))]
