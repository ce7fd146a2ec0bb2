"""The class lists of the published splits (arXiv 2503.01785), by name.

>>> preset("lvis-6").shots, len(preset("coco-65-15").classes)
(10, 15)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visual_rft.errors import ConfigError, DataError


@dataclass(frozen=True)
class Preset:
    """Class lists of a published split (arXiv 2503.01785).

    Attributes:
        classes: what few-shot training asks about, or the novel classes of an open-vocabulary split.
        shots: images per class of the published few-shot set; None where it has several.
        open_vocabulary: whether ``classes`` are novel and every other class of the data is base.
        base_count: how many base classes the data must then have; None where the data decide.
    """

    classes: tuple[str, ...]
    shots: int | None = None
    open_vocabulary: bool = False
    base_count: int | None = None


PRESETS: Mapping[str, Preset] = {
    "coco-8": Preset(("bus", "train", "fire hydrant", "stop sign", "cat", "dog", "bed", "toilet")),
    "coco-65-15": Preset(
        ("mouse", "fork", "hot dog", "cat", "airplane", "suitcase", "parking meter", "sandwich", "train", "hair drier",
         "toilet", "toaster", "snowboard", "frisbee", "bear"),
        open_vocabulary=True,
        base_count=65,
    ),
    "lvis-6": Preset(("horse_buggy", "die", "kitchen_table", "omelet", "papaya", "stepladder"), shots=10),
    "lvis-13": Preset(
        ("casserole", "die", "egg_roll", "futon", "garbage", "handsaw", "hippopotamus", "kitchen_table", "mallet",
         "omelet", "shot_glass", "stepladder", "sugar_bowl"),
        open_vocabulary=True,
    ),
}  # fmt: skip


def preset(name: str) -> Preset:
    """The published split called ``name``.

    Raises:
        ConfigError: if there is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` as they are, or the classes of the published split that the only one of them is called.

    >>> class_names(["lvis-6"])[:2], class_names(["cat", "dog"])
    (('horse_buggy', 'die'), ('cat', 'dog'))
    """
    return PRESETS[names[0]].classes if len(names) == 1 and names[0] in PRESETS else tuple(names)


def check_base_count(split: str, count: int) -> None:
    """Compare the number of base classes with that of the published split, if ``split`` is one.

    Raises:
        DataError: if they differ.
    """
    wanted = PRESETS[split].base_count if split in PRESETS else None
    if wanted not in (None, count):
        raise DataError(
            f"preset {split} has {wanted} base classes, but the data have {count} besides the novel ones; name the "
            "novel and the base classes instead"
        )
