"""The section of a config about data: where labelled images come from and what is asked about them.

Decision: one section describes a source whether its images are made or read; a field that means nothing for a source
is refused there instead of being ignored.

>>> SourceConfig(source="shapes", classes="red circle, blue square").classes
('red circle', 'blue square')
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from visual_rft.config.name_list import name_list
from visual_rft.config.sections import Section, TaskConfig

QuestionKind = Literal[
    "present",  # "find every CLASS": a question for each class that is in an image
    "one",  # the same, about one class per image
    "name",  # "name the kind of SUBJECT": a question for each image of one class
    "every",  # "find every object of these classes": a question per image
    "own",  # the data's own questions
    "refer",  # "find EXPRESSION": a question for each text that means one object
]
"""Which questions are asked about labelled images."""
PROCEDURAL = ("shapes", "digits", "flowers")
"""Sources that are made, not read."""
_WITHOUT_SPLITS = {
    "coco": "the file of a part is named in 'annotations'",
    "jsonl": "a part is a file of its own, named in 'path'",
    "shapes": "another seed makes other images",
    "flowers": "another seed makes other images",
}
"""Sources in which ``split`` would name nothing, and what does it there."""
_PATHS = {
    "coco": "a folder with annotations.json and the images",
    "yolo": "a folder with data.yaml, images and labels",
    "voc": "a folder with Annotations and JPEGImages",
    "imagefolder": "a folder with a subfolder per class",
    "jsonl": "a file with one JSON object per line",
    "refcoco": "a folder with refs.json, instances.json and the images",
    "lisa": "a folder with a JSON file beside each image",
    "parquet": "a parquet file, a folder or a hub id",
}


class TilesConfig(Section):
    """Cut each picture of a source into overlapping tiles, for large pictures with many objects."""

    size: int = Field(640, ge=32)
    """Pixels a side of a tile."""
    overlap: float = Field(0.2, ge=0, le=0.9)
    """Least share of its side that a tile has in common with the next one."""
    keep: float = Field(0.25, gt=0, le=1)
    """Least share of an object that must be seen in a tile for it to be labelled there, by the part that is seen."""


class SourceConfig(Section):
    """Where labelled images come from and what is asked about them."""

    source: Literal[
        "shapes", "digits", "flowers",
        "coco", "yolo", "voc", "imagefolder", "jsonl", "refcoco", "lisa", "parquet",
    ] = "digits"  # fmt: skip
    """``shapes``, ``digits`` and ``flowers`` are made offline; the others are formats of files (docs/data.md)."""
    path: str | None = None
    """Folder or file of a format; ``parquet`` also takes a hub id."""
    annotations: str | None = None
    """JSON file of a ``coco`` source (COCO or LVIS); null takes annotations.json in ``path``."""
    split: str | None = None
    """Which part of the source, e.g. ``train`` or ``val``; of ``digits`` the scans ``base``, ``train`` (or its parts
    ``shots`` and ``validation``) or ``test``."""
    part: Literal["train", "held_out"] | None = None
    """Where the data have no split to hold out: ``held_out`` takes every fifth image, ``train`` the others; null takes
    all."""
    task: TaskConfig | None = None
    """What is asked about this source, in a run of several tasks: a name, or a whole section like ``task``. Null asks
    the run's ``task``."""
    weight: float = Field(1.0, gt=0, le=1000)
    """How often a question of this source is asked, beside one of weight 1; with ``balance: sources`` how often the
    source is. For training only."""
    subject: str | None = None
    """What classification asks the kind of, e.g. ``flower``; null takes ``object``, or what the source holds."""
    broken: Literal["refuse", "skip"] = "refuse"
    """A row, box or image that cannot be used is an error, or is left out and counted."""
    count: int | None = Field(None, ge=1)
    """The first so many images; null takes all of a format, and makes 64 of a procedural source."""
    classes: tuple[str, ...] | None = None
    """Keep only the images that hold an object of one of these classes, and of their labels only these classes: names,
    or a published split such as coco-8 (docs/configs.md); null keeps all images and labels."""
    novel: tuple[str, ...] | None = None
    """Leave out every image that shows one of these classes, which training must not see: names, or a published split;
    null leaves out none."""
    shots: int | None = Field(None, ge=1)
    """Keep k images per class, as ``visual-rft data few-shot`` chooses them; null keeps all."""
    max_objects: int | None = Field(None, ge=1)
    """Most objects in an image of ``shapes`` or ``digits``; null leaves the source's own limit."""
    min_objects: int | None = Field(None, ge=1)
    """Fewest objects that are tried in an image of ``shapes`` or ``digits``; null leaves the source's own limit."""
    seed: int = Field(0, ge=0)
    """Seed of procedural images, and of the choice of shots and questions."""
    questions: QuestionKind | None = None
    """``present``: find each class that is in an image; ``one``: find one class per image; ``every``: find the objects
    of all classes at once; ``name``: name the object; ``refer``: find what an expression means; ``own``: those that
    came with the data. Null takes what the task wants."""
    expressions: tuple[Literal["names", "superlatives", "relations", "exceptions"], ...] | None = None
    """Kinds of expression that ``refer`` draws from in ``shapes``; null takes all."""
    absent_rate: float = Field(0.0, ge=0, le=1)
    """Chance per image of asking for a class that is not there (answer: No Objects)."""
    reasoning: bool = True
    """Gold answers hold the reasoning that came with the data (``thought``); false: only what the labels say."""
    tiles: TilesConfig | None = None
    """Cut each picture into tiles, each a picture of its own from then on; detection only. Null keeps it whole."""
    copies: int = Field(0, ge=0)
    """Besides each question so many copies of it with the picture and its boxes shifted and scaled by up to a quarter:
    more to see where few pictures are labelled. For training only."""
    imprecision: float = Field(0.0, ge=0)
    """Enlarge the true boxes at random by up to this share, randomise confidence, and take a label for its look-alike
    with this probability; supervised training only."""

    @property
    def format(self) -> str:
        """How the images come: the name of a format of files, or of what is made (:data:`PROCEDURAL`)."""
        return self.source

    @field_validator("classes", "novel", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        return name_list(value) if isinstance(value, str) else value

    @field_validator("task", mode="before")
    @classmethod
    def _a_name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _only_where_it_means_something(self) -> SourceConfig:
        for name in ("max_objects", "min_objects"):
            if getattr(self, name) is not None and self.format not in ("shapes", "digits"):
                raise ValueError(f"{name!r} is for shapes and digits, this is a {self.format} source; set it to null")
        if self.max_objects is not None and (self.min_objects or 1) > self.max_objects:
            raise ValueError(f"min_objects {self.min_objects} is more than max_objects {self.max_objects}")
        if self.split is not None and self.format in _WITHOUT_SPLITS:
            instead = _WITHOUT_SPLITS[self.format]
            raise ValueError(f"a {self.format} source has no split {self.split!r}: {instead}; set 'split' to null")
        for name in ("path", "annotations"):
            if getattr(self, name) is not None and self.format in PROCEDURAL:
                raise ValueError(
                    f"{name!r} is for files, and {self.format} are made; name the format of the files in 'source', "
                    f"e.g. source: coco, or set {name!r} to null"
                )
        if self.expressions == ():
            raise ValueError("'expressions' names no kind; set it to null for all")
        if self.expressions is not None and self.format != "shapes":
            raise ValueError(f"'expressions' is for shapes, this is a {self.format} source; set it to null")
        if self.part is not None and self.format in PROCEDURAL:
            raise ValueError(f"'part' is for files; of {self.format} another seed makes other images")
        return self

    @model_validator(mode="after")
    def _files_need_a_path(self) -> SourceConfig:
        if self.format in PROCEDURAL:
            return self
        if self.path is None:
            raise ValueError(f"a {self.format} source needs 'path', {_PATHS[self.format]}")
        if self.annotations is not None and self.format != "coco":
            raise ValueError(f"'annotations' names the file of a coco source; a {self.format} source has 'path' only")
        return self


class DataConfig(Section):
    """Training and evaluation data; several sources are joined."""

    train: tuple[SourceConfig, ...] = (SourceConfig(),)
    """Sources of training questions."""
    evaluation: tuple[SourceConfig, ...] = (SourceConfig(split="test", count=100, seed=1),)
    """Sources of held-out questions."""
    balance: Literal["none", "sources", "classes"] = "none"
    """How often training asks what: ``none`` asks every question as often as any other, ``sources`` each source (times
    its weight), however many questions it has, ``classes`` each class of a task, however rare."""

    @model_validator(mode="after")
    def _held_out_as_it_is(self) -> DataConfig:
        for i, source in enumerate(self.evaluation):
            for name, nothing in (("copies", 0), ("imprecision", 0.0), ("weight", 1.0)):
                if getattr(source, name) != nothing:
                    raise ValueError(f"evaluation.{i}.{name} is for training; leave it out, results are of true labels")
        return self
