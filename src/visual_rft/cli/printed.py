"""What verbs print for people, where ``--json`` would print the same as JSON.

Decision: pure functions from the JSON object to text, so that both say the same. A list is cut where a terminal would
scroll, and says by how much.

>>> print(made_text({"out": "cats4", "images": 4, "images_per_class": {"cat": 4}, "left_out": {}}))
out       cats4
images    4
<BLANKLINE>
class  images
cat         4
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visual_rft.errors import printable

MAX_ROWS = 40
"""Rows of a table on a terminal; LVIS has 1,203 classes."""


def columns(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows in columns, the first to the left and the others to the right, at most ``MAX_ROWS`` of them.

    >>> print(columns(["class", "images"], [["cat", 10], ["dog", 9]]))
    class  images
    cat        10
    dog         9
    """
    shown = [[printable(str(cell)) for cell in row] for row in [head, *rows[:MAX_ROWS]]]
    widths = [max(len(row[n]) for row in shown) for n in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in shown
    ]
    more = [f"... and {len(rows) - MAX_ROWS} more (--json prints all)"] if len(rows) > MAX_ROWS else []
    return "\n".join(line.rstrip() for line in [*lines, *more])


def pairs(values: Mapping[str, Any]) -> str:
    """Names and values, a line each."""
    width = max(8, *(len(name) for name in values))
    return "\n".join(
        f"{printable(name.replace('_', ' ')):<{width}}  {printable(str(value), lines=name == 'answer', limit=None)}"
        for name, value in values.items()
    )


def made_text(result: Mapping[str, Any]) -> str:
    """What ``data few-shot``, ``open-vocabulary`` and ``convert`` made."""
    facts = {name: value for name, value in result.items() if not isinstance(value, Mapping)}
    parts = {
        name: value for name, value in result.items() if isinstance(value, Mapping) and "images_per_class" in value
    }
    parts = parts or {"": result}
    texts = []
    for name, part in parts.items():
        if name:
            texts.append(f"{printable(name)}: {part['images']} images, {part['objects']} objects")
        if part.get("images_per_class"):
            texts.append(columns(["class", "images"], list(part["images_per_class"].items())))
    return "\n\n".join([pairs(facts), *texts, *_left_out(result.get("left_out", {}), [])])


def info_text(result: Mapping[str, Any]) -> str:
    """What is in a data set: a block for each part, and what looks alike."""
    texts = []
    for name, part in result["parts"].items():
        facts = {
            "images": f"{part['images']}, {part['images_without_objects']} of them without objects",
            "objects": part["objects"],
            **({"expressions": part["expressions"]} if part["expressions"] else {}),
            **({"crowd regions": part["crowd_regions"]} if part["crowd_regions"] else {}),
            "width": _range(part["width"]),
            "height": _range(part["height"]),
            "box side": _range(part["box_side"]),
        }
        texts.append(f"{printable(name)}\n{pairs({key: value for key, value in facts.items() if value != ''})}")
        if part["classes"]:
            rows = [[label, row["images"], row["objects"]] for label, row in part["classes"].items()]
            texts.append(columns(["class", "images", "objects"], rows))
        texts += _left_out(part["left_out"], part["left_out_examples"])
        if part["unreadable_images"]:
            listed = "\n".join(f"  {printable(str(text))}" for text in part["unreadable_examples"])
            texts.append(f"{part['unreadable_images']} images cannot be read:\n{listed}")
    alike = result["near_duplicates"]
    if alike["across"] or alike["within"]:
        listed = "\n".join(f"  {printable(str(one))}  =  {printable(str(other))}" for one, other in alike["pairs"])
        texts.append(
            f"near-duplicates: {alike['across']} pairs across parts, {alike['within']} within a part\n{listed}"
        )
    else:
        texts.append("near-duplicates: none")
    return "\n\n".join(texts)


def answer_text(result: Mapping[str, Any]) -> str:
    """One answer about one image."""
    facts = {"asked": result["ask"], "answer": _answer(result["answer"]), "picture": result["picture"]}
    if result["failure"]:
        facts["answer"] = f"could not be read: {result['failure']}"
    if result["notes"]:
        facts["notes"] = "; ".join(result["notes"])
    return f"{pairs(facts)}\n\nthe model wrote:\n{printable(result['text'], limit=None)}"


def files_text(result: Mapping[str, Any]) -> str:
    """Answers about many images."""
    facts = {name: result[name] for name in ("images", "questions", "boxes", "folder")}
    texts = [pairs(facts)]
    if result["failures"]:
        rows = sorted(result["failures"].items(), key=lambda pair: -pair[1])
        texts.append(columns(["answers that could not be read", "times"], rows))
    if result["unreadable"]:
        listed = "\n".join(f"  {printable(str(text))}" for text in result["unreadable"])
        texts.append(f"{len(result['unreadable'])} images cannot be read:\n{listed}")
    return "\n\n".join(texts)


def _answer(answer: Any) -> str:
    """An answer in words: a box a line, its corners rounded to pixels."""
    if isinstance(answer, Mapping) and "boxes" in answer:
        if not answer["boxes"]:
            return "no objects"
        confidences = answer.get("scores") or answer.get("confidence") or [None] * len(answer["boxes"])
        rows = [
            f"{_box(box)}" + (f"  confidence {confidence:.2f}" if confidence is not None else "")
            for box, confidence in zip(answer["boxes"], confidences, strict=True)
        ]
        return ("\n" + " " * 10).join(rows)
    if isinstance(answer, (list, tuple)) and len(answer) == 4 and all(isinstance(v, (int, float)) for v in answer):
        return _box(answer)
    return str(answer)


def _box(box: Sequence[float]) -> str:
    return f"box {', '.join(f'{v:.0f}' for v in box)} (pixels)"


def _range(values: Sequence[float]) -> str:
    """Least, median and greatest in pixels; empty where there is nothing."""
    return f"{values[0]:g} to {values[2]:g} pixels, median {values[1]:g}" if values else ""


def _left_out(counts: Mapping[str, int], examples: Sequence[Any]) -> list[str]:
    if not counts:
        return []
    rows = "\n".join(f"  {times} x {printable(reason)}" for reason, times in counts.items())
    quoted = "".join(f"\n  {printable(str(text))}" for text in examples)
    return [f"left out:\n{rows}{quoted}"]
