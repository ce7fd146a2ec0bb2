"""The policy: encode prompts once, sample groups on the shared prefix, score completions with gradient.

Decision: the stock ``transformers`` model, unpatched, behind three methods:

    prefix      = policy.encode(prompts)                 # vision tower once per image, language model once per prompt
    completions = policy.sample(prefix, group_size=8)    # 8 answers per prompt on that prefix
    logprobs    = policy.logprobs(prefix, completions)   # [B, G, T], with gradient through the prefix

The prefix keeps its graph, so while the weights are unchanged the prompt that was encoded for sampling also serves
the update. Log-probabilities are those of the *sampled* distribution (temperature applied, image placeholders
excluded), as the ratio in the objective needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from visual_rft.errors import ModelError, PromptTooLongError
from visual_rft.policy.families import Family, family_of
from visual_rft.policy.prefix import Completions, Inputs, Prefix, Prompt, group_rows
from visual_rft.policy.sampling import Sampling, sample_tokens, tempered_logprobs
from visual_rft.vision.coordinates import CoordinateSpace, Frame


class Policy:
    """A vision-language model that answers questions about images.

    Args:
        model: a stock image-text-to-text model, or one wrapped by peft.
        processor: its processor.
        sampling: how completions are drawn; ``logprobs`` uses the same temperature.
        autocast: type in which sampling and scoring compute where it is safe; None computes in the weights' own.
    """

    def __init__(
        self, model: Any, processor: Any, sampling: Sampling | None = None, autocast: torch.dtype | None = None
    ) -> None:
        self.model = model
        self.processor = processor
        self.sampling = sampling or Sampling()
        self.autocast = autocast
        # peft wraps the model; the wrapped one has the methods that compute image features and positions.
        self.core: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.config: Any = self.core.config
        self.family: Family = family_of(self.config.model_type)
        tokenizer = processor.tokenizer
        self.end_ids = _end_ids(self.core, tokenizer)
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_ids[0]
        self.forbidden = self._placeholder_ids()

    @property
    def space(self) -> CoordinateSpace:
        """The units in which this model writes boxes."""
        return self.family.space

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.core.parameters()).device
        return device

    def to(self, device: torch.device) -> Policy:
        """This policy, its model moved to ``device``."""
        self.model.to(device)
        self.forbidden = self.forbidden.to(device)
        return self

    def prepare(self, prompts: Sequence[Prompt]) -> Inputs:
        """Open the images and run the processor: all that needs no model, so it can be done ahead in a thread.

        Args:
            prompts: B prompts; texts and images may differ in length and size.

        Raises:
            PromptTooLongError: if a prompt does not fit the model's context; prompts are never truncated.
            DataError: if an image cannot be opened.
        """
        texts = [self._chat(p) for p in prompts]
        images = [reference.load() for p in prompts for reference in p.images]
        batch = self.processor(
            text=texts,
            images=images or None,
            padding=True,
            padding_side="left",
            truncation=False,
            return_tensors="pt",
        )
        self._check_length(prompts, batch["attention_mask"])
        tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
        return Inputs(tuple(prompts), tensors, tuple(image.size for image in images))

    def encode(self, prompts: Sequence[Prompt] | Inputs) -> Prefix:
        """Run the vision tower once per distinct image and the language model once per prompt.

        Gradients are kept if they are enabled.

        Args:
            prompts: B prompts, or what :meth:`prepare` made of them.

        Raises:
            PromptTooLongError, DataError: as :meth:`prepare`.
        """
        inputs = prompts if isinstance(prompts, Inputs) else self.prepare(prompts)
        batch = {key: value.to(self.device) for key, value in inputs.tensors.items()}
        positions, next_position = self._positions(batch)
        with self._computing():
            features = self._image_features(inputs.image_keys, batch)
            output = self.model(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                position_ids=positions,
                mm_encoder_outputs={"image": features} if features is not None else None,
                use_cache=True,
                logits_to_keep=1,
            )
        layers = tuple((layer.keys, layer.values) for layer in output.past_key_values.layers)
        return Prefix(
            layers=layers,
            mask=batch["attention_mask"],
            first_logits=output.logits[:, -1],
            next_position=next_position,
            frames=self.frames(inputs),
            inputs=inputs,
        )

    @torch.no_grad()
    def sample(
        self, prefix: Prefix, group_size: int, generator: torch.Generator | None = None, *, greedy: bool = False
    ) -> Completions:
        """Draw ``group_size`` completions per prompt on the shared prefix.

        Args:
            prefix: from :meth:`encode`, with unchanged weights since.
            group_size: G, at least 1.
            generator: source of randomness, on this policy's device.
            greedy: take the most likely token instead of sampling (evaluation).

        Returns:
            Completions of shape ``[B, G, T]``, T being the longest sampled length.
        """
        rows = group_rows(len(prefix), group_size, self.device)
        with self._computing():
            ids, mask, logprobs = sample_tokens(
                self.model, prefix, rows, self.sampling, self.end_ids, self.pad_id, self.forbidden, generator, greedy
            )
        shape = (len(prefix), group_size, ids.shape[1])
        ids, mask, logprobs = ids.view(shape), mask.view(shape), logprobs.view(shape)
        last = ids.gather(-1, (mask.sum(-1, keepdim=True) - 1).clamp(min=0)).squeeze(-1)
        ended = torch.isin(last, torch.tensor(self.end_ids, device=ids.device))
        texts = self.decode(ids.flatten(0, 1), mask.flatten(0, 1))
        grouped = [texts[i * group_size : (i + 1) * group_size] for i in range(len(prefix))]
        return Completions(ids, mask, logprobs, grouped, ~ended)

    def logprobs(self, prefix: Prefix, completions: Completions) -> Tensor:
        """Log-probability of every completion token, ``[B, G, T]``, 0 in padding; with gradient if enabled.

        The logits are computed at the completion positions only.
        """
        prompts, group, length = completions.ids.shape
        rows = group_rows(prompts, group, self.device)
        ids = completions.ids.flatten(0, 1)
        mask = completions.mask.flatten(0, 1)
        first = self.token_logprobs(prefix.first_logits)[rows].gather(1, ids[:, :1])
        if length > 1:
            steps = torch.arange(length - 1, device=ids.device)
            position = prefix.next_position[rows, None] + steps
            with self._computing():
                output = self.model(
                    input_ids=ids[:, :-1],
                    attention_mask=torch.cat([prefix.mask[rows], mask[:, :-1].to(prefix.mask.dtype)], dim=1),
                    position_ids=position.expand(3, -1, -1),
                    past_key_values=prefix.cache(rows),
                    use_cache=True,
                )
            rest = self.token_logprobs(output.logits).gather(2, ids[:, 1:, None]).squeeze(-1)
            first = torch.cat([first, rest], dim=1)
        # where, not a product: a padding token may have log-probability -inf, and 0 * inf is NaN.
        return torch.where(mask, first, torch.zeros_like(first)).view(prompts, group, length)

    def token_logprobs(self, logits: Tensor) -> Tensor:
        """Log-probabilities ``[..., V]`` of the distribution that is sampled, from logits ``[..., V]``."""
        return tempered_logprobs(logits, self.sampling.temperature, self.forbidden)

    def decode(self, ids: Tensor, mask: Tensor) -> list[str]:
        """Texts of ``[N, T]`` tokens without special tokens."""
        kept = [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]
        return list(self.processor.tokenizer.batch_decode(kept, skip_special_tokens=True))

    def completions_of(self, texts: Sequence[str]) -> Completions:
        """Given texts as one completion per prompt (G = 1), the end token added: for supervised training."""
        tokenizer = self.processor.tokenizer
        rows = [[*tokenizer(text, add_special_tokens=False).input_ids, self.end_ids[0]] for text in texts]
        length = max(map(len, rows))
        ids = torch.full((len(rows), 1, length), self.pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), 1, length), dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, 0, : len(row)] = torch.tensor(row)
            mask[i, 0, : len(row)] = True
        ids, mask = ids.to(self.device), mask.to(self.device)
        zeros = torch.zeros(ids.shape, device=ids.device)
        return Completions(ids, mask, zeros, [[t] for t in texts], torch.zeros(ids.shape[:2], dtype=torch.bool))

    @contextmanager
    def adapter_disabled(self) -> Iterator[None]:
        """Inside, a LoRA policy is its own base model: the reference.

        Raises:
            ModelError: if the policy has no adapter.
        """
        if not hasattr(self.model, "disable_adapter"):
            raise ModelError("this policy has no LoRA adapter to disable")
        with self.model.disable_adapter():
            yield

    def _computing(self) -> torch.autocast:
        enabled = self.autocast is not None
        return torch.autocast(self.device.type, dtype=self.autocast or torch.bfloat16, enabled=enabled)

    def _chat(self, prompt: Prompt) -> str:
        content = [*({"type": "image"} for _ in prompt.images), {"type": "text", "text": prompt.text}]
        messages = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _check_length(self, prompts: Sequence[Prompt], mask: Tensor) -> None:
        context = int(self.config.get_text_config().max_position_embeddings)
        for prompt, length in zip(prompts, mask.sum(1).tolist(), strict=True):
            if length + self.sampling.max_new_tokens > context:
                raise PromptTooLongError(
                    f"sample {prompt.id!r}: the prompt has {length} tokens and up to "
                    f"{self.sampling.max_new_tokens} are to be sampled, but the model's context is {context}; "
                    "lower model.max_pixels or rollout.max_new_tokens (prompts are never truncated)"
                )

    def _image_features(self, keys: Sequence[str], batch: dict[str, Tensor]) -> Any:
        """Features per image of every prompt, the vision tower run once per distinct image."""
        if "pixel_values" not in batch:
            return None
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        distinct = sorted(first.values())
        grid = batch["image_grid_thw"]
        pixels = batch["pixel_values"]
        if len(distinct) < len(keys):
            parts = torch.split(pixels, grid.prod(-1).tolist())
            pixels = torch.cat([parts[i] for i in distinct])
        features = self.core.model.get_image_features(pixels, image_grid_thw=grid[distinct], return_dict=True)
        place = {i: n for n, i in enumerate(distinct)}
        order = [place[first[key]] for key in keys]
        features.pooler_output = tuple(features.pooler_output[i] for i in order)
        if getattr(features, "deepstack_features", None) is not None:
            features.deepstack_features = [tuple(layer[i] for i in order) for layer in features.deepstack_features]
        return features

    def _positions(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Positions ``[3, B, P]`` of the prompt tokens and ``[B]`` of the first completion token."""
        mask = batch["attention_mask"]
        positions, delta = self.core.model.get_rope_index(
            batch["input_ids"],
            mm_token_type_ids=batch["mm_token_type_ids"],
            image_grid_thw=batch.get("image_grid_thw"),
            attention_mask=mask,
        )
        return positions, mask.sum(1) + delta.view(-1)

    def frames(self, inputs: Inputs) -> tuple[Frame | None, ...]:
        """Units of the coordinates of each prompt's first image; None for a prompt without image."""
        patch = int(self.config.vision_config.patch_size)
        frames: list[Frame | None] = []
        image = 0
        for prompt in inputs.prompts:
            if not prompt.images:
                frames.append(None)
                continue
            _, rows, columns = inputs.tensors["image_grid_thw"][image].tolist()
            frames.append(Frame.of(self.space, inputs.image_sizes[image], (columns * patch, rows * patch)))
            image += len(prompt.images)
        return tuple(frames)

    def _placeholder_ids(self) -> Tensor:
        """Tokens that stand for image or video features: sampled, they would crash the next forward pass."""
        names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        found = {getattr(self.config, name, None) for name in names}
        return torch.tensor(sorted(i for i in found if i is not None), dtype=torch.long, device=self.device)


def _end_ids(model: Any, tokenizer: Any) -> list[int]:
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        raise ModelError("neither the generation config nor the tokenizer names an end token (eos_token_id)")
    return list(ends) if isinstance(ends, (list, tuple)) else [int(ends)]
