"""From prompts to what the model reads: chat template, images and tokens. Needs no model, so it can run ahead.

Decision: the images of all prompts go through the processor once per distinct image set, and the placeholders it made
are put into the text of every prompt that asks about them. The result equals the processor's own for each prompt.

    inputs = prepare(prompts, processor, family)
    inputs.tensors["input_ids"].shape        # [B, longest prompt], left-padded
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from visual_rft.errors import DataError, ModelError, PromptTooLongError
from visual_rft.policy.families import Family, Reading
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.tower import Pixels
from visual_rft.tasks.time_limit import within
from visual_rft.vision.coordinates import Frame

TEMPLATE_SECONDS = 10.0
"""Longest time of a chat template for one prompt; a usual one takes a tenth of a millisecond."""


@dataclass(frozen=True)
class Inputs:
    """Prompts after the processor, on the CPU.

    Attributes:
        prompts: B prompts.
        tensors: ``input_ids`` and ``attention_mask`` ``[B, longest prompt]``, left-padded, and the family's types.
        pixels: pixels of the distinct image sets; None if no prompt has an image.
        sets: number of each prompt's image set, -1 without image.
        frames: units of the coordinates of each prompt's first image (None for a prompt without image).
    """

    prompts: tuple[Prompt, ...]
    tensors: Mapping[str, Tensor]
    pixels: Pixels | None
    sets: tuple[int, ...]
    frames: tuple[Frame | None, ...]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [int(n) for n in self.tensors["attention_mask"].sum(1)]

    def check_length(self, context: int, max_new_tokens: int) -> None:
        """Refuse a prompt that leaves no room for its completion; prompts are never truncated.

        Args:
            context: most tokens that the model reads.
            max_new_tokens: most tokens of a completion.

        Raises:
            PromptTooLongError: naming the first such prompt.
        """
        for prompt, length in zip(self.prompts, self.lengths, strict=True):
            if length + max_new_tokens > context:
                raise PromptTooLongError(
                    f"sample {prompt.id!r}: the prompt has {length} tokens and up to {max_new_tokens} are to be "
                    f"sampled, but the model's context is {context}; lower model.max_pixels or "
                    "rollout.max_new_tokens (prompts are never truncated)"
                )

    def used_sets(self, numbers: Sequence[int]) -> list[int]:
        """The image sets that the prompts with these numbers ask about, ascending."""
        return sorted({self.sets[i] for i in numbers if self.sets[i] >= 0})

    def select(self, numbers: Sequence[int]) -> Inputs:
        """The prompts with these numbers alone, in this order, with the images they ask about."""
        index = torch.tensor(list(numbers))
        used = self.used_sets(numbers)
        place = {s: i for i, s in enumerate(used)}
        return Inputs(
            tuple(self.prompts[i] for i in numbers), {name: x[index] for name, x in self.tensors.items()},
            self.pixels.only(used) if self.pixels is not None and used else None,
            tuple(place.get(self.sets[i], -1) for i in numbers), tuple(self.frames[i] for i in numbers),
        )  # fmt: skip


def prepare(prompts: Sequence[Prompt], processor: Any, family: Family, image_token_id: int) -> Inputs:
    """Open the images and run the processor.

    Args:
        prompts: B prompts; texts and images may differ in length, number and size.
        processor: the model's processor.
        family: facts about the model's family.
        image_token_id: id of the token whose place an image feature takes.

    Raises:
        DataError: if an image cannot be opened, or a text contains the family's image placeholder.
        ModelError: if the model's chat template cannot be used.
    """
    texts = [_text(prompt, processor, family) for prompt in prompts]
    first: dict[str, int] = {}
    for i, prompt in enumerate(prompts):
        if prompt.images:
            first.setdefault(prompt.image_key, i)
        places = texts[i].count(processor.image_token)
        if places < len(prompt.images):
            raise ModelError(
                f"the model's chat template makes a prompt with {places} places for {len(prompt.images)} images "
                f"({processor.image_token!r}); take the chat template that came with the model"
            )
        if places > len(prompt.images):
            raise DataError(
                f"sample {prompt.id!r}: the question contains {processor.image_token!r}, which stands for an image; "
                "remove it from the text"
            )
    loaded = [[reference.load() for reference in prompts[i].images] for i in first.values()]
    pixels: Pixels | None = None
    replacements: list[list[str]] = []
    if loaded:
        named = [prompts[i] for i in first.values()]
        batch, replacements = _processed_or_named(named, [texts[i] for i in first.values()], loaded, processor, family)
        token = processor.tokenizer.convert_ids_to_tokens(image_token_id)
        tokens = tuple("".join(each).count(token) for each in replacements)
        names = [name for name in processor.image_processor.model_input_names if name in batch]
        tensors = {name: _tensor(batch[name]) for name in names}
        pixels = Pixels(tensors, tuple(first), tuple(map(len, loaded)), tokens, family.pixels)
    numbers = {key: number for number, key in enumerate(first)}
    sets = tuple(numbers.get(prompt.image_key, -1) for prompt in prompts)
    inserted = [text for s in sets if s >= 0 for text in replacements[s]]
    expanded, _ = processor.get_text_with_replacements(texts, inserted)
    tensors = _left_padded(_tokenized(expanded, processor.tokenizer, family), processor.tokenizer.pad_token_id)
    if family.type_ids is not None:
        tensors[family.type_ids] = _token_types(tensors["input_ids"], processor, family)
    frames = _frames(pixels, [images[0].size for images in loaded], processor, family)
    return Inputs(tuple(prompts), tensors, pixels, sets, tuple(frames[s] if s >= 0 else None for s in sets))


_OPENED = re.compile(r"<think>\s*\Z")


class OpenedReasoning:
    """The ``<think>`` with which some chat templates end every prompt, so that no completion ever holds it itself.

    Decision: a completion is kept, scored and shown as the text with the tag, because that is what the model reads
    before it goes on; what supervised training adds to a prompt is the text without it.

    Args:
        processor: the model's processor.
        family: facts about the model's family.
    """

    def __init__(self, processor: Any, family: Family) -> None:
        self._processor, self._family = processor, family

    @cached_property
    def tag(self) -> str:
        """The tag and the space behind it; empty if the template opens none."""
        found = _OPENED.search(_text(Prompt("", "", ()), self._processor, self._family))
        return found[0] if found else ""

    def whole(self, sampled: Sequence[str]) -> list[str]:
        """What was sampled, with the tag."""
        return [self.tag + text for text in sampled]

    def told(self, completions: Sequence[str]) -> list[str]:
        """What is left to say of whole completions; one without reasoning closes the block at once."""
        if not self.tag:
            return list(completions)
        bare = [text.removeprefix("<think>") for text in completions]
        return [b.lstrip() if b != text else f"</think>{text}" for b, text in zip(bare, completions, strict=True)]


def _tokenized(texts: list[str], tokenizer: Any, family: Family) -> list[list[int]]:
    """Token ids of whole prompts; the start token is not added where the text has it already.

    Llama and Gemma tokenizers add one, and so do the chat templates of Idefics3 and Gemma 3.
    """
    start = tokenizer.bos_token
    present = not family.chat or (start is not None and texts[0].startswith(start))
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=not present)["input_ids"]
    return ids


def _left_padded(rows: list[list[int]], pad_id: int | None) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` ``[B, longest]``.

    Not left to the tokenizer: padding is a state of it, which a batch prepared in a thread would change under the hands
    of whoever tokenizes something else at the same time.
    """
    longest = max(map(len, rows))
    ids = [[pad_id or 0] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def _processed_or_named(
    prompts: Sequence[Prompt], texts: list[str], images: list[list[Any]], processor: Any, family: Family
) -> tuple[Any, list[list[str]]]:
    """As :func:`_processed`; where that fails, the picture that is the reason is named.

    Raises:
        DataError: naming it and the ratio of its sides, which is what processors refuse.
    """
    try:
        return _processed(texts, images, processor, family)
    except Exception:  # whatever a processor raises for a picture that it does not take
        for prompt, text, own in zip(prompts, texts, images, strict=True):
            try:
                _processed([text], [own], processor, family)
            except Exception as error:
                width, height = max((image.size for image in own), key=lambda size: max(size) / min(size))
                raise DataError(
                    f"sample {prompt.id!r}: {prompt.image_key}: the model's processor does not take this image of "
                    f"{width} x {height} pixels, sides 1 to {max(width, height) / min(width, height):.0f} "
                    f"({' '.join(str(error).split())[:200]}); cut it into parts, or leave it out (broken: skip)"
                ) from error
        raise


def _processed(
    texts: list[str], images: list[list[Any]], processor: Any, family: Family
) -> tuple[Any, list[list[str]]]:
    """The image sets after the processor, and for each set the placeholders of its images in the text."""
    sizes = [len(each) for each in images]
    if family.reading is Reading.PROMPT:  # PaliGemma's processor makes one array of all rows: an image each, no text
        images = [[image] for each in images for image in each]
        texts = [processor.image_token] * len(images)
    batch = processor(text=texts, images=images, padding=False, truncation=False, return_text_replacement_offsets=True)
    found = iter([place["replacement"] for each in batch["text_replacement_offsets"] for place in each])
    return batch, [list(islice(found, size)) for size in sizes]


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.stack([torch.as_tensor(value) for value in values])


def _frames(pixels: Pixels | None, sizes: list[tuple[int, int]], processor: Any, family: Family) -> list[Frame]:
    """Units of the first image of each set."""
    if pixels is None:
        return []
    if "image_grid_thw" not in pixels.tensors:
        return [Frame.of(family.space, size) for size in sizes]
    patch = int(processor.image_processor.patch_size)
    grids = pixels.tensors["image_grid_thw"].split(list(pixels.images))
    return [
        Frame.of(family.space, size, (int(grid[0, 2]) * patch, int(grid[0, 1]) * patch))
        for grid, size in zip(grids, sizes, strict=True)
    ]


def _token_types(ids: Tensor, processor: Any, family: Family) -> Tensor:
    """``[B, longest]``: 1 for image tokens; 0 throughout where it is the completion that is marked."""
    if family.reading is Reading.PROMPT:
        return torch.zeros_like(ids)
    return torch.tensor(processor.create_mm_token_type_ids(ids.tolist()))


def _text(prompt: Prompt, processor: Any, family: Family) -> str:
    """The prompt with its places for images, as the family was taught to read it."""
    if not family.chat:
        return f"{processor.image_token * len(prompt.images)}{processor.tokenizer.bos_token}{prompt.text}\n"
    content = [*({"type": "image"} for _ in prompt.images), {"type": "text", "text": prompt.text}]
    messages = [{"role": "user", "content": content}]
    try:
        return within(
            TEMPLATE_SECONDS,
            lambda: str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)),
        )
    except Exception as error:  # a template is a program: it raises what it likes
        raise ModelError(
            f"the model's chat template cannot be used ({type(error).__name__}: {' '.join(str(error).split())[:300]}); "
            "take the file chat_template.jinja that came with the model"
        ) from error
