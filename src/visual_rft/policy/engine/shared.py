"""The shared-prefix engine: each image and each prompt once, whatever the size of the group.

Decision: the text model of the stock model is called with embeddings made here (tokens, image features in place of
their placeholders), all prompts in one row without padding, and leaves its keys and values behind; completions are then
one row of their own tokens. ``attention.py`` knows what may see what. Exact where attention is causal over the whole
prompt and positions are given; ``policy/agreement.py`` compares with the repeated path before a run relies on it.

Shapes: B prompts, P tokens of all prompts, N tokens of a row, E hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visual_rft.policy.engine.attention import CompletionAttention, Layout, PromptAttention
from visual_rft.policy.engine.decoding import DecodingAttention, Replay
from visual_rft.policy.engine.interface import scattered
from visual_rft.policy.engine.logits import Head
from visual_rft.policy.engine.positions import prompt_positions
from visual_rft.policy.engine.prefix import Prefix, Rows
from visual_rft.policy.families import Family
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.tower import Features, VisionTower


class SharedEngine:
    """See :class:`~visual_rft.policy.engine.interface.Engine`.

    Args:
        core: the stock model, its language model set to the attention ``shared_prefix``.
        family: facts about it.
        head: output embedding, from hidden states to log-probabilities.
        tower: its vision tower.
    """

    def __init__(self, core: Any, family: Family, head: Head, tower: VisionTower) -> None:
        self.core, self.family, self.head, self.tower = core, family, head, tower
        self.text: Any = core.get_decoder()

    def encode(self, inputs: Inputs, features: Features | None) -> Prefix:
        """Run the vision tower once per image set (unless ``features`` are given) and every prompt once."""
        device = self.head.device
        tensors = {name: x.to(device) for name, x in inputs.tensors.items()}
        real = tensors["attention_mask"].bool()
        ids = tensors["input_ids"][real]
        lengths = tuple(inputs.lengths)
        if features is None and inputs.pixels is not None:
            features = self.tower(inputs.pixels, device)
        embeddings, options = self._embed(ids, features, inputs.sets)
        positions, next_position = self._positions(tensors, inputs)
        attention = PromptAttention(lengths)
        hidden = self.text(
            inputs_embeds=embeddings, position_ids=positions, attention_mask=None, use_cache=False, attend=attention,
            **options,
        ).last_hidden_state[0]  # fmt: skip
        ends = torch.tensor(lengths, device=device).cumsum(0) - 1
        return Prefix(lengths, attention.take(), hidden[ends], next_position, features, inputs)

    def decoder(self, prefix: Prefix, group_size: int) -> SharedDecoder:
        """``group_size`` slots on every prompt."""
        return SharedDecoder(self, prefix, group_size)

    def score(self, prefix: Prefix, rows: Rows) -> Tensor:
        """Log-probabilities ``[n, T]``: the first token from the prompt, the others from one row of completions."""
        assert prefix.last_hidden is not None
        device = rows.ids.device
        prompts = torch.tensor(rows.prompts, device=device)
        mask = rows.mask
        bits = self.head.allowed_bits(rows.ids, mask)
        first = prefix.last_hidden[prompts]
        longer = [i for i, length in enumerate(rows.lengths) if length > 1]
        if not longer:
            return scattered(self.head.of_tokens(first, rows.ids[mask], None if bits is None else bits[mask]), mask)
        lengths = tuple(rows.lengths[i] - 1 for i in longer)
        layout = Layout(lengths, tuple(rows.prompts[i] for i in longer), prefix.lengths, device)
        steps = torch.cat([torch.arange(length, device=device) for length in lengths])
        starts = prefix.next_position[prompts[longer]]
        positions = starts.repeat_interleave(torch.tensor(lengths, device=device)) + steps
        read = mask[:, 1:]  # a token is read where another follows
        hidden = self.forward(rows.ids[:, :-1][read], positions, CompletionAttention(prefix.layers, layout))
        ids, bits = (x if x is None else torch.cat([x[:, 0], x[:, 1:][read]]) for x in (rows.ids, bits))
        assert ids is not None
        logprobs = self.head.of_tokens(torch.cat([first, hidden]), ids, bits)
        return torch.cat([logprobs[: len(first), None], scattered(logprobs[len(first) :], read)], dim=1)

    def forward(self, tokens: Tensor, positions: Tensor, attention: Any) -> Tensor:
        """Final hidden states ``[N, E]`` of text tokens ``[N]`` at ``positions [N]``."""
        output = self.text(
            input_ids=tokens[None], position_ids=self._axes(positions[None]), attention_mask=None, use_cache=False,
            attend=attention,
        )  # fmt: skip
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _embed(self, ids: Tensor, features: Features | None, sets: tuple[int, ...]) -> tuple[Tensor, dict[str, Any]]:
        """Embeddings ``[1, P, E]`` with image features in place, and the deepstack options of Qwen3-VL."""
        embeddings = self.core.get_input_embeddings()(ids)
        order = [s for s in sets if s >= 0]
        if features is None or not order:
            return embeddings[None], {}
        is_image = ids == self.core.config.image_token_id
        projected, *deepstack = features.levels(order)
        embeddings = embeddings.masked_scatter(is_image[:, None], projected.to(embeddings.dtype))
        options = {"visual_pos_masks": is_image[None], "deepstack_visual_embeds": deepstack} if deepstack else {}
        return embeddings[None], options

    def _positions(self, tensors: dict[str, Tensor], inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Positions of the prompt tokens in one row, and ``[B]`` of the first completion token."""
        positions, next_position = prompt_positions(self.core, self.family, tensors, inputs)
        real = tensors["attention_mask"].bool()
        return positions[..., real].unsqueeze(-2), next_position

    def _axes(self, positions: Tensor) -> Tensor:
        return positions if self.family.axes == 1 else positions.expand(self.family.axes, -1, -1)


class SharedDecoder:
    """See :class:`~visual_rft.policy.engine.interface.Decoder`."""

    def __init__(self, engine: SharedEngine, prefix: Prefix, group_size: int) -> None:
        assert prefix.last_hidden is not None
        self.engine = engine
        on_gpu = prefix.last_hidden.device.type == "cuda"
        self.attention = DecodingAttention(prefix.layers, prefix.lengths, group_size, fixed=on_gpu)
        self.position = prefix.next_position.repeat_interleave(group_size)
        self.first = prefix.last_hidden.detach().repeat_interleave(group_size, dim=0)
        self._replay = Replay() if on_gpu else None

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every slot; on a GPU the result is valid until the next step."""
        blocks = self.attention.blocks
        self.attention.begin_token()
        if self._replay is None:
            return self._advance(tokens)
        if self.attention.blocks > blocks:  # the buffers are others
            self._replay = Replay()
        return self._replay(self._advance, tokens)

    def compact(self, running: Tensor) -> Tensor | None:
        """Make the grid of slots smaller where completions have ended."""
        index = self.attention.compact(running)
        if index is not None:
            self.position = self.position[index]
            if self._replay is not None:
                self._replay = Replay()
        return index

    def _advance(self, tokens: Tensor) -> Tensor:
        hidden = self.engine.forward(tokens, self.position, self.attention)
        self.position += 1
        return hidden
