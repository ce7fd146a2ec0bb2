"""Ask about many image files: annotated pictures, and the boxes in COCO format.

Decision: one folder that did not exist before holds everything, and grows while the work goes on:

    predictions/
      pictures/a.png      the answers drawn
      answers.jsonl       one line per picture: every question with text, answer, failure and notes
      predictions.json    COCO results (detection, grounding), for any COCO tool and for visual-rft evaluate detection
      annotations.json    the images and categories that these refer to, without annotations

An image that cannot be read is named and counted, and the others are answered; the command then ends with exit code
1, so that a script notices. With the user's own annotations, predictions bear their image and category ids.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from visual_rft.answering.asking import Asker, Reply
from visual_rft.answering.image_files import Numbering, free_names
from visual_rft.errors import DataError, printable
from visual_rft.files import append_json_lines, write_json
from visual_rft.parallel.meetings import by_first
from visual_rft.parallel.processes import here
from visual_rft.vision.drawing import save_picture
from visual_rft.vision.images import ImageFile


@dataclass
class Tally:
    """What has been done so far."""

    images: int = 0
    unreadable: list[str] = field(default_factory=list)
    boxes: int = 0
    failures: Counter[str] = field(default_factory=Counter)


def predict_files(
    asker: Asker,
    files: Sequence[Path],
    asks: Sequence[str],
    out: Path,
    numbering: Numbering,
    batch: int = 8,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[str, Any]:
    """Ask every question about every file; writes the folder that the module's docstring shows. Several processes share
    the files of a batch, and the first one writes.

    Args:
        asker: the model.
        files: image files.
        asks: things to find or name.
        out: a folder that does not exist yet.
        numbering: ids of images and categories in the COCO files.
        batch: greatest number of pictures that are open, and of questions that are answered, at once.
        progress: function that is called with the number of files that are newly done.

    Returns:
        ``images`` answered, ``questions``, ``boxes``, ``failures`` by reason, ``unreadable`` files and the ``folder``.

    Raises:
        DataError: if the folder exists or cannot be written, or if none of the files can be read.
    """
    by_first(partial(_make, out), "the folder of the answers")
    tally, results, images = Tally(), [], []
    names = free_names(files)
    for start in range(0, len(files), batch):
        opened: list[tuple[Path, Image.Image]] = []
        for file in files[start : start + batch]:
            try:
                picture = ImageFile(file).load()
                asker.try_image(str(file), picture)
                opened.append((file, picture))
            except DataError as error:
                tqdm.write(f"warning: {printable(str(error))}; left out", file=sys.stderr)  # above the progress bar
                tally.unreadable.append(str(error))
        replies = asker.ask([(str(file), picture) for file, picture in opened], asks, batch)
        for (file, picture), row in zip(opened, replies, strict=True):
            drawn = f"pictures/{names[file]}"
            size = {"width": picture.width, "height": picture.height}
            images.append({"id": numbering.images[file], "file_name": str(file), **size})
            boxes = [box for reply in row for box in _results(reply, numbering.images[file], numbering.categories)]
            results += boxes
            line = {"file": str(file), "picture": drawn, "answers": [reply._asdict() for reply in row]}
            if here().first:
                save_picture(asker.draw(picture, row), out / drawn)
                append_json_lines(out / "answers.jsonl", [line], DataError)
            tally.images += 1
            tally.boxes += len(boxes)
            tally.failures.update(reply.failure for reply in row if reply.failure)
        progress(len(files[start : start + batch]))
    categories = [{"id": identity, "name": ask} for ask, identity in numbering.categories.items()]
    if here().first:
        write_json(out / "annotations.json", {"images": images, "annotations": [], "categories": categories}, DataError)
        write_json(out / "predictions.json", results, DataError)
    if not tally.images:
        raise DataError(f"none of {len(files)} images could be read; the first: {tally.unreadable[0]}")
    return {
        "images": tally.images,
        "questions": tally.images * len(asks),
        "boxes": tally.boxes,
        "failures": dict(tally.failures),
        "unreadable": tally.unreadable,
        "folder": str(out),
    }


def _make(out: Path) -> None:
    try:
        (out / "pictures").mkdir(parents=True)
    except FileExistsError:
        raise DataError(f"{out}: exists already; choose another --out, or delete it") from None
    except OSError as error:
        raise DataError(f"{out}: cannot be made ({error.strerror})") from None


def _results(reply: Reply, image: Any, categories: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The boxes of one answer as COCO results; one box without a confidence has score 1."""
    if isinstance(reply.answer, Mapping) and "boxes" in reply.answer:
        boxes, scores = reply.answer["boxes"], reply.answer.get("scores", reply.answer["confidence"])
    elif isinstance(reply.answer, list):
        boxes, scores = [reply.answer], [1.0]
    else:
        return []
    return [
        {"image_id": image, "category_id": categories[reply.ask], "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for (x1, y1, x2, y2), score in zip(boxes, scores, strict=True)
    ]
