"""Facts about model families: one entry each, no behaviour.

Decision: a family is looked up by the ``model_type`` of its config. A family that is not listed is refused with the
list of known ones rather than guessed: a wrong coordinate space makes every IoU reward zero without any error.
"""

from __future__ import annotations

from dataclasses import dataclass

from visual_rft.errors import ModelError
from visual_rft.vision.coordinates import CoordinateSpace


@dataclass(frozen=True)
class Family:
    """What differs between model families.

    Attributes:
        space: units in which the family writes boxes.
        vision_modules: dotted name parts of the vision tower and projector (frozen by ``freeze_vision``, never
            touched by LoRA).
        lora_targets: names of the language model's linear layers that LoRA adapts.
    """

    space: CoordinateSpace
    vision_modules: tuple[str, ...] = ("visual",)
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family(CoordinateSpace.RELATIVE_1000),
    "qwen2_5_vl": Family(CoordinateSpace.PROCESSED_PIXELS),
    "qwen3_vl": Family(CoordinateSpace.RELATIVE_1000),
}


def family_of(model_type: str) -> Family:
    """The facts about the family whose config says ``model_type``.

    Raises:
        ModelError: if the family is not listed.
    """
    if model_type not in FAMILIES:
        raise ModelError(f"model family {model_type!r} is not supported (known: {', '.join(sorted(FAMILIES))})")
    return FAMILIES[model_type]
