"""What is asked about an image in detection: the protocols, and the data set they are scored on.

Decision: the ground truth is the same under every protocol, all objects of the chosen classes; only the questions
differ. It is the user's own annotations file where there is one, with its ids, mask areas and crowd regions, so that
the saved predictions can be scored by any COCO tool.

* ``asked``: the questions that the config describes, scored on the classes asked about (what training reports).
* ``present``: each class that is in the image. Knows the answer to "what is there?", so it is the easiest.
* ``all``: every class about every image; a box for an absent class counts against the model. Under LVIS rules only
  the classes that were looked for in the image: boxes of others do not count.
* ``said``: the model is asked which classes are there, then for each of those. A class it does not say is missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from visual_rft.answering.questions import ImageQuestions
from visual_rft.config.name_list import comma_hint
from visual_rft.config.sources import SourceConfig
from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.coco import annotations_file
from visual_rft.data.formats.coco_results import Note, read_ground_truth
from visual_rft.data.presets import class_names
from visual_rft.data.sources import load_dataset, path_of
from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks.metrics.coco import Rules
from visual_rft.tasks.metrics.detection import results_of, xywh
from visual_rft.tasks.samples import Prediction
from visual_rft.vision.boxes import area

Protocol = Literal["asked", "present", "all", "said"]


@dataclass(frozen=True)
class DetectionSet:
    """Images with their ground truth.

    Attributes:
        truth: COCO data set.
        images: the pictures, in the order of ``truth["images"]``; their labels and boxes are all true boxes that are
            no crowd regions.
        rules: name of the rules by which the predictions are scored.
        unclear: classes of each image of which objects may be there without a box, and which are not asked about; none
            where the rules of the user's own file say what counts.
    """

    truth: Mapping[str, Any]
    images: Sequence[AnnotatedImage]
    rules: Rules = "coco"
    unclear: Sequence[frozenset[str]] = ()

    def questions(self, protocol: Protocol) -> list[ImageQuestions]:
        """What is asked about each image, in the order of ``images``."""
        names = {row["id"]: str(row["name"]) for row in self.truth["categories"]}
        groups = []
        unclear = self.unclear or [frozenset()] * len(self.images)
        for row, image, unknown in zip(self.truth["images"], self.images, unclear, strict=True):
            if protocol == "present":
                asked = set(image.labels)
            elif protocol == "all" and self.rules == "lvis":
                asked = {*image.labels, *(names[c] for c in row["neg_category_ids"] if c in names)}
            else:
                asked = set(names.values())
            samples = tuple(image.ask(name) for name in names.values() if name in asked - unknown)
            groups.append(ImageQuestions(samples, choose=protocol == "said"))
        return groups

    def results(self, predictions: Sequence[Sequence[Prediction]]) -> list[dict[str, Any]]:
        """Answers, image by image, as COCO results with the ids of ``truth``."""
        categories = {str(row["name"]): row["id"] for row in self.truth["categories"]}
        return [
            result
            for row, answers in zip(self.truth["images"], predictions, strict=True)
            for p in answers
            for result in results_of(p, row["id"], categories[p.sample.question["category"]])
        ]


def detection_set(
    sources: Sequence[SourceConfig], classes: Sequence[str] | None, rules: Rules, note: Note
) -> DetectionSet:
    """The images and ground truth of a config's evaluation sources.

    Args:
        sources: origins of the images; a single COCO folder keeps its own ids.
        classes: the only classes to evaluate; None takes all.
        rules: ``lvis`` needs a COCO folder with LVIS annotations.
        note: function that is told what was filled in.

    Raises:
        DataError: if a source is not usable.
        ConfigError: if a class is not in the data.
    """
    # Images without any of a source's classes belong to a protocol too: a box in them is a false one.
    every = {"classes": None}
    whole = [source if source.novel or source.shots else source.model_copy(update=every) for source in sources]
    loaded = [load_dataset(source, "present") for source in whole]
    for source, dataset in zip(sources, loaded, strict=True):
        if not dataset.images:
            raise ConfigError(
                f"--protocol: source {source.format!r} comes with questions of its own; evaluate it as 'asked'"
            )
    own_file = len(sources) == 1 and sources[0].format == "coco"
    if own_file and not loaded[0].skipped:
        given = sources[0].annotations
        file = Path(given) if given is not None else annotations_file(path_of(sources[0]))
        data = replace(_of_file(file, read_ground_truth(file, rules, note), loaded[0].images), rules=rules)
    elif rules == "lvis":
        why = ", of which nothing is left out (broken: refuse)" if own_file else ""
        raise ConfigError(f"--rules lvis needs one COCO folder with LVIS annotations in data.evaluation{why}")
    else:
        if own_file:
            note(
                f"{sources[0].path}: something was left out (broken: skip), so the truth is what is left: ids are "
                "counted from 1, areas are those of boxes, and no image is asked about a class that lost a box there"
            )
        names = sorted({name for dataset in loaded for name in dataset.classes})
        data = _of_images([image for dataset in loaded for image in dataset.images], names)
    data = _only(data, _classes_of(sources, loaded))
    return data if classes is None else _only(data, classes)


def _classes_of(sources: Sequence[SourceConfig], loaded: Sequence[Dataset]) -> list[str]:
    """What the sources ask about, whatever else their images show."""
    named = [class_names(source.classes) if source.classes else dataset.classes
             for source, dataset in zip(sources, loaded, strict=True)]  # fmt: skip
    return sorted({name for names in named for name in names})


def _of_file(file: Path, truth: dict[str, Any], images: Sequence[AnnotatedImage]) -> DetectionSet:
    """The annotations file itself, for the images that were loaded from it."""
    truth = _one_id_per_class(truth)
    by_id = {image.id: image for image in images}
    rows = [row for row in truth["images"] if str(row["id"]) in by_id]
    if len(rows) != len(by_id):
        raise DataError(f"{file}: lists {len(rows)} of the {len(by_id)} images of its folder")
    kept = {row["id"] for row in rows}
    annotations = [a for a in truth["annotations"] if a["image_id"] in kept]
    objects: dict[Any, list[tuple[str, tuple[float, float, float, float]]]] = defaultdict(list)
    names = {row["id"]: str(row["name"]) for row in truth["categories"]}
    for a in annotations:
        x, y, w, h = a["bbox"]
        if not a.get("iscrowd") and w > 0 and h > 0:
            objects[a["image_id"]].append((names[a["category_id"]], (x, y, x + w, y + h)))
    pictures = [
        replace(
            by_id[str(row["id"])],
            labels=tuple(name for name, _ in objects[row["id"]]),
            boxes=tuple(box for _, box in objects[row["id"]]),
        )
        for row in rows
    ]
    return DetectionSet({**truth, "images": rows, "annotations": annotations}, pictures)


def _one_id_per_class(truth: dict[str, Any]) -> dict[str, Any]:
    """The same annotations with the first id of each name for all its ids: they are one class, asked once."""
    first: dict[str, Any] = {}
    for row in truth["categories"]:
        first.setdefault(str(row["name"]).strip(), row["id"])
    if len(first) == len(truth["categories"]) and all(str(row["name"]) in first for row in truth["categories"]):
        return truth
    numbers = {row["id"]: first[str(row["name"]).strip()] for row in truth["categories"]}
    lists = ("neg_category_ids", "not_exhaustive_category_ids")
    return {
        **truth,
        "images": [
            {**row, **{key: sorted({numbers[n] for n in row[key] if n in numbers}) for key in lists if key in row}}
            for row in truth["images"]
        ],
        "annotations": [{**row, "category_id": numbers[row["category_id"]]} for row in truth["annotations"]],
        "categories": [{**row, "name": str(row["name"]).strip()} for row in truth["categories"]
                       if numbers[row["id"]] == row["id"]],
    }  # fmt: skip


def _of_images(images: Sequence[AnnotatedImage], names: Sequence[str]) -> DetectionSet:
    """Ground truth made of labelled images, ids counted from 1, none of classes that are unclear."""
    numbers = {name: number for number, name in enumerate(names, 1)}
    unclear = [frozenset(image.incomplete) for image in images]
    images = [_without(image, unknown) if unknown else image for image, unknown in zip(images, unclear, strict=True)]
    objects = [
        (n, label, box, crowd)
        for n, i in enumerate(images, 1)
        for crowd, pairs in ((0, zip(i.labels, i.boxes, strict=True)), (1, i.crowds))
        for label, box in pairs
    ]
    truth = {
        "images": [
            {"id": number, "width": image.size[0], "height": image.size[1], "file_name": image.image.key}
            for number, image in enumerate(images, 1)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": numbers[label],
                "bbox": xywh(box),
                "area": area(box),
                "iscrowd": crowd,
            }
            for number, (image, label, box, crowd) in enumerate(objects, 1)
        ],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
    }
    return DetectionSet(truth, images, unclear=unclear)


def _without(image: AnnotatedImage, classes: Container[str]) -> AnnotatedImage:
    """An image without the objects and crowd regions of some classes."""
    pairs = [(label, box) for label, box in zip(image.labels, image.boxes, strict=True) if label not in classes]
    crowds = tuple((label, box) for label, box in image.crowds if label not in classes)
    return replace(image, labels=tuple(p[0] for p in pairs), boxes=tuple(p[1] for p in pairs), crowds=crowds)


def _only(data: DetectionSet, classes: Sequence[str]) -> DetectionSet:
    """The same images with only these classes."""
    known = {str(row["name"]) for row in data.truth["categories"]}
    for name in classes:
        if name not in known:
            raise ConfigError(
                f"--classes: there is no class {name!r} in the data ({', '.join(sorted(known)[:10])} ...)"
                + comma_hint(name, sorted(known))
            )
    categories = [row for row in data.truth["categories"] if str(row["name"]) in classes]
    kept = {row["id"] for row in categories}
    annotations = [a for a in data.truth["annotations"] if a["category_id"] in kept]
    others = {name for image in data.images for name in image.labels} - set(classes)
    images = [_without(image, others) for image in data.images]
    return replace(data, truth={**data.truth, "annotations": annotations, "categories": categories}, images=images)
