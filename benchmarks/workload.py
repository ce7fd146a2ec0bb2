"""The workload of the step benchmark: one tiny Qwen2-VL with the proportions of the 2B, and exact lengths.

Decision: random weights, because speed does not depend on them; a real architecture and its real processor, because
it does on everything else. Every prompt has exactly P tokens, 5/6 of them image tokens, and every completion exactly R.
The end token is the image placeholder, which both systems forbid while sampling, so no completion ends early and
neither pays for a rule that keeps it from ending.

The proportions of a forward pass, counted at P = 300 (Qwen2-VL-2B at 1024 image tokens in brackets): vision tower :
language model per token 2.8 (2.9); attention 44 % of the vision tower (34 %); logits 13 % of a completion token (14 %);
6 query heads per key/value head (6); feed-forward 5.8 times as wide as the hidden state (5.8).

    save(folder)                                  # model and processor: the same files for every system
    model, processor = load(folder)
    questions = Workload(length=300, completion=64, group=8).questions(processor)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from math import isqrt
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from visual_rft.tiny.architecture import CHAT_TEMPLATE, SPECIAL, build_tokenizer
from visual_rft.tiny.build import phrases

VOCABULARY = 2704
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 192,
    "intermediate_size": 1120,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
}
VISION: dict[str, Any] = {
    "depth": 3,
    "embed_dim": 160,
    "num_heads": 4,
    "mlp_ratio": 4,
    "hidden_size": 192,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
}
TEXT_2B: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]},
}
VISION_2B: dict[str, Any] = {
    "depth": 32,
    "embed_dim": 1280,
    "num_heads": 16,
    "mlp_ratio": 4,
    "hidden_size": 1536,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
}
SIZES = {"tiny": (TEXT, VISION), "2b": (TEXT_2B, VISION_2B)}
"""Shapes of the model: the tiny one for a CPU, and that of Qwen2-VL-2B for a GPU; random weights in both."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IMAGE_TOKEN_SIDE = 28
"""Pixels that one image token covers: two patches of 14 a side."""


def words(count: int) -> list[str]:
    """``count`` different words, a leading space each: one token per word."""
    syllables = ["".join(pair) for pair in product("bdfgklmnprst", "aeiou")]
    return [" " + "".join(pair) for pair in islice(product(syllables, repeat=2), count)]


@dataclass(frozen=True)
class Question:
    """A prompt: its text and its picture in memory, so that no system pays for a disk or a decoder."""

    text: str
    image: Image.Image


@dataclass(frozen=True)
class Workload:
    """What one step works on.

    Attributes:
        batch: B prompts, each with a picture of its own.
        length: P tokens of every prompt, the chat template and image tokens included.
        completion: R tokens of every completion.
        group: G completions per prompt.
        beta: weight of the KL term; 0 needs no reference.
        learning_rate: so small that the weights hardly move.
        size: of the model, see :data:`SIZES`.
        dtype: of its weights.
    """

    length: int = 300
    completion: int = 64
    group: int = 8
    batch: int = 4
    beta: float = 0.0
    learning_rate: float = 1e-7
    size: str = "tiny"
    dtype: str = "float32"

    @property
    def rows(self) -> int:
        """B x G completions."""
        return self.batch * self.group

    @property
    def image_grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens, the squarest with rows x columns nearest to 5/6 of the prompt."""
        wanted = 5 * self.length // 6
        sides = [(r, c) for r in range(max(1, isqrt(wanted) - 4), isqrt(wanted) + 1) for c in range(r, 2 * r + 1)]
        return min(sides, key=lambda side: (abs(side[0] * side[1] - wanted), side[1] - side[0]))

    @property
    def image_tokens(self) -> int:
        """Image tokens of each prompt."""
        rows, columns = self.image_grid
        return rows * columns

    def questions(self, processor: Any, seed: int = 0) -> list[Question]:
        """B questions whose prompts have exactly ``length`` tokens.

        Raises:
            ValueError: if ``length`` leaves no room for a word beside the image and the chat template.
        """
        random = np.random.default_rng(seed)
        rows, columns = self.image_grid
        vocabulary = words(100)
        frame = processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}]}], tokenize=False, add_generation_prompt=True
        )
        # One placeholder stands for the whole image, and "\n" after the picture would be a token of its own.
        count = self.length - self.image_tokens - (len(processor.tokenizer(frame).input_ids) - 1)
        if count < 1:
            raise ValueError(f"a prompt of {self.length} tokens has no room for a question beside its image")
        found = []
        for _ in range(self.batch):
            size = (rows * IMAGE_TOKEN_SIDE, columns * IMAGE_TOKEN_SIDE, 3)
            pixels = random.integers(0, 256, size, dtype=np.uint8)
            text = "".join(vocabulary[i] for i in random.integers(0, len(vocabulary), count))
            found.append(Question(text, Image.fromarray(pixels)))
        return found


def reward(text: str) -> float:
    """In [0, 1): cheap, deterministic and different between completions, also where most tokens have no text."""
    return crc32(text.encode()) / 2**32


def make_processor() -> Any:
    """The processor of a Qwen2-VL, with :data:`VOCABULARY` tokens; its end token is the image placeholder."""
    known = phrases()
    tokenizer = build_tokenizer(known)
    tokenizer = build_tokenizer([*known, *words(VOCABULARY - len(tokenizer))])
    tokenizer.eos_token = "<|image_pad|>"
    assert len(tokenizer) == VOCABULARY
    limits = {"shortest_edge": IMAGE_TOKEN_SIDE**2, "longest_edge": 4096 * IMAGE_TOKEN_SIDE**2}
    options = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, "size": limits}
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(**options),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**options),
        chat_template=CHAT_TEMPLATE,
    )


def configuration(kind: type[Any], text: dict[str, Any], vision: dict[str, Any], dtype: str, tokenizer: Any) -> Any:
    """The config of a model of these shapes whose special tokens are the tokenizer's."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    ends = {"pad_token_id": ids["<|endoftext|>"], "bos_token_id": None, "eos_token_id": ids["<|image_pad|>"]}
    return kind(
        text_config={**text, **ends},
        vision_config=vision,
        tie_word_embeddings=True,
        dtype=dtype,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


def build(size: str = "tiny", dtype: str = "float32") -> tuple[Any, Any]:
    """The model of a size with random weights, and its processor."""
    processor = make_processor()
    torch.manual_seed(0)
    config = configuration(Qwen2VLConfig, *SIZES[size], dtype, processor.tokenizer)
    with torch.device(DEVICE):  # drawing 2 billion weights takes minutes on a CPU
        model = Qwen2VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = config.get_text_config().eos_token_id
    model.generation_config.pad_token_id = config.get_text_config().pad_token_id
    return model, processor


def save(folder: Path, size: str = "tiny", dtype: str = "float32") -> None:
    """Write model and processor to ``folder``."""
    model, processor = build(size, dtype)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    processor.save_pretrained(folder)


def load(folder: Path, dtype: str = "float32") -> tuple[Any, Any]:
    """The model (SDPA attention) and the processor that :func:`save` wrote; random weights where it has none.

    Weights on the disk are those that every system is given. Where billions would have to be written first, each draws
    its own on the device, from the same seed.
    """
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa"}
    if list(folder.glob("*.safetensors")):
        model = AutoModelForImageTextToText.from_pretrained(folder, **options)
        return model, Qwen2VLProcessor.from_pretrained(folder)
    shape = AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = AutoModelForImageTextToText.from_config(shape, **options)
    model.generation_config.eos_token_id = shape.get_text_config().eos_token_id
    model.generation_config.pad_token_id = shape.get_text_config().pad_token_id
    return model, Qwen2VLProcessor.from_pretrained(folder)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one forward pass, two per multiply-add; norms and softmax are left out.

    Attributes:
        vision: the configuration of the vision tower, as :data:`VISION`.
        text: the configuration of the language model, as :data:`TEXT`.
    """

    vision: dict[str, Any]
    text: dict[str, Any]

    def image(self, tokens: int) -> float:
        """The vision tower and merger on an image of ``tokens`` image tokens; every patch attends to every patch."""
        width, merge = self.vision["embed_dim"], self.vision["spatial_merge_size"] ** 2
        patches = tokens * merge
        pixels = 3 * self.vision["temporal_patch_size"] * self.vision["patch_size"] ** 2
        layer = 2 * width * width * (4 + 2 * self.vision["mlp_ratio"]) + 4 * patches * width
        merger = 2 * (width * merge) * (width * merge + self.vision["hidden_size"])
        return patches * (2 * pixels * width + self.vision["depth"] * layer) + tokens * merger

    @property
    def _token(self) -> float:
        """One text token without attention over keys and without the head."""
        hidden, heads = self.text["hidden_size"], self.text["num_attention_heads"]
        key_value = 2 * hidden * (hidden // heads) * self.text["num_key_value_heads"]
        layer = 2 * hidden * hidden + key_value + 3 * hidden * self.text["intermediate_size"]
        return 2.0 * layer * self.text["num_hidden_layers"]

    @property
    def head(self) -> float:
        """Logits of one token."""
        return 2.0 * self.text["hidden_size"] * self.text["vocab_size"]

    def tokens(self, first: int, count: int) -> float:
        """``count`` text tokens from position ``first`` on; the token at position p attends to p + 1 keys."""
        keys = count * (first + 1) + count * (count - 1) / 2
        return count * self._token + 4.0 * self.text["hidden_size"] * self.text["num_hidden_layers"] * keys

    def prompt(self, length: int, image_tokens: int) -> float:
        """One prompt with its image, logits of its last token."""
        return self.image(image_tokens) + self.tokens(0, length) + self.head

    def completion(self, length: int, count: int) -> float:
        """One completion of ``count`` tokens behind a prompt of ``length``; the last token is not run."""
        return self.tokens(length, count - 1) + (count - 1) * self.head


FLOPS = {size: Flops(vision, text) for size, (text, vision) in SIZES.items()}


def unique_flops(work: Workload) -> dict[str, float]:
    """Operations of a step in which each image and prompt is computed once and each completion token once per pass.

    A backward pass costs two forward passes. The sampled completions are run once for sampling and once, with gradient,
    for the update; a reference (``beta`` above 0) runs prompts and completions forward once more. In a whole step the
    prompts run forward once for rollout and update together.
    """
    flops = FLOPS[work.size]
    prompts = work.batch * flops.prompt(work.length, work.image_tokens)
    completions = work.rows * flops.completion(work.length, work.completion)
    reference = prompts + completions if work.beta > 0 else 0.0
    rollout = prompts + completions
    update = reference + 3 * prompts + 3 * completions
    return {"rollout": rollout, "update": update, "step": rollout + update - prompts}


def proportions(work: Workload) -> dict[str, float]:
    """What the cost of a forward pass consists of, in operations and shares."""
    flops = FLOPS[work.size]
    image_token = flops.image(work.image_tokens) / work.image_tokens
    language = flops.tokens(0, work.length) / work.length
    attention = 4.0 * flops.text["hidden_size"] * flops.text["num_hidden_layers"] * (work.length + 1) / 2
    patches = 4 * work.image_tokens
    vision_attention = 4.0 * patches * flops.vision["embed_dim"] * flops.vision["depth"] * 4
    return {
        "vision_flops_per_image_token": image_token,
        "language_flops_per_prompt_token": language,
        "head_flops_per_token": flops.head,
        "vision_over_language": image_token / language,
        "attention_share_of_vision": vision_attention / image_token,
        "attention_share_of_language": attention / language,
        "head_share_of_completion_token": flops.head / (flops.head + flops.tokens(work.length, 1)),
    }
