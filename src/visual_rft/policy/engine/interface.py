"""What an engine does for the policy: encode prompts, decode on them, score completions.

Decision: two engines behind one small interface. :class:`SharedEngine` (``shared.py``) runs each image and each prompt
once; :class:`RepeatedEngine` (``repeated.py``) is the plain way, every completion with its whole prompt and image, for
models where sharing is not exact, and as what sharing is checked against.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from visual_rft.policy.engine.prefix import Prefix, Rows
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.tower import Features


class Decoder(Protocol):
    """Completions that grow by one token at a time."""

    first: Tensor
    """``[S, E]`` hidden states from which the first tokens are predicted."""

    @property
    def slots(self) -> Tensor | None:
        """``[N]`` which of the S hidden states each completion has at the moment; None: each has its own."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every completion ``[N]``; returns the hidden states ``[S, E]`` after them."""

    def compact(self, running: Tensor) -> Tensor | None:
        """Drop completions that have ended (``running [N]`` false), where that is worth it.

        Returns:
            The completions that stay, in their new order, or None if all do.
        """


class Engine(Protocol):
    """Encodes, decodes and scores; gradients are kept where they are enabled."""

    @property
    def fuses_layers(self) -> bool:
        """Whether our own execution of the decoder layers runs outside of autocast (``layers.py``)."""

    def encode(self, inputs: Inputs, features: Features | None) -> Prefix:
        """The prompts, ready to be continued; ``features`` of their images if they are known already."""

    def decoder(self, prefix: Prefix, group_size: int) -> Decoder:
        """``group_size`` slots for every prompt, group after group."""

    def score(self, prefix: Prefix, rows: Rows) -> Tensor:
        """Log-probability ``[n, T]`` of every token of the completions, 0 in padding."""


def scattered(values: Tensor, mask: Tensor) -> Tensor:
    """``[n, T]`` with ``values [N]`` where ``mask [n, T]`` is true, row after row, and 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)
