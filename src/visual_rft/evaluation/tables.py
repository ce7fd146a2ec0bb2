"""Results for people: tables that name their protocol, a picture of a confusion matrix.

>>> results = [{"model": "a", "protocol": "all", "AP": 0.25}, {"model": "b", "protocol": "all", "AP": 0.5}]
>>> differences = [{"AP": {"difference": 0.25, "interval": [0.1, 0.4]}}]
>>> print(comparison_table(results, differences, ("AP",), "40 images"))
| protocol: all, 40 images | 1: a  | 2: b  | 2 - 1 (95 %)            |
|--------------------------|-------|-------|-------------------------|
| AP                       | 0.250 | 0.500 | +0.250 [+0.100, +0.400] |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from visual_rft.errors import printable
from visual_rft.report.series import label_of
from visual_rft.tasks.metrics.calibration import unstated_text

MAX_SIDE_PIXELS = 1600
"""Pixels a side of a confusion matrix without its labels, at most."""


def evaluation_text(result: Mapping[str, Any]) -> str:
    """The result of one model: its numbers with 95 % intervals, the classes, the images with the lowest reward; of
    several tasks one after another."""
    if "tasks" in result:
        return "\n\n".join(f"{called}\n\n{evaluation_text(one)}" for called, one in result["tasks"].items())
    heading = f"protocol: {result['protocol']}, {result['n_images']} images, {result['n_questions']} questions"
    rows = [[text, _number(result[name]), _ends(result, name)] for text, name in labelled(result["intervals"]).items()]
    rows += [[label_of(name), f"{result[name]:.0%}", ""] for name in ("parse_rate", "format_rate") if name in result]
    said = result.get("classes", {})
    rows += [[f"classes said: {k}", _number(said[k]), ""] for k in ("parse_rate", "recall", "precision") if k in said]
    tables = [table([heading, str(result["model"]), "95 %"], rows), _scores(result.get("scores", {}))]
    tables.append(f"{unstated_text(result['unstated'])}." if "unstated" in result else "")
    tables.append(_per_class(result["per_class"]))
    worst = [[row["image"], f"{row['reward']:.3f}", str(row["questions"])] for row in result["worst_images"]]
    tables.append(table(["images with the lowest reward", "reward", "questions"], worst) if worst else "")
    if "folder" in result:
        tables.append(f"answers and results: {result['folder']}")
    return "\n\n".join(part for part in tables if part)


def comparison_text(compared: Mapping[str, Any]) -> str:
    """The result of :func:`visual_rft.evaluation.run.compare`: one table, and where everything is; of several tasks one
    after another."""
    if "tasks" in compared:
        return "\n\n".join(f"{called}\n\n{comparison_text(one)}" for called, one in compared["tasks"].items())
    results, differences = compared["models"], compared["differences"]
    text = comparison_table(results, differences, list(results[0]["intervals"]), f"{results[0]['n_images']} images")
    folders = [f"answers and results of {n}: {row['folder']}" for n, row in enumerate(results, 1) if "folder" in row]
    return "\n".join([text, "", *folders] if folders else [text])


def labelled(names: Iterable[str]) -> dict[str, str]:
    """Labels for people and the name of each, one where two names are of one thing.

    >>> labelled(["mean_iou", "giou", "ciou"])
    {'mean IoU': 'mean_iou', 'cumulative IoU': 'ciou'}
    """
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(label_of(name), name)
    return found


def precision_text(numbers: Mapping[str, float], intervals: Mapping[str, Any], per_class: Mapping[str, Any]) -> str:
    """Scored predictions out of a file.

    Args:
        numbers: COCO's or LVIS's numbers, -1 where undefined.
        intervals: 95 % intervals of some of them; may be empty.
        per_class: AP of each class by its name.
    """
    rows = [[name, _number(value), _ends({"intervals": intervals}, name, "")] for name, value in numbers.items()]
    classes = [[name, _number(ap)] for name, ap in sorted(per_class.items(), key=lambda pair: -pair[1])]
    return f"{table(['number', 'value', '95 %'], rows)}\n\n{table(['class', 'AP'], classes)}"


def _scores(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """AP and calibration by what ranks the boxes; empty where there is but one."""
    if len(kinds) < 2:
        return ""
    rows = [[kind, *(_number(row[name]) for name in ("AP", "AP50", "ece"))] for kind, row in kinds.items()]
    return table(["boxes ranked by", "AP", "AP50", "calibration error"], rows)


def _per_class(numbers: Mapping[str, Mapping[str, float]]) -> str:
    """The classes, the worst last; empty where the task has none."""
    if not numbers:
        return ""
    names = list(next(iter(numbers.values())))
    ordered = sorted(numbers.items(), key=lambda pair: -pair[1][names[0]])
    rows = [[name, *(_count_or_number(n, row[n]) for n in names)] for name, row in ordered]
    return table(["class", *names], rows)


def _count_or_number(name: str, value: float) -> str:
    return str(int(value)) if name == "n" or name.startswith("n_") else _number(value)


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
    rows = []
    for text, name in labelled(names).items():
        cells = [_number(result[name]) for result in results]
        for row in differences:
            ends = row[name]["interval"]
            spread = f" [{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else ""
            more = row[name]["difference"]
            cells.append("undefined" if more is None else f"{more:+.3f}{spread}")
        rows.append([text, *cells])
    return table([f"protocol: {results[0]['protocol']}, {what}", *columns], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are as wide as their longest cell, so that it reads in a terminal as well.

    >>> print(table(["class", "AP"], [["coin", "0.500"]]))
    | class | AP    |
    |-------|-------|
    | coin  | 0.500 |
    """
    head, rows = [printable(cell) for cell in head], [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in [head, *rows]]  # fmt: skip
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _number(value: Any) -> str:
    return "undefined" if value == -1 else f"{value:.3f}"


def _ends(result: Mapping[str, Any], name: str, otherwise: str = "undefined") -> str:
    ends = result["intervals"].get(name)
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]" if ends else otherwise


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
