"""What a sampler is: completions of encoded prompts, from the policy itself or from elsewhere.

Decision: one page. The policy encodes the prompts in any case (the update goes on from there), so a sampler is given
that prefix and gives back :class:`~visual_rft.policy.engine.prefix.Completions`, whoever drew them. Their ``logprobs``
are always the policy's own; where another engine has sampled, ``sampled`` holds what that engine says, and the loss
corrects for the difference (``mismatch.py``).

    sampler.announce(inputs, 8, sampling, draws)       # may begin already (rollout.ahead), or do nothing
    completions = sampler.sample(prefix, 8, draws)
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.prefix import Completions, Prefix
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.policy import Policy
from visual_rft.serving.wire import Decoding, Question, Reply


class Sampler(Protocol):
    """Draws completions."""

    ahead: int
    """Steps whose completions are drawn while another one is learned from: 0 or 1."""

    def announce(self, inputs: Inputs, group_size: int, sampling: Sampling, draws: Draws) -> None:
        """These prompts will be asked for; one that works ahead begins now, with the weights of this moment.

        Args:
            inputs: all prompts of a step.
            group_size: completions of each.
            sampling: how they will be sampled.
            draws: names the step.
        """

    def sample(self, prefix: Prefix, group_size: int, draws: Draws) -> Completions:
        """``group_size`` completions ``[B, G, T]`` of each prompt of ``prefix``.

        Raises:
            ServerError: if the sampler is elsewhere and does not do as it is asked; nothing is half-used.
        """

    def close(self) -> None:
        """End what is going on."""


class SamplingEngine(Protocol):
    """What samples elsewhere: servers (:class:`~visual_rft.serving.client.Client`), or vLLM in this process."""

    urls: tuple[str, ...]
    """Of each that can be asked alone."""
    model: str
    """Name of the model there."""

    def submit_all(
        self, questions: Sequence[Question], decodings: Sequence[Decoding], model: str
    ) -> list[Future[Reply]]:
        """Begin to answer each question with its decoding, by the model of this name."""

    def ask_one(self, url: str, question: Question, decoding: Decoding, model: str) -> Reply:
        """The reply of one of :attr:`urls` to one question.

        Raises:
            ServerError: if it has none.
        """

    def close(self) -> None:
        """End what is going on."""


class OwnSampler:
    """The policy samples, on the prefix that it has encoded.

    Args:
        policy: the model.
    """

    ahead = 0

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def announce(self, inputs: Inputs, group_size: int, sampling: Sampling, draws: Draws) -> None:
        """Nothing is done ahead."""

    def sample(self, prefix: Prefix, group_size: int, draws: Draws) -> Completions:
        """As :meth:`visual_rft.policy.policy.Policy.sample`."""
        return self.policy.sample(prefix, group_size, draws)

    def close(self) -> None:
        """Nothing goes on."""
