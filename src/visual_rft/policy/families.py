"""Facts about model families: one entry each, no behaviour.

Decision: a family is looked up by the ``model_type`` of its config. A family that is not listed is refused until its
facts are in the config (``model.family``) rather than guessed: a wrong coordinate space makes every IoU reward zero
without any error. What a checkpoint says itself (patch size, image token, special tokens) is read from its files.

>>> FAMILIES["qwen2_5_vl"].space.value
'processed_pixels'
>>> FAMILIES["qwen2_vl"].is_vision("model.visual.blocks.0.attn.qkv"), FAMILIES["qwen2_vl"].is_vision("lm_head")
(True, False)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from visual_rft.config.sections import FamilyConfig
from visual_rft.errors import ModelError
from visual_rft.vision.coordinates import CoordinateSpace


class PixelLayout(StrEnum):
    """How the processor lays out the pixel values of several prompts along the first axis."""

    PATCHES = "patches"
    """Patches of any number per image, counted by ``image_grid_thw``; the processor obeys pixel limits."""
    TILES = "tiles"
    """Images or tiles of one size, with the same number of image tokens each."""
    IMAGES = "images"
    """One entry per image, its tiles inside, padded to the most tiles."""
    PROMPTS = "prompts"
    """One entry per prompt, its tiles inside."""


class Reading(StrEnum):
    """What a token of a prompt sees."""

    CAUSAL = "causal"
    """Every token sees those before it: a prompt can be computed once and continued."""
    IMAGES = "images"
    """Tokens of one image see each other too."""
    PROMPT = "prompt"
    """Tokens of the prompt see the whole prompt."""


@dataclass(frozen=True)
class Family:
    """What differs between model families.

    Attributes:
        space: units in which the family writes boxes.
        notation: how it was taught to be asked for boxes and to write them
            (:data:`visual_rft.tasks.parsing.notations.NOTATIONS`).
        tower: dotted names of the vision tower, somewhere in a parameter's name.
        projector: dotted names of what turns its features into tokens.
        pixels: layout of the pixel values.
        axes: position axes; 3 where image tokens have time, row and column.
        reading: which other tokens a token of a prompt sees.
        type_ids: name of the tensor that tells the model image tokens (or, with ``Reading.PROMPT``, the completion)
            from the rest; None where it takes none.
        chat: whether prompts go through a chat template; without one a prompt is images, start token, text, line end.
        lora_targets: names of the language model's linear layers that LoRA adapts.
    """

    space: CoordinateSpace
    tower: tuple[str, ...] = ("visual",)
    projector: tuple[str, ...] = ("visual.merger", "visual.deepstack_merger_list")
    pixels: PixelLayout = PixelLayout.PATCHES
    axes: int = 3
    reading: Reading = Reading.CAUSAL
    type_ids: str | None = "mm_token_type_ids"
    chat: bool = True
    notation: str = "lists"
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def is_vision(self, name: str) -> bool:
        """Whether a parameter or module of this dotted name belongs to the vision tower or projector."""
        return _within(name, self.tower) or self.is_projector(name)

    def is_projector(self, name: str) -> bool:
        """Whether a parameter or module of this dotted name belongs to the projector."""
        return _within(name, self.projector)

    def is_causal(self, model_config: Any) -> bool:
        """Whether every token sees the whole text before it and nothing else, as the shared prefix assumes."""
        kinds = getattr(model_config.get_text_config(), "layer_types", None) or ["full_attention"]
        return self.reading is Reading.CAUSAL and set(kinds) == {"full_attention"}


def _within(name: str, places: tuple[str, ...]) -> bool:
    return any(f".{place}." in f".{name}." for place in places)


_LINEAR = ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj")
_SPACE = CoordinateSpace.RELATIVE_1000
# SmolVLM, Idefics3, LLaVA, LLaVA-OneVision and Gemma 3 were published without a box format of their own: the prompt
# asks them for 0..1000. All but LLaVA, which sees the centre of an image, see the whole of it, so relative units hold.
_QWEN3 = Family(_SPACE, notation="bbox_2d")
_QWEN3_5 = replace(_QWEN3, projector=("visual.merger",), lora_targets=(*_QWEN3.lora_targets, *_LINEAR))
_IDEFICS = Family(_SPACE, ("vision_model",), ("connector",), PixelLayout.PROMPTS, axes=1, type_ids=None)
_LLAVA = Family(
    _SPACE, ("vision_tower",), ("multi_modal_projector",), PixelLayout.TILES, axes=1, type_ids=None
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family(_SPACE, projector=("visual.merger",), notation="box_tokens"),
    "qwen2_5_vl": Family(CoordinateSpace.PROCESSED_PIXELS, projector=("visual.merger",), notation="bbox_2d"),
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
    "internvl": replace(_LLAVA, notation="ref_tags"),
    "smolvlm": _IDEFICS,
    "idefics3": _IDEFICS,
    "llava": _LLAVA,
    "llava_onevision": replace(_LLAVA, projector=("multi_modal_projector", "image_newline"), pixels=PixelLayout.IMAGES),
    "gemma3": replace(_LLAVA, reading=Reading.IMAGES, type_ids="token_type_ids"),
    "paligemma": replace(
        _LLAVA,
        space=CoordinateSpace.LOCATION_TOKENS,
        notation="location_tokens",
        reading=Reading.PROMPT,
        type_ids="token_type_ids",
        chat=False,
    ),
}


def family_of(model_type: str, given: FamilyConfig | None = None) -> Family:
    """The facts about the family whose config says ``model_type``.

    Args:
        model_type: the family's name in the model's ``config.json``.
        given: the user's own facts; each replaces the listed one, and all of them describe a family that is not listed.

    Raises:
        ModelError: if the family is not listed and ``given`` leaves out what cannot be guessed.
    """
    facts = given.model_dump(exclude_none=True) if given is not None else {}
    if "coordinates" in facts:
        facts["space"] = CoordinateSpace(facts.pop("coordinates"))
    for name, kind in (("pixels", PixelLayout), ("reading", Reading)):
        if name in facts:
            facts[name] = kind(facts[name])
    if model_type in FAMILIES:
        return replace(FAMILIES[model_type], **facts)
    needed = {"coordinates": "space", "tower": "tower", "projector": "projector", "pixels": "pixels", "axes": "axes"}
    missing = [f"model.family.{key}" for key, name in needed.items() if name not in facts]
    if missing:
        raise ModelError(
            f"model family {model_type!r} is not listed (known: {', '.join(sorted(FAMILIES))}), and its facts are not "
            f"guessed; set {', '.join(missing)} (docs/models.md says what they mean)"
        )
    return Family(**{"type_ids": "mm_token_type_ids" if facts["axes"] == 3 else None, **facts})
