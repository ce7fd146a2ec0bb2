"""What the page shows, without the page.

Decision: all models are loaded at the start and asked one after another, so that a comparison needs no second click;
one question at a time, because a policy keeps its image features to itself.

    models = Models.load(["tiny", "runs/demo"])
    base, tuned = models.answer(Path("a.png"), "digit 3", "detection")
    tuned.picture      # the boxes drawn
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from PIL import Image

from visual_rft.answering.asking import Asker, Reply
from visual_rft.config.sections import ScoreKind, StyleKind
from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import TASKS
from visual_rft.vision.images import ImageFile

_THOUGHT = re.compile(r"<think>(.*?)(?:</think>|$)", re.DOTALL)


class Shown(NamedTuple):
    """One model's column.

    Attributes:
        picture: with its answer drawn.
        words: Markdown: its reasoning, the answer or why there is none, and its whole text.
    """

    picture: Image.Image
    words: str


@dataclass(frozen=True)
class Models:
    """Models that are compared.

    Attributes:
        askers: by name, in the order they were given.
    """

    askers: dict[str, Asker]
    _one_at_a_time: Lock = field(default_factory=Lock)

    @classmethod
    def load(
        cls,
        names: Sequence[str],
        dtype: str | None = None,
        scores: ScoreKind | None = None,
        style: StyleKind | None = None,
        think: bool | None = None,
    ) -> Models:
        """Load every model.

        Args:
            names: as in :meth:`visual_rft.answering.asking.Asker.load`.
            dtype: of the weights; None takes that of each model's run.
            scores: number by which boxes are ranked; None takes that of each model's run.
            style: in whose words boxes are asked for; None takes that of each model's run.
            think: whether reasoning is asked for; None takes that of each model's run.

        Raises:
            ConfigError: if a name is given twice, or a run's task knows no such style or ranks nothing.
            ModelError: if a model cannot be loaded.
        """
        if len(set(names)) < len(names):
            raise ConfigError("--model: the same model is named twice")
        return cls({name: Asker.load(name, None, dtype, scores, style, think) for name in names})

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that can be chosen: the built-in ones and those of the models' runs."""
        return list(dict.fromkeys([asker.task.name for asker in self.askers.values()] + sorted(TASKS)))

    def answer(self, file: Path | None, ask: str, task: str) -> list[Shown]:
        """What each model says.

        Args:
            file: the picture.
            ask: what to find or name.
            task: one of :attr:`tasks`; a model is asked with the options of its run where that is its task.

        Raises:
            DataError: if there is no picture or question, or the picture cannot be read.
            ConfigError: if the task cannot be asked this way.
        """
        if file is None:
            raise DataError("drop a picture first")
        if not ask.strip():
            raise DataError("write what is to be found or named first")
        picture = ImageFile(file).load()
        key = hashlib.sha256(picture.tobytes() + str(picture.size).encode()).hexdigest()
        shown = []
        with self._one_at_a_time:
            for asker in self.askers.values():
                asked = asker.about(task)
                ((reply,),) = asked.ask([(key, picture)], [ask.strip()])
                shown.append(Shown(asked.draw(picture, [reply]), words(reply)))
        return shown


def words(reply: Reply) -> str:
    """A reply in Markdown; what the model wrote is quoted as code, so that it cannot become part of the page.

    >>> print(words(Reply("cat", "<think>left</think><answer>x</answer>", None, "not a list", [])))
    **Reasoning**
    <BLANKLINE>
        left
    <BLANKLINE>
    **No answer**: not a list
    <BLANKLINE>
    **Text**
    <BLANKLINE>
        <think>left</think><answer>x</answer>
    """
    thought = _THOUGHT.search(reply.text)
    parts = []
    if thought:
        parts += ["**Reasoning**", _quoted(thought[1].strip())]
    if reply.failure:
        parts.append(f"**No answer**: {reply.failure}")
    else:
        parts += ["**Answer**", _quoted(json.dumps(reply.answer))]
    parts += [f"**Note**: {note}" for note in reply.notes]
    return "\n\n".join([*parts, "**Text**", _quoted(reply.text)])


def _quoted(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])
