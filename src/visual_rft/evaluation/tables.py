"""Results for people: tables that name their protocol, a picture of a confusion matrix, a progress bar.

>>> results = [{"model": "a", "protocol": "all", "AP": 0.25}, {"model": "b", "protocol": "all", "AP": 0.5}]
>>> differences = [{"AP": {"difference": 0.25, "interval": [0.1, 0.4]}}]
>>> print(comparison_table(results, differences, ("AP",), "40 images"))
| protocol: all, 40 images | 1: a | 2: b | 2 - 1 (95 %) |
|---|---|---|---|
| AP | 0.250 | 0.500 | +0.250 [+0.100, +0.400] |
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from visual_rft.errors import printable

MAX_SIDE_PIXELS = 1600
"""Pixels a side of a confusion matrix without its labels, at most."""


def result_table(result: Mapping[str, Any], names: Sequence[str]) -> str:
    """The numbers of one model with their intervals."""
    heading = f"protocol: {result['protocol']}, {result['n_images']} images, {result['n_questions']} questions"
    rows = [f"| {heading} | {printable(result['model'])} | 95 % |", "|---|---|---|"]
    rows += [f"| {name} | {_number(result[name])} | {_ends(result, name)} |" for name in names]
    if "classes" in result:
        rows += [
            f"| classes said: {k} | {_number(result['classes'][k])} | |" for k in ("parse_rate", "recall", "precision")
        ]
    return "\n".join(rows)


def comparison_table(
    results: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]], names: Sequence[str], what: str
) -> str:
    """Several models on the same images, and what each later one has more than the first.

    Args:
        results: the result of each model.
        differences: the differences of each model after the first: ``difference`` and ``interval`` by name.
        names: the numbers to show.
        what: words for the heading, after the protocol.
    """
    columns = [f"{n}: {printable(result['model'])}" for n, result in enumerate(results, 1)]
    columns += [f"{n} - 1 (95 %)" for n in range(2, len(results) + 1)]
    rows = [
        f"| protocol: {results[0]['protocol']}, {what} | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in names:
        cells = [_number(result[name]) for result in results]
        for row in differences:
            ends = row[name]["interval"]
            spread = f" [{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else ""
            more = row[name]["difference"]
            cells.append("undefined" if more is None else f"{more:+.3f}{spread}")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _number(value: Any) -> str:
    return "undefined" if value == -1 else f"{value:.3f}"


def _ends(result: Mapping[str, Any], name: str) -> str:
    ends = result["intervals"].get(name)
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "undefined"


def confusion_picture(confusion: Mapping[str, Mapping[str, int]], title: str) -> Image.Image:
    """True classes as rows, given names as columns; the darker a cell, the larger its share of the row.

    Args:
        confusion: times each true class (outer) was called what (inner).
        title: text above the picture.
    """
    confusion = {printable(k): {printable(said): n for said, n in row.items()} for k, row in confusion.items()}
    rows = sorted(confusion)
    columns = rows + sorted({said for row in confusion.values() for said in row} - set(rows))
    cell = max(4, min(40, MAX_SIDE_PIXELS // len(columns)))
    font = ImageFont.load_default(size=max(9, min(14, cell - 2)))
    left = 12 + max(round(font.getlength(name)) for name in rows)
    top = 36 + max(round(font.getlength(name)) for name in columns)
    picture = Image.new("RGB", (max(left + cell * len(columns) + 8, 420), top + cell * len(rows) + 8), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    draw.text((6, 6), title, fill=(0, 0, 0), font=ImageFont.load_default(size=14))
    for n, name in enumerate(columns):
        if cell >= 9:  # narrower columns than letters would be unreadable
            label = Image.new("RGB", (round(font.getlength(name)) + 2, cell), (255, 255, 255))
            ImageDraw.Draw(label).text((0, 0), name, fill=(0, 0, 0), font=font)
            turned = label.rotate(90, expand=True)
            picture.paste(turned, (left + n * cell, top - 4 - turned.height))
    for m, name in enumerate(rows):
        if cell >= 9:
            draw.text((6, top + m * cell), name, fill=(0, 0, 0), font=font)
        total = sum(confusion[name].values())
        for n, said in enumerate(columns):
            times = confusion[name].get(said, 0)
            share = times / total
            right = said == name
            colour = tuple(round(255 - share * (255 - part)) for part in ((20, 110, 60) if right else (170, 30, 30)))
            place = (left + n * cell, top + m * cell, left + (n + 1) * cell - 1, top + (m + 1) * cell - 1)
            draw.rectangle(place, fill=colour, outline=(225, 225, 225) if cell >= 9 else None)
            if times and cell >= 20:
                draw.text((place[0] + 3, place[1] + 2), str(times), fill=(0, 0, 0) if share < 0.5 else (255, 255, 255),
                          font=font)  # fmt: skip
    return picture


def progress_bar(images: int, model: str) -> Any:
    """On standard error; every half second on a terminal, every half minute in a log."""
    every = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=images, desc=printable(model), unit="image", mininterval=every, file=sys.stderr, dynamic_ncols=True
    )
