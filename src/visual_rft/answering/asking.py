"""Ask a model about pictures that nobody has labelled: ``visual-rft predict`` and ``visual-rft app``.

Decision: a model that comes out of a run is asked as that run asked it (task, options, length of the answer, pixel
limits), because a question in other words is another question. Pictures are the unit, as in an evaluation: one vision
pass for all questions about one.

    asker = Asker.load("runs/coins", dtype="float32")
    replies = asker.ask([("a.png", picture)], ["coin"])
    replies[0][0].answer       # {"boxes": [[x1, y1, x2, y2]], "confidence": [0.9]}, pixels of the picture
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from visual_rft.answering.answering import BATCH, Answerer, answer
from visual_rft.answering.predict import scored
from visual_rft.answering.questions import Answer, ImageQuestions
from visual_rft.answering.scores import ranked
from visual_rft.answering.served import ServedModel, refuse_scores
from visual_rft.answering.tiled import all_together, check_tiles, cut_up
from visual_rft.config.config import Config, load_config
from visual_rft.config.sections import ScoreKind, StyleKind, TaskConfig
from visual_rft.errors import ConfigError
from visual_rft.parallel.processes import here
from visual_rft.policy.prompt import Prompt, is_stretched, task_for
from visual_rft.policy.stored.places import run_config_file
from visual_rft.tasks import Prediction, Sample, Score, Task, load_task
from visual_rft.tasks.parsing.completion import Failure
from visual_rft.vision.drawing import DRAWN_SUFFIX, PREDICTED, draw_marks, save_picture
from visual_rft.vision.images import ImageFile, RenderedImage
from visual_rft.vision.tiles import Tiling

ANSWERS = Path("answers")
"""Folder of the drawn answers to a question about one image."""


class Reply(NamedTuple):
    """What a model said to one question about one picture.

    Attributes:
        ask: the thing that was asked for.
        text: the completion.
        answer: parsed answer as in :class:`visual_rft.tasks.Score`, boxes in pixels of the picture; None if unreadable.
        failure: reason why it could not be read, or None.
        notes: texts on what was tolerated to read it.
    """

    ask: str
    text: str
    answer: Any
    failure: str | None
    notes: Sequence[str]


@dataclass(frozen=True)
class Asker:
    """A model and the way it is asked.

    Attributes:
        model: what answers.
        task: the task that writes the prompts and reads the answers.
        tiles: how large pictures are asked about in parts; None asks about whole ones.

    Raises:
        ConfigError: if the task's answers cannot be put together from tiles.
    """

    model: Answerer
    task: Task
    tiles: Tiling | None = None

    def __post_init__(self) -> None:
        if self.tiles is not None:
            check_tiles(self.task)

    @classmethod
    def load(
        cls,
        model: str,
        task: str | None = None,
        dtype: str | None = None,
        scores: ScoreKind | None = None,
        style: StyleKind | None = None,
        think: bool | None = None,
    ) -> Asker:
        """Load a model.

        Args:
            model: ``tiny``, a run folder, a checkpoint, an exported or other model folder, or a hub id.
            task: name as in :func:`visual_rft.load_task`; None takes that of the model's run, or detection.
            dtype: type of the weights; None takes that of the model's run, or float32.
            scores: number by which boxes are ranked; None takes that of the model's run, or the written confidence.
            style: in whose words boxes are asked for; None takes that of the model's run, or the method's.
            think: whether reasoning is asked for; None takes that of the model's run, or yes.

        Raises:
            ModelError: if the model cannot be loaded.
            ConfigError: if there is no such task, it ranks nothing or knows no such style, or the run's config cannot
                be read.
        """
        config, asked = _run_of(model, task, scores, style, think)
        from visual_rft.answering.local import LocalModel, best_device  # here: a served model needs no torch

        changed = {"path": model, "lora": None, **({"dtype": dtype} if dtype else {})}
        if best_device().type == "cpu":
            changed["quantization"] = "none"  # which would need a GPU; the weights themselves can be read anywhere
        return cls(LocalModel.load(config.model.model_copy(update=changed), config.rollout, config.engine), asked)

    @classmethod
    def served(
        cls,
        urls: Sequence[str],
        name: str | None,
        model: str = "tiny",
        task: str | None = None,
        scores: ScoreKind | None = None,
        style: StyleKind | None = None,
        think: bool | None = None,
    ) -> Asker:
        """A model behind servers.

        Args:
            urls: addresses of servers that all serve the same.
            name: the model's there; None takes the only one there is.
            model: as in :meth:`load`; whose run says how it is asked, and in which units it writes boxes.
            task: name as in :func:`visual_rft.load_task`; None takes that of the model's run, or detection.
            scores: as in :meth:`load`, but only ``written`` can be had.
            style: as in :meth:`load`.
            think: as there.

        Raises:
            ConfigError: if there is no such task, or the units of its boxes are not known.
            ServerError: if no server answers.
        """
        config, asked = _run_of(model, task, scores, style, think)
        refuse_scores(asked)
        return cls(ServedModel.open(config.with_model(path=model), urls, name), asked)

    def about(self, task: str) -> Asker:
        """The same model asked about another task, in the same words where that task knows them."""
        if task == self.task.name:
            return self
        other = load_task(task, think=self.task.think)
        known = self.task.style in other.styles
        own = replace(other, style=self.task.style, notation=self.task.notation) if known else other
        return Asker(self.model, own)

    def ask(
        self, pictures: Sequence[tuple[str, Image.Image]], asks: Sequence[str], batch: int = BATCH
    ) -> list[list[Reply]]:
        """Ask every question about every picture; greedy.

        Args:
            pictures: a key and the RGB picture each; equal keys mean equal pixels.
            asks: what to find (a category, an expression), or for classification what kind of thing to name.
            batch: greatest number of questions answered at once.

        Returns:
            Per picture the replies in the order of ``asks``.

        Raises:
            ConfigError: if the task's prompt needs to know more than what is asked for.
        """
        groups = [ImageQuestions(tuple(self._sample(key, picture, text) for text in asks)) for key, picture in pictures]
        cut = None if self.tiles is None else [cut_up(group, self.tiles) for group in groups]
        parts = groups if cut is None else [tile for one in cut for tile in one.tiles]
        try:
            images = answer(self.model, self.task, parts, batch)
        except KeyError as error:
            raise ConfigError(f"task {self.task.name!r} needs question[{error}] and cannot be asked this way") from None
        if cut is not None:
            rows = [scored(self.task, image.answers) for image in images]
            return [[_reply_of(one) for one in row] for row in all_together(self.task, cut, rows)]
        return [[self._reply(answered) for answered in image.answers] for image in images]

    def try_image(self, key: str, picture: Image.Image) -> None:
        """Find out whether the model takes a picture, where that is in doubt.

        Raises:
            DataError: if it does not.
        """
        if is_stretched(picture.size):
            self.model.check(Prompt(key, "", (RenderedImage(key, lambda: picture),)))

    def draw(self, picture: Image.Image, replies: Sequence[Reply]) -> Image.Image:
        """The picture with every answer that could be read drawn on it."""
        marks = [
            mark for r in replies if r.answer is not None for mark in self.task.marks(self._question(r.ask), r.answer)
        ]
        return draw_marks(picture, marks, PREDICTED)

    def _sample(self, key: str, picture: Image.Image, ask: str) -> Sample:
        image = RenderedImage(key, lambda: picture)
        truth = {"image_size": list(picture.size), **({} if self.tiles is None else {"boxes": []})}
        return Sample(f"{key}: {ask}", (image,), self.task.name, self._question(ask), truth)

    def _question(self, ask: str) -> dict[str, str]:
        return {"category": ask, "subject": ask, "expression": ask, "question": ask}

    def _reply(self, given: Answer) -> Reply:
        parsed = self.task.parse(given.text, given.sample.truth, given.frame)
        ask = str(given.sample.question["category"])
        if isinstance(parsed, Failure):
            return Reply(ask, given.text, None, parsed.reason, [])
        score = ranked(Score({}, 0.0, parsed.value, notes=parsed.notes), self.task.scores, given)
        return Reply(ask, given.text, score.answer, None, list(score.notes))


def _reply_of(prediction: Prediction) -> Reply:
    score = prediction.score
    ask = str(prediction.sample.question["category"])
    return Reply(ask, prediction.completion, score.answer, score.failure, list(score.notes))


def _run_of(
    model: str, task: str | None, scores: ScoreKind | None, style: StyleKind | None, think: bool | None
) -> tuple[Config, Task]:
    """The config of the run that a model came out of (else the default), and the task that asks it."""
    file = run_config_file(model)
    config = load_config(file) if file else Config().with_model(path=model)
    if len(config.tasks) > 1:  # one of the run's, or the first that it was trained on
        config = config.of_task(task if task in config.tasks else next(iter(config.tasks)))
    known = (None, config.task.name, config.task.called)
    section = config.task if task in known else TaskConfig(name=str(task))
    if style is not None:  # nothing is rewarded here, so a weight that does not go with it is none of the answer's
        section = section.model_copy(update={"style": style, "weights": None})
    if think is not None:
        section = section.model_copy(update={"think": think})
    asked = task_for(config.model_copy(update={"task": section}))
    return config, replace(asked, scores=scores) if scores else asked


def predict_image(
    image: Path,
    ask: str,
    model: str = "tiny",
    out: Path | None = None,
    task: str | None = None,
    dtype: str | None = None,
    scores: ScoreKind | None = None,
    asker: Asker | None = None,
) -> dict[str, Any]:
    """Ask about one image and write the picture with the answer drawn.

    Args:
        image: an image file.
        ask: a category or expression to find, or for classification the kind of thing to name.
        model: name or folder as in :meth:`Asker.load`.
        out: file of the picture; default ``answers/NAME.answer.png``, away from images that may be data.
        task: name as in :meth:`Asker.load`.
        dtype: type of the weights as in :meth:`Asker.load`.
        scores: number by which boxes are ranked, as there.
        asker: the model itself, where it is there already; all that says which is then not looked at.

    Returns:
        ``ask``, the model's ``text``, the ``answer`` with boxes in pixels of the image, ``failure``, ``notes`` and the
        ``picture``'s path.

    Raises:
        DataError: if the image cannot be read or the picture cannot be written.
        ModelError: if the model cannot be loaded.
        ConfigError: if there is no such task.
    """
    picture = ImageFile(image).load()
    asker = asker or Asker.load(model, task, dtype, scores)
    ((reply,),) = asker.ask([(image.name, picture)], [ask])
    target = out or ANSWERS / f"{image.stem}{DRAWN_SUFFIX}"
    if here().first:
        save_picture(asker.draw(picture, [reply]), target, make_folder=out is None)
    return {**reply._asdict(), "picture": str(target)}
