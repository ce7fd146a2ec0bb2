"""A model behind a server, asked: no torch, no weights, any OpenAI-compatible server.

Decision: words, units of boxes and limits of pixels are the config's, so that a served run is asked as the run was, and
a hosted model by the same protocol as everything beside it. The server's processor is not seen from here: where a
family writes pixels of the *resized* image (Qwen2.5-VL), its limits have to be known, from the model's folder or from
the config, else nothing is asked. A wrong extent would make every box miss without an error.

    with ServedModel.open(config, ["http://127.0.0.1:8000"]) as model:
        answer(model, task, questions)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from math import floor, sqrt
from pathlib import Path
from typing import Any, Self

from visual_rft.answering.answering import Written
from visual_rft.config.config import Config
from visual_rft.errors import ConfigError, ModelError
from visual_rft.policy.families import family_of
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.stored.places import model_folder
from visual_rft.serving.client import Client
from visual_rft.serving.wire import Decoding
from visual_rft.tasks import Task
from visual_rft.tasks.patterns import pattern_of
from visual_rft.vision.coordinates import CoordinateSpace, Frame


@dataclass(frozen=True)
class Resizing:
    """How a processor resizes an image: sides to whole cells, pixels to within limits (Qwen2-VL, arXiv 2409.12191).

    >>> Resizing(28, 3136, 1_000_000).size((640, 480)), Resizing(28, 3136, 100_000).size((640, 480))
    ((644, 476), (364, 252))
    """

    cell: int
    least: int
    most: int

    def size(self, image: tuple[int, int]) -> tuple[int, int]:
        """(width, height) after it of an image of (width, height)."""
        whole = [max(self.cell, round(side / self.cell) * self.cell) for side in image]
        pixels, own = whole[0] * whole[1], image[0] * image[1]
        if pixels > self.most:
            share = sqrt(own / self.most)
            whole = [max(self.cell, floor(side / share / self.cell) * self.cell) for side in image]
        elif pixels < self.least:
            share = sqrt(self.least / own)
            whole = [-int(-side * share // self.cell) * self.cell for side in image]
        return whole[0], whole[1]


class ServedModel:
    """A served model as what answers questions: an :class:`~visual_rft.answering.answering.Answerer`.

    Args:
        client: of its servers.
        space: units in which it writes boxes.
        max_tokens: most tokens of an answer.
        resizing: of the server's processor; needed where boxes are pixels of the resized image.
    """

    def __init__(
        self,
        client: Client,
        space: CoordinateSpace,
        max_tokens: int = 160,
        resizing: Resizing | None = None,
    ) -> None:
        self.client, self.space, self.resizing = client, space, resizing
        self.decoding = Decoding(max_tokens=max_tokens)

    @classmethod
    def open(cls, config: Config, urls: Sequence[str], name: str | None = None) -> ServedModel:
        """The model behind ``urls``, asked as ``config`` says.

        Args:
            config: gives the units of boxes (``model``) and the length of answers (``rollout``).
            urls: addresses of servers that all serve the same.
            name: the model's there; None takes the only one there is.

        Raises:
            ConfigError: if the units of its boxes are not known, or a URL is none.
            ServerError: if no server answers.
        """
        space = _space(config)
        resizing = _resizing(config) if space is CoordinateSpace.PROCESSED_PIXELS else None
        return cls(Client(urls, name), space, config.rollout.max_new_tokens, resizing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @property
    def name(self) -> str:
        """The model's on the server."""
        return self.client.model

    @property
    def folder(self) -> str:
        """Where the server says its weights are, if that is a folder here too: then its run is known."""
        root = self.client.root or ""
        return root if Path(root).is_dir() else ""

    def constrain(self, task: Task, names: Iterable[str]) -> None:
        """As :meth:`Answerer.constrain`; through the server's structured outputs."""
        self.decoding = replace(self.decoding, pattern=pattern_of(task, self.space, sorted(names)))

    def verify(self, prompt: Prompt) -> None:
        """Nothing is known before the server is asked."""

    def held_still(self) -> AbstractContextManager[Any]:
        """Nothing has to be held."""
        return nullcontext()

    def check(self, prompt: Prompt) -> None:
        """Nothing is known before the server is asked."""

    def ask(self, groups: Sequence[Sequence[Prompt]], batch: int) -> Iterator[list[Written]]:
        """What is written about every prompt, group after group; how many are in flight is the client's business."""
        replies = self.client.ask([prompt for group in groups for prompt in group], self.decoding)
        for group in groups:
            texts = [reply.texts[0] for reply in islice(replies, len(group))]
            yield [Written(text, self._frame(prompt)) for text, prompt in zip(texts, group, strict=True)]

    def shares_of_yes(self, prompts: Sequence[Prompt], batch: int) -> list[float]:
        """Never asked: :func:`refuse_scores`."""
        raise NotImplementedError

    def _frame(self, prompt: Prompt) -> Frame | None:
        if not prompt.images:
            return None
        image: Any = prompt.images[0]
        size = image.size() if hasattr(image, "size") else image.load().size
        return Frame.of(self.space, size, self.resizing.size(size) if self.resizing else None)


def refuse_scores(task: Task) -> None:
    """Boxes of a served model are ranked by what it wrote; how likely its tokens were is not asked.

    Raises:
        ConfigError: if the task ranks them in another way.
    """
    if task.scores != "written":
        raise ConfigError(f"task.scores: {task.scores} needs the model in this process; with --server it is 'written'")


def _space(config: Config) -> CoordinateSpace:
    """The units in which the config's model writes boxes, from the config or the model's folder."""
    model = config.model
    if model.family is not None and model.family.coordinates is not None:
        return CoordinateSpace(model.family.coordinates)
    kind = _json(config, "config.json").get("model_type")
    if kind is None:
        raise ConfigError(
            f"--server: in which units {model.path!r} writes boxes is not known; set model.family.coordinates "
            "(relative_1000, processed_pixels, pixels or location_tokens; docs/models.md lists the families)"
        )
    return family_of(str(kind), model.family).space


def _resizing(config: Config) -> Resizing:
    """How the config's model resizes images."""
    model, said = config.model, _json(config, "preprocessor_config.json")
    said = said or _json(config, "processor_config.json").get("image_processor", {})
    size = said.get("size") or {}
    least = model.min_pixels or said.get("min_pixels") or size.get("shortest_edge")
    most = model.max_pixels or said.get("max_pixels") or size.get("longest_edge")
    if not least or not most:
        raise ConfigError(
            "--server: boxes are pixels of the resized image, so the server's limits of pixels have to be known; set "
            "model.min_pixels and model.max_pixels to those it was started with, or model.path to the model's folder"
        )
    return Resizing(int(said.get("patch_size", 14)) * int(said.get("merge_size", 2)), int(least), int(most))


def _json(config: Config, name: str) -> dict[str, Any]:
    """A JSON file in the folder of the config's model, empty where there is none."""
    file = Path(model_folder(config.model.path)) / name
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read ({error})") from None
    return content if isinstance(content, dict) else {}
