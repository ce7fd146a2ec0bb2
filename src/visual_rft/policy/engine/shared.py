"""The shared-prefix engine: each image and each prompt once, whatever the size of the group.

Decision: the text model of the stock model is called with embeddings made here (tokens, image features in place of
their placeholders), all prompts in one row without padding, and leaves its keys and values behind; completions are then
one row of their own tokens. ``attention.py`` knows what may see what. Exact where attention is causal over the whole
prompt and positions are given; ``policy/agreement.py`` compares with the repeated path before a run relies on it.

Shapes: B prompts, P tokens of all prompts, N tokens of a row, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visual_rft.policy.engine.attention.layout import Layout
from visual_rft.policy.engine.attention.shared_prefix import Attend, CompletionAttention, PromptAttention
from visual_rft.policy.engine.decoders import RecordedDecoder, SplittingDecoder
from visual_rft.policy.engine.interface import Decoder, scattered
from visual_rft.policy.engine.layers import Layers
from visual_rft.policy.engine.logits import Head
from visual_rft.policy.engine.positions import prompt_positions
from visual_rft.policy.engine.prefix import Prefix, Rows
from visual_rft.policy.engine.tree import Tree
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

    @property
    def fuses_layers(self) -> bool:
        """Whether the layers are known and plain float32 on a CPU (``layers.py``)."""
        return Layers.fits(self.text)

    def encode(self, inputs: Inputs, features: Features | None) -> Prefix:
        """Run the vision tower once per image set (unless ``features`` are given) and every prompt once."""
        device = self.head.device
        tensors = {name: x.to(device) for name, x in inputs.tensors.items()}
        real = tensors["attention_mask"].bool()
        ids = tensors["input_ids"][real]
        lengths = tuple(inputs.lengths)
        if features is None and inputs.pixels is not None:
            features = self.tower(inputs.pixels, device)
        embeddings, deepstack = self._embed(ids, features, inputs.sets)
        positions, next_position = self._positions(tensors, inputs)
        attention = PromptAttention(lengths)
        hidden = self._run(embeddings, positions, attention, deepstack)
        ends = torch.tensor(lengths, device=device).cumsum(0) - 1
        return Prefix(lengths, attention.take(), hidden[ends], next_position, features, inputs)

    def decoder(self, prefix: Prefix, group_size: int) -> Decoder:
        """``group_size`` completions of every prompt."""
        assert prefix.last_hidden is not None
        if prefix.last_hidden.device.type == "cuda":
            return RecordedDecoder(self, prefix, group_size)
        return SplittingDecoder(self, prefix, group_size)

    def score(self, prefix: Prefix, rows: Rows) -> Tensor:
        """Log-probabilities ``[n, T]``: the first token from the prompt, the others from the tree of completions."""
        assert prefix.last_hidden is not None
        device = rows.ids.device
        ids = [row[:length] for row, length in zip(rows.ids.tolist(), rows.lengths, strict=True)]
        tree = Tree.of(ids, rows.prompts)

        def tensor(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers, device=device)

        hidden = prefix.last_hidden.index_select(0, tensor(tree.prompts))
        if tree.tokens:
            longer = [i for i, path in enumerate(tree.paths) if path]
            paths = [tree.paths[i] for i in longer]
            prompts = [rows.prompts[i] for i in longer]
            layout = Layout.of([len(path) for path in paths], prompts, prefix.lengths, device, paths)
            positions = prefix.next_position[tensor(tree.origins)] + tensor(tree.depths)
            read = self.forward(tensor(tree.tokens), positions, CompletionAttention(prefix.layers, layout))
            hidden = torch.cat([hidden, read])
        numbers, mask = [number for row in tree.rows for number in row], rows.mask
        bits = self.head.allowed_bits(prefix, rows)
        if bits is not None:  # what is allowed after the same tokens is the same
            first = {number: place for place, number in reversed(list(enumerate(numbers)))}
            bits = bits[mask][tensor([first[number] for number in range(len(first))])]
        logprobs = self.head.of_tokens(hidden, tensor(tree.predicted), bits, tensor(tree.sources))
        return scattered(logprobs.index_select(0, tensor(numbers)), mask)

    def forward(self, tokens: Tensor, positions: Tensor, attention: Attend) -> Tensor:
        """Final hidden states ``[N, E]`` of text tokens ``[N]`` at ``positions [N]``."""
        return self._run(self.embed(tokens), self.axes(positions[None]), attention)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings ``[N, E]`` of text tokens ``[N]``."""
        embeddings: Tensor = self.core.get_input_embeddings()(tokens)
        return embeddings

    def _run(
        self, embeddings: Tensor, positions: Tensor, attention: Attend,
        deepstack: tuple[Tensor, Sequence[Tensor]] | None = None,
    ) -> Tensor:  # fmt: skip
        """Final hidden states ``[N, E]`` of embeddings ``[N, E]``: our execution of the layers, or the library's."""
        layers = Layers.of(self.text)
        if layers is not None:
            return layers(embeddings, positions, attention, deepstack)
        options: dict[str, Any] = {}
        if deepstack is not None:
            options = {"visual_pos_masks": deepstack[0][None], "deepstack_visual_embeds": deepstack[1]}
        output = self.text(
            inputs_embeds=embeddings[None], position_ids=positions, attention_mask=None, use_cache=False,
            attend=attention, **options,
        )  # fmt: skip
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _embed(
        self, ids: Tensor, features: Features | None, sets: tuple[int, ...]
    ) -> tuple[Tensor, tuple[Tensor, Sequence[Tensor]] | None]:
        """Embeddings ``[P, E]`` with image features in place, and for Qwen3-VL which tokens are of images ``[P]`` and
        what is added to them after each of the first layers."""
        embeddings = self.embed(ids)
        order = [s for s in sets if s >= 0]
        if features is None or not order:
            return embeddings, None
        is_image = ids == self.core.config.image_token_id
        projected, *deepstack = features.levels(order)
        embeddings = embeddings.masked_scatter(is_image[:, None], projected.to(embeddings.dtype))
        return embeddings, (is_image, deepstack) if deepstack else None

    def _positions(self, tensors: dict[str, Tensor], inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Positions of the prompt tokens in one row, and ``[B]`` of the first completion token."""
        positions, next_position = prompt_positions(self.core, self.family, tensors, inputs)
        real = tensors["attention_mask"].bool()
        return positions[..., real].unsqueeze(-2), next_position

    def axes(self, positions: Tensor) -> Tensor:
        """Positions ``[1, N]`` of text tokens on every axis."""
        return positions if self.family.axes == 1 else positions.expand(self.family.axes, -1, -1)
