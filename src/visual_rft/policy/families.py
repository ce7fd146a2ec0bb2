"""Facts about model families: one entry each, no behaviour.

Decision: a family is looked up by the ``model_type`` of its config. A family that is not listed is refused with the
list of known ones rather than guessed: a wrong coordinate space makes every IoU reward zero without any error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from visual_rft.errors import ModelError
from visual_rft.vision.coordinates import CoordinateSpace


class PixelLayout(Enum):
    """How the processor lays out the pixel values of several prompts along the first axis."""

    PATCHES = "patches"
    """Patches of any number per image, counted by ``image_grid_thw``."""
    TILES = "tiles"
    """Images or tiles of one size, with the same number of image tokens each."""
    PROMPTS = "prompts"
    """One entry per prompt."""


@dataclass(frozen=True)
class Family:
    """What differs between model families.

    Attributes:
        space: units in which the family writes boxes.
        vision_modules: dotted name parts of the vision tower and projector (frozen by ``freeze_vision``, never
            touched by LoRA).
        pixels: layout of the pixel values.
        axes: position axes; 3 where image tokens have time, row and column.
        lora_targets: names of the language model's linear layers that LoRA adapts.
    """

    space: CoordinateSpace
    vision_modules: tuple[str, ...] = ("visual",)
    pixels: PixelLayout = PixelLayout.PATCHES
    axes: int = 3
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def is_vision(self, name: str) -> bool:
        """Whether a parameter or module of this dotted name belongs to the vision tower or projector."""
        return any(part in self.vision_modules for part in name.split("."))


FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family(CoordinateSpace.RELATIVE_1000),
    "qwen2_5_vl": Family(CoordinateSpace.PROCESSED_PIXELS),
    "qwen3_vl": Family(CoordinateSpace.RELATIVE_1000),
    # InternVL was taught 0..1000; SmolVLM and LLaVA write no boxes of their own, the prompt asks for 0..1000.
    "internvl": Family(
        CoordinateSpace.RELATIVE_1000, ("vision_tower", "multi_modal_projector"), PixelLayout.TILES, axes=1
    ),
    "llava": Family(
        CoordinateSpace.RELATIVE_1000, ("vision_tower", "multi_modal_projector"), PixelLayout.TILES, axes=1
    ),
    "smolvlm": Family(CoordinateSpace.RELATIVE_1000, ("vision_model", "connector"), PixelLayout.PROMPTS, axes=1),
}


def family_of(model_type: str) -> Family:
    """The facts about the family whose config says ``model_type``.

    Raises:
        ModelError: if the family is not listed.
    """
    if model_type not in FAMILIES:
        raise ModelError(f"model family {model_type!r} is not supported (known: {', '.join(sorted(FAMILIES))})")
    return FAMILIES[model_type]
