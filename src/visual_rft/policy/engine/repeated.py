"""The repeated engine: every completion with its whole prompt and image, as trainers without a shared prefix do.

Decision: nothing here but the stock model's own forward pass on left-padded rows, so that it is right wherever the
library is. It is what the shared prefix is checked against, and what a run falls back to where sharing is not exact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visual_rft.policy.engine.interface import scattered
from visual_rft.policy.engine.logits import Head
from visual_rft.policy.engine.positions import prompt_positions
from visual_rft.policy.engine.prefix import Prefix, Rows
from visual_rft.policy.families import Family, Reading
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.tower import Features


class RepeatedEngine:
    """See :class:`~visual_rft.policy.engine.interface.Engine`.

    Args:
        core: the stock model.
        family: facts about it.
        head: output embedding, from hidden states to log-probabilities.
    """

    def __init__(self, core: Any, family: Family, head: Head) -> None:
        self.core, self.family, self.head = core, family, head

    @property
    def fuses_layers(self) -> bool:
        """Never."""
        return False

    def encode(self, inputs: Inputs, features: Features | None) -> Prefix:
        """Nothing is computed ahead; the prompts are kept."""
        tensors = {name: x.to(self.head.device) for name, x in inputs.tensors.items()}
        _, next_position = prompt_positions(self.core, self.family, tensors, inputs)
        return Prefix(tuple(inputs.lengths), (), None, next_position, None, inputs)

    def decoder(self, prefix: Prefix, group_size: int) -> RepeatedDecoder:
        """``group_size`` copies of every prompt."""
        return RepeatedDecoder(self, prefix, group_size)

    def score(self, prefix: Prefix, rows: Rows) -> Tensor:
        """Log-probabilities ``[n, T]`` from a forward pass over prompt and completion of every row."""
        prompt = self.rows(prefix, rows.prompts)
        width = prompt["input_ids"].shape[1]
        mask = rows.mask
        read = mask[:, 1:]
        after = prefix.next_position[torch.tensor(rows.prompts, device=read.device), None]
        position = (after + torch.arange(read.shape[1], device=read.device)).expand(
            *prompt["position_ids"].shape[:-1], -1
        )
        prompt["input_ids"] = torch.cat([prompt["input_ids"], rows.ids[:, :-1]], dim=1)
        prompt["attention_mask"] = torch.cat([prompt["attention_mask"], read.to(prompt["attention_mask"].dtype)], dim=1)
        prompt["position_ids"] = torch.cat([prompt["position_ids"], position], dim=-1)
        name = self.family.type_ids
        if name is not None:  # text, or the part that is read causally
            types = torch.full_like(read, int(self.family.reading is Reading.PROMPT), dtype=prompt[name].dtype)
            prompt[name] = torch.cat([prompt[name], types], dim=1)
        hidden = self.core.model(**prompt, use_cache=False).last_hidden_state[:, width - 1 :]
        bits = self.head.allowed_bits(prefix, rows)
        return scattered(self.head.of_tokens(hidden[mask], rows.ids[mask], None if bits is None else bits[mask]), mask)

    def rows(self, prefix: Prefix, prompts: tuple[int, ...]) -> dict[str, Tensor]:
        """What the model takes for these prompts, left-padded, each with pixel values of its own."""
        device = self.head.device
        inputs = prefix.inputs.select(prompts)
        tensors = {name: x.to(device) for name, x in inputs.tensors.items()}
        positions, _ = prompt_positions(self.core, self.family, tensors, inputs)
        images = {}
        order = [s for s in inputs.sets if s >= 0]
        if inputs.pixels is not None and order:
            images = {name: x.to(device) for name, x in inputs.pixels.select(order).items()}
        return {**tensors, **images, "position_ids": positions}


class RepeatedDecoder:
    """See :class:`~visual_rft.policy.engine.interface.Decoder`."""

    slots: Tensor | None = None

    def __init__(self, engine: RepeatedEngine, prefix: Prefix, group_size: int) -> None:
        self.engine = engine
        prompts = tuple(i for i in range(len(prefix)) for _ in range(group_size))
        rows = engine.rows(prefix, prompts)
        self.mask = rows["attention_mask"]
        self.position = prefix.next_position.repeat_interleave(group_size)
        output = engine.core.model(**rows, use_cache=True)
        self.cache = output.past_key_values
        self.first = output.last_hidden_state[:, -1]

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every row."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        position = self.position[:, None]
        axes = self.engine.family.axes
        output = self.engine.core.model(
            input_ids=tokens[:, None], attention_mask=self.mask, past_key_values=self.cache, use_cache=True,
            position_ids=position if axes == 1 else position.expand(axes, -1, -1),
        )  # fmt: skip
        self.position = self.position + 1
        hidden: Tensor = output.last_hidden_state[:, -1]
        return hidden

    def compact(self, running: Tensor) -> Tensor | None:
        """Drop the rows that have ended once they are a quarter."""
        if int(running.sum()) > 0.75 * len(running):
            return None
        index = running.nonzero().squeeze(1)
        self.cache.batch_select_indices(index)
        self.mask, self.position = self.mask[index], self.position[index]
        return index
