"""What a real run of each experiment is compared with: configs by name, and the numbers of arXiv 2503.01785.

Decision: the numbers stand in the package's configs, with the model and data they are of, and never beside numbers of
the embedded model in one table: only the same model on the same data can be compared.

>>> print(published("reasoning-grounding").splitlines()[0])
reasoning-grounding with a real model
"""

from __future__ import annotations

from dataclasses import dataclass

from visual_rft.config.compose import Published, compose

CONFIGS: dict[str, tuple[str, ...]] = {
    "few-shot-detection": ("few-shot-coco", "few-shot-lvis", "few-shot-mg"),
    "few-shot-classification": ("flowers102", "pets37", "fgvc-aircraft", "cars196"),
    "scores": (),
    "open-vocabulary": ("open-coco", "open-lvis"),
    "reasoning-grounding": ("lisa",),
    "ablations": (),
    "why-flat": (),
    "joint": (),
    "objectives-detection": (),
    "objectives-grounding": (),
    "objectives-classification": (),
}
"""The experiments of the configs behind each miniature; nothing is published of the others."""
MODELS = ("qwen2-vl-2b", "qwen2-vl-7b")
"""The models that the paper has numbers of."""


@dataclass(frozen=True)
class Target:
    """A number to compare a real run with.

    Attributes:
        task: what is measured, 0..100.
        model: the model behind it.
        number: what was reached.
        how: by what.
        protocol: on what, and asked how.
        source: where it is published.
    """

    task: str
    model: str
    number: float
    how: str
    protocol: str
    source: str


_COCO = "val2017, 8 classes, one question per class that is there, 4 labelled images per class"
_PAPER = "arXiv 2503.01785"
_DIRECT = "arXiv 2503.16188"
_LISTED = "listed by this project; not checked in its source"
_MASKS = "test split, boxes given to a segmenter"
_FOUR = "4 labelled images per class, mean of Flowers102, Pets37, Aircraft and Cars196"
_FINE = "fine-grained, accuracy, 4 shots"
TARGETS = (
    Target("COCO-8, mAP", "Qwen2-VL-2B", 40.6, "RFT", _COCO, _PAPER),
    Target("COCO-8, mAP", "Qwen2-VL-2B", 43.72, "RFT without thinking", _COCO, f"{_DIRECT}; {_LISTED}"),
    Target("COCO-8, mAP", "Qwen2-VL-7B", 54.3, "RFT", _COCO, _PAPER),
    Target("COCO-8, mAP", "Qwen2-VL-7B", 54.99, "RFT without thinking", _COCO, f"{_DIRECT}; {_LISTED}"),
    Target("ReasonSeg, gIoU", "Qwen2-VL-2B", 34.4, "RFT on 239 images", _MASKS, _PAPER),
    Target("ReasonSeg, gIoU", "an 8B", 70.8, "reinforcement", "test split", _LISTED),
    Target(_FINE, "Qwen2-VL-2B", 81.9, "RFT", _FOUR, _PAPER),
    Target(_FINE, "a 7B", 67.0, "RFT", "4 labelled images per class", f"{_DIRECT}; {_LISTED}"),
    Target(_FINE, "a 7B", 74.75, "RFT without thinking", "4 labelled images per class", f"{_DIRECT}; {_LISTED}"),
)
"""What a real run is to be compared with, the same model, data and protocol given."""


def targets() -> str:
    """:data:`TARGETS` as a Markdown table."""
    lines = ["| task | model | | by | protocol | source |", "|---|---|---|---|---|---|"]
    lines += [f"| {t.task} | {t.model} | {t.number:g} | {t.how} | {t.protocol} | {t.source} |" for t in TARGETS]
    return "\n".join(lines)


def published(name: str) -> str:
    """Commands and published numbers of one experiment, as text."""
    lines = [f"{name} with a real model"]
    for experiment in CONFIGS[name]:
        for model in MODELS:
            composed = compose(f"{model}/{experiment}")
            assert composed is not None
            if composed.published:
                lines += ["", f"  {composed.command()}", f"  needs {composed.needs}"]
                lines += [f"  published: {_row(row)}" for row in composed.published]
    if not CONFIGS[name]:
        lines.append("  nothing is published under this name")
    return "\n".join(lines)


def _row(row: Published) -> str:
    numbers = {"base": row.base, "SFT": row.sft, "RFT": row.rft}
    values = "  ".join(f"{name} {value:.1f}" for name, value in numbers.items() if value is not None)
    return f"{row.measure}{f', {row.setting}' if row.setting else ''}: {values}"
