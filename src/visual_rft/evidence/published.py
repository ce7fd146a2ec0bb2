"""What a real run of each experiment is compared with: configs by name, and the numbers of arXiv 2503.01785.

Decision: the numbers are printed with the model and data they are of, and never beside numbers of the embedded model
in one table: only the same model on the same data can be compared.

>>> print(published("reasoning-grounding").splitlines()[0])
reasoning-grounding with a real model
"""

from __future__ import annotations

from collections.abc import Sequence

_Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]

CONFIGS: dict[str, tuple[str, ...]] = {
    "few-shot-detection": ("few-shot-coco", "few-shot-lvis", "few-shot-mg"),
    "few-shot-classification": ("flowers102", "pets37", "fgvc-aircraft", "cars196"),
    "open-vocabulary": ("open-coco", "open-lvis"),
    "reasoning-grounding": ("lisa",),
    "ablations": ("few-shot-coco",),
}
"""The configs of real models for each experiment, as in ``visual-rft configs``."""

_SHOTS = ("method", "1", "2", "4", "8", "16 shots")
TABLES: dict[str, tuple[_Table, ...]] = {
    "few-shot-detection": (
        (
            "COCO, 8 classes, mAP, Qwen2-VL-2B",
            _SHOTS,
            (
                ("base", 19.6, 19.6, 19.6, 19.6, 19.6),
                ("SFT", 19.5, 21.0, 25.2, 30.2, 31.3),
                ("Visual-RFT", 33.6, 41.5, 40.6, 47.4, 46.8),
            ),
        ),
        ("COCO, 8 classes, 4 shots, mAP, Qwen2-VL-7B", ("base", "SFT", "Visual-RFT"), ((43.0, 44.1, 54.3),)),
        (
            "LVIS, 6 rare classes, 10 shots, mAP",
            ("model", "base", "SFT", "Visual-RFT"),
            (("Qwen2-VL-2B", 4.0, 10.0, 19.4), ("Qwen2-VL-7B", 15.4, 27.6, 33.8)),
        ),
        (
            "MG, 5 classes out of domain, mAP, Qwen2-VL-2B (base 20.6)",
            ("shots", "SFT", "Visual-RFT"),
            (("4", 26.8, 61.8), ("16", 51.3, 63.4)),
        ),
    ),
    "few-shot-classification": (
        (
            "mean accuracy over Flowers102, Pets37, FGVC-Aircraft and Cars196, Qwen2-VL-2B",
            _SHOTS,
            (
                ("base", 56.0, 56.0, 56.0, 56.0, 56.0),
                ("SFT", 51.7, 58.8, 55.6, 60.3, 64.0),
                ("Visual-RFT", 80.3, 83.5, 81.9, 85.1, 85.3),
            ),
        ),
    ),
    "open-vocabulary": (
        (
            "COCO, trained on 65 base classes, mAP of 15 novel, 65 base and all classes, Qwen2-VL-2B",
            ("method", "novel", "base", "all"),
            (("base", 9.8, 6.0, 6.7), ("SFT", 13.6, 7.8, 8.9), ("Visual-RFT", 31.3, 20.6, 22.6)),
        ),
        ("LVIS, 13 rare classes, mAP, Qwen2-VL-2B", ("base", "SFT", "Visual-RFT"), ((2.7, 7.6, 20.7),)),
    ),
    "reasoning-grounding": (
        (
            "LISA, Qwen2-VL-2B",
            ("method", "mIoU test", "mIoU val", "gIoU test"),
            (("base", 26.9, 30.1, 25.3), ("SFT", 28.3, 29.7, 25.3), ("Visual-RFT", 37.6, 34.4, 34.4)),
        ),
    ),
    "ablations": (),
}
"""Published numbers, in percent."""


def published(name: str) -> str:
    """Configs and published numbers of one experiment, as text."""
    lines = [f"{name} with a real model"]
    lines += [f"  visual-rft train qwen2-vl-2b/{config}" for config in CONFIGS[name]]
    if not TABLES[name]:
        lines.append("  nothing is published under this name")
    for title, heading, rows in TABLES[name]:
        lines += ["", f"  {title} (arXiv 2503.01785)"]
        width = [max(len(str(row[i])) for row in (heading, *rows)) for i in range(len(heading))]
        for row in (heading, *rows):
            cells = [
                f"{row[i]!s:<{width[i]}}" if isinstance(row[i], str) else f"{row[i]!s:>{width[i]}}"
                for i in range(len(row))
            ]
            lines.append("  " + "   ".join(cells).rstrip())
    return "\n".join(lines)
