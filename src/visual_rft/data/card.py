"""The card of a data set that was written: what is in it, how it was made, how to load it.

Decision: counts and classes are those of what was written. What only a person knows (licence, where the pictures come
from) is marked TO DO instead of guessed, as in a model's card, and the heading is what hubs read.

>>> dataset = Dataset([], ("cat",))
>>> print(dataset_card("cats", "coco", {"": dataset}, "4 images per class", licence="mit").splitlines()[1])
license: mit
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.errors import printable

CARD = "README.md"
MAX_CLASSES = 200
"""Rows of the table of classes; LVIS has 1,203."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_PYTHON = {
    "imagefolder": 'load_dataset("imagefolder", data_dir={name!r})',
    "parquet": 'load_dataset("parquet", data_files={name!r} + "/data.parquet")',
}
"""How the datasets library loads what it knows."""


def dataset_card(
    name: str,
    form: str,
    parts: Mapping[str, Dataset],
    made: str,
    left_out: Mapping[str, int] | None = None,
    licence: str | None = None,
) -> str:
    """The card as Markdown with the front matter that hubs read.

    Args:
        name: of the folder.
        form: format it is written in.
        parts: what was written, by the name of its subfolder; the empty name is the folder itself.
        made: how, in words.
        left_out: how many rows of the source were left out, by reason.
        licence: its name (SPDX, or as the hub spells it); None leaves it to be filled in.
    """
    title = printable(name)
    texts = [
        _front_matter(title, form, parts, licence),
        f"# {title}",
        f"Made with `visual-rft data`: {_plain(made)}.",
        f"## What is in it\n\n{_counts(parts)}",
        *([f"Left out: {_plain(_list(left_out))}."] if left_out else []),
        f"## How to load it\n\n{_loading(title, form, parts)}",
        "## Where it comes from\n\nTO DO: say what the pictures show, where they come from, who labelled them, and "
        "whether people in them agreed.",
        f"## Licence\n\n{_licence(licence)}",
    ]
    return "\n\n".join(texts) + "\n"


def _front_matter(name: str, form: str, parts: Mapping[str, Dataset], licence: str | None) -> str:
    pictures = sum(len(part.images) for part in parts.values())
    fields: dict[str, Any] = {
        "license": licence or "other",
        "pretty_name": name,
        "task_categories": [_category(form, [image for part in parts.values() for image in part.images])],
        "size_categories": [next((text for most, text in _SIZES if pictures < most), "n>1M")],
        "tags": ["visual-rft", form],
    }
    if form == "parquet":
        fields["configs"] = [{"config_name": "default", "data_files": "data.parquet"}]
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _category(form: str, images: Sequence[AnnotatedImage]) -> str:
    if form == "parquet":
        return "visual-question-answering"
    return "object-detection" if any(image.boxes for image in images) else "image-classification"


def _counts(parts: Mapping[str, Dataset]) -> str:
    head = ["images", "objects", "classes"]
    rows = [
        [name, str(len(part.images)), str(sum(len(i.labels) for i in part.images)), str(len(part.classes))]
        for name, part in parts.items()
    ]
    if list(parts) == [""]:
        rows = [row[1:] for row in rows]
    else:
        head = ["part", *head]
    return "\n\n".join([_table(head, rows), *(_classes(name, part) for name, part in parts.items() if part.classes)])


def _classes(name: str, part: Dataset) -> str:
    objects = Counter(label for image in part.images for label in image.labels if label)
    holding = Counter(label for image in part.images for label in set(image.labels) if label)
    rows = [[label, str(holding[label]), str(objects[label])] for label in part.classes[:MAX_CLASSES]]
    more = len(part.classes) - len(rows)
    table = _table([f"class{f' of {name}' if name else ''}", "images", "objects"], rows)
    return f"{table}\n\nAnd {more} more classes." if more > 0 else table


def _loading(name: str, form: str, parts: Mapping[str, Dataset]) -> str:
    rows = [
        f"    - {{source: {form}, path: {json.dumps(f'{name}/{part}' if part else name, ensure_ascii=False)}}}"
        for part in parts
    ]
    texts = ["In a config of visual-rft:", "\n".join(["```yaml", "data:", "  train:", *rows, "```"])]
    if form in _PYTHON:
        call = _PYTHON[form].format(name=name)
        texts += ["In Python:", f"```python\nfrom datasets import load_dataset\n\ndata = {call}\n```"]
    hub = f"hf download NAMESPACE/NAME --repo-type dataset --local-dir {shlex.quote(name)}"
    return "\n\n".join([*texts, "From a hub, first:", f"```sh\n{hub}\n```"])


def _licence(licence: str | None) -> str:
    if licence:
        return f"{_plain(licence)}. It holds for the pictures and the labels."
    return "TO DO: name the licence here and in the heading; it has to agree with that of the pictures."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in counts.items())


def _plain(text: str) -> str:
    """A name as text of Markdown, and never its markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_|<>[]#&" else sign for sign in printable(text))
