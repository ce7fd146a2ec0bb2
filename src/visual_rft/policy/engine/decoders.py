"""Completions that grow token by token on the shared prefix: one slot each on a GPU, slots that split elsewhere.

Decision: a GPU's step is bound by launches, so its slots never change until half of them can go, and its kernels are
recorded (``replay.py``). A CPU's step is bound by its rows, so completions that have drawn the same tokens so far share
one: all completions of a prompt begin as one slot, which splits where their tokens differ. Nothing changes what is
drawn: each completion has its own random numbers.

Shapes: N completions, S slots, E hidden size.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from visual_rft.policy.engine.attention.decoding import DecodingAttention
from visual_rft.policy.engine.attention.shared_prefix import Attend
from visual_rft.policy.engine.fused import Rope
from visual_rft.policy.engine.layers import Layers
from visual_rft.policy.engine.prefix import Prefix
from visual_rft.policy.engine.replay import Replay

MAX_IDLE = 0.15
"""Share of the slots that may be without a completion: dropping them copies the keys of all others."""
SORTED_UNTIL_TOKENS = 8
"""Tokens up to which slots stay in the order of their prompts when one splits: there is little to copy yet."""
TABLE_TOKENS = 64
"""Tokens for which rotary positions are computed ahead."""


class Text(Protocol):
    """What a decoder needs of the engine."""

    text: torch.nn.Module

    def forward(self, tokens: Tensor, positions: Tensor, attention: Attend) -> Tensor:
        """Final hidden states ``[N, E]`` of text tokens ``[N]`` at ``positions [N]``."""

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings ``[N, E]`` of text tokens ``[N]``."""

    def axes(self, positions: Tensor) -> Tensor:
        """Positions ``[1, N]`` of text tokens on every axis."""


class RecordedDecoder:
    """See :class:`~visual_rft.policy.engine.interface.Decoder`; hidden states are valid until the next step."""

    slots: Tensor | None = None

    def __init__(self, engine: Text, prefix: Prefix, group_size: int) -> None:
        assert prefix.last_hidden is not None
        self.engine = engine
        self.attention = DecodingAttention(prefix.layers, prefix.lengths, group_size, fixed=True)
        self.position = prefix.next_position.repeat_interleave(group_size)
        self.first = prefix.last_hidden.detach().repeat_interleave(group_size, dim=0)
        self._replay = Replay()

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every completion."""
        capacity = self.attention.capacity
        self.attention.begin_token()
        if self.attention.capacity > capacity:  # the buffers are others
            self._replay = Replay()
        return self._replay(self._advance, tokens)

    def compact(self, running: Tensor) -> Tensor | None:
        """Make the rectangle of slots smaller where completions have ended."""
        index = self.attention.compact(running)
        if index is not None:
            self.position = self.position[index]
            self._replay = Replay()
        return index

    def _advance(self, tokens: Tensor) -> Tensor:
        hidden = self.engine.forward(tokens, self.position, self.attention)
        self.position += 1
        return hidden


class SplittingDecoder:
    """See :class:`~visual_rft.policy.engine.interface.Decoder`."""

    def __init__(self, engine: Text, prefix: Prefix, group_size: int) -> None:
        assert prefix.last_hidden is not None
        prompts = len(prefix.lengths)
        self.engine = engine
        self.attention = DecodingAttention(prefix.layers, prefix.lengths, 1, rows=prompts * group_size)
        self.first = prefix.last_hidden.detach()
        self._slots = [prompt for prompt in range(prompts) for _ in range(group_size)]  # [N]
        self._start = prefix.next_position  # [S] position of the first token
        layers = Layers.of(engine.text)
        self._layers, self._packed = layers, layers.packed() if layers is not None else []
        self._table: Rope | None = None
        self._table_start = 0

    @property
    def slots(self) -> Tensor | None:
        """Which slot each completion has; None where there are as many, in the same order."""
        if self._slots == list(range(len(self.attention.owners))):
            return None
        return torch.tensor(self._slots, device=self.first.device)

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every completion."""
        new = self._split(tokens)
        positions = self._start + self.attention.length
        self.attention.begin_token()
        if self._layers is None:
            return self.engine.forward(new, positions, self.attention)
        hidden, rope = self.engine.embed(new), self._rope(self._layers, positions)
        for layer in self._packed:
            hidden = layer(hidden, rope, self.attention)
        last: Tensor = self._layers.text.norm(hidden)
        return last

    def compact(self, running: Tensor) -> Tensor | None:
        """Forget every completion that has ended; its slot may stay for a while."""
        kept = [place for place, runs in enumerate(running.tolist()) if runs]
        if len(kept) == len(running):
            return None
        self._slots = [self._slots[place] for place in kept]
        return torch.tensor(kept, device=running.device)

    def _split(self, tokens: Tensor) -> Tensor:
        """The next token of every slot, after those that several completions share were split where theirs differ."""
        pairs = list(zip(self._slots, tokens.tolist(), strict=True))
        count = len(self.attention.owners)
        first: dict[int, int] = {}  # the token with which a slot goes on in its place
        for slot, token in pairs:
            first.setdefault(slot, token)
        beside = [pair for pair in dict.fromkeys(pairs) if first[pair[0]] != pair[1]]
        chosen: list[tuple[int, int]]
        if count - len(first) > MAX_IDLE * count or (beside and self.attention.length < SORTED_UNTIL_TOKENS):
            owners = self.attention.owners
            chosen = sorted([*first.items(), *beside], key=lambda pair: (owners[pair[0]], pair[0]))
        else:
            chosen = [(slot, first.get(slot, 0)) for slot in range(count)] + beside
        parents = [slot for slot, _ in chosen]
        if parents != list(range(count)):
            self.attention.select(parents)
            self._start = self._start[torch.tensor(parents, device=self._start.device)]
        places = {pair: place for place, pair in enumerate(chosen)}
        self._slots = [places[pair] for pair in pairs]
        return torch.tensor([token for _, token in chosen], device=tokens.device)

    def _rope(self, layers: Layers, positions: Tensor) -> Rope:
        """Rotary positions from a table, which costs two operations instead of some twenty."""
        if self._table is None or self.attention.length % TABLE_TOKENS == 1:
            self._table_start = int(positions.min())
            ahead = torch.arange(self._table_start, int(positions.max()) + TABLE_TOKENS, device=positions.device)
            self._table = layers.rope(self.first[:1].expand(len(ahead), -1), self.engine.axes(ahead[None]))
        return self._table[positions - self._table_start]
