"""What the policy needs to know of a loss: which completions it depends on, and their share of it.

Decision: a loss is a sum over completions, so that it can be computed in micro-batches of any size: each is scored,
asked for its share and forgotten. What a share is made of (advantages, a reference, gold answers) is the business of
the loss; the policy hands it log-probabilities and the numbers of the completions they belong to.

>>> import torch
>>> loss = WeightedLogprobs(torch.tensor([[[1.0, 0.5]], [[2.0, 0.0]]]))    # B = 2, G = 1, T = 2
>>> logprobs = torch.tensor([[-1.0, -2.0], [-3.0, 0.0]])
>>> loss.needed, loss.share(logprobs, torch.tensor([0, 1])).item()
(range(0, 2), -8.0)
>>> loss.share(logprobs[1:, :1], torch.tensor([1])).item()  # of the second alone, without its padding
-6.0

Shapes: B prompts, G completions per prompt, T tokens; n some of the B * G completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Loss(Protocol):
    """A scalar that is the sum of the shares of all completions."""

    @property
    def needed(self) -> Sequence[int]:
        """Numbers of the completions that it depends on, among all B * G, ascending; the others are not computed."""

    def share(self, logprobs: Tensor, numbers: Tensor) -> Tensor:
        """The share of some completions, a scalar with gradient.

        Args:
            logprobs: ``[n, T or fewer]`` log-probabilities with gradient, trimmed to the longest of them.
            numbers: ``[n]`` numbers of these completions among all B * G.
        """


@dataclass(frozen=True)
class WeightedLogprobs:
    """The sum of all log-probabilities with a weight per token.

    Attributes:
        weights: ``[B, G, T]`` weights of the tokens; 0 in padding, negative where a token is to become more likely.
    """

    weights: Tensor

    @property
    def needed(self) -> Sequence[int]:
        """Numbers of all completions."""
        return range(self.weights.shape[0] * self.weights.shape[1])

    def share(self, logprobs: Tensor, numbers: Tensor) -> Tensor:
        """See :class:`Loss`."""
        return (logprobs * self.weights.flatten(0, 1)[numbers, : logprobs.shape[1]]).sum()
