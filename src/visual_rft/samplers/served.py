"""Completions from a server that is given the policy's weights: a :class:`~visual_rft.samplers.interface.Sampler`.

Decision: nothing that comes back is taken on trust. The server's prompt must be ours token by token (another template
or image size is an error that shows both); a placeholder of an image is never a token of an answer; every completion
bears the version of the weights, and after every push one prompt *with an image* is answered there and scored here
(``proof.py``). A batch is whole or not there. The policy's own log-probabilities are computed anew, without gradient.

    sampler = ServedSampler(policy, client, FileWeights(client, folder), Proof(policy, tolerance=1e-3))
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from visual_rft.errors import ServerError
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.prefix import Completions, Prefix
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.samplers.interface import SamplingEngine
from visual_rft.samplers.proof import Proof
from visual_rft.samplers.replies import completions_of, decoding_of, same_prompt
from visual_rft.samplers.weights import Weights
from visual_rft.serving.client import gathered
from visual_rft.serving.wire import Reply


@dataclass(frozen=True)
class _Asked:
    """What was asked for one prompt.

    Attributes:
        future: gives the reply.
        version: of the weights that answer.
        model: name under which they answer.
    """

    future: Future[Reply]
    version: int
    model: str


class ServedSampler:
    """Servers sample; the policy's weights are brought there whenever they have changed.

    Args:
        policy: the model that learns.
        engine: the servers, or vLLM in this process.
        weights: the way of weights there.
        proof: compares both after each push.
        ahead: 1 samples a step while the one before is learned from.
        closing: what ends with the sampler besides the engine.
    """

    def __init__(
        self,
        policy: Policy,
        engine: SamplingEngine,
        weights: Weights,
        proof: Proof,
        ahead: int = 0,
        closing: ExitStack | None = None,
    ) -> None:
        self.policy, self.engine, self.weights, self.proof = policy, engine, weights, proof
        self.ahead, self.closing = ahead, closing or ExitStack()
        self._version, self._pushed, self._model = -1, -1, engine.model
        self._waiting: dict[tuple[int, int], _Asked] = {}  # by step and number of the prompt within it

    def announce(self, inputs: Inputs, group_size: int, sampling: Sampling, draws: Draws) -> None:
        """As :meth:`Sampler.announce`."""
        if not self.ahead or (draws.step, 0) in self._waiting:
            return
        wait([asked.future for asked in self._waiting.values()])  # with the weights that they began with
        self._bring_up_to_date(inputs, sampling)
        for number, asked in self._asked(inputs.prompts, group_size, sampling, draws).items():
            self._waiting[draws.step, number] = asked

    def sample(self, prefix: Prefix, group_size: int, draws: Draws) -> Completions:
        """As :meth:`Sampler.sample`."""
        numbers = draws.prompts or tuple(range(len(prefix)))
        begun = [self._waiting.pop((draws.step, number), None) for number in numbers]
        asked = [one for one in begun if one is not None]
        if len(asked) < len(numbers):
            self._bring_up_to_date(prefix.inputs, self.policy.sampling)
            found = self._asked(prefix.inputs.prompts, group_size, self.policy.sampling, draws)
            asked = [found[number] for number in numbers]
        replies = gathered([one.future for one in asked])
        if asked[0].version == self._version:  # else it was checked before the next ones were pushed
            self.weights.check(self._version)
        prompts = prefix.inputs.prompts
        for prompt, ids, reply, one in zip(prompts, prompt_ids(prefix.inputs), replies, asked, strict=True):
            _same_version(prompt, reply, one)
            same_prompt(prompt, ids, reply, self.policy.processor.tokenizer)
        drawn = completions_of(replies, self.policy)
        with torch.no_grad():
            logprobs = self.policy.logprobs(prefix, drawn)
        stale = self.policy.weights_version != self._pushed or min(one.version for one in asked) < self._version
        return replace(drawn, logprobs=logprobs, lag=int(stale))

    def close(self) -> None:
        """End what is in flight."""
        self.engine.close()
        self.closing.close()

    def _bring_up_to_date(self, inputs: Inputs, sampling: Sampling) -> None:
        """Push the weights if they have changed, and prove it on the first prompt that has an image."""
        if self._pushed == self.policy.weights_version:
            return
        if self._version >= 0:
            self.weights.check(self._version)  # of a server that was started anew meanwhile, nothing is used
        self._version += 1
        self._model = self.weights.push(self.policy, self._version)
        self._pushed = self.policy.weights_version
        self.weights.check(self._version)
        self.proof(self.engine, self._model, inputs, sampling, self._version)

    def _asked(self, prompts: Sequence[Prompt], group_size: int, sampling: Sampling, draws: Draws) -> dict[int, _Asked]:
        numbers = draws.prompts or range(len(prompts))
        seeded = [
            replace(decoding_of(sampling, group_size, self.policy, prompt.task), seed=seed_of(draws, number))
            for number, prompt in zip(numbers, prompts, strict=True)
        ]
        futures = self.engine.submit_all(prompts, seeded, self._model)
        found = (_Asked(future, self._version, self._model) for future in futures)
        return dict(zip(numbers, found, strict=True))


def seed_of(draws: Draws, prompt: int) -> int:
    """A seed of 31 bits for one prompt of a step.

    >>> seed_of(Draws(0, 1), 2) == seed_of(Draws(0, 1), 2), seed_of(Draws(0, 1), 2) == seed_of(Draws(1, 1), 2)
    (True, False)
    """
    digest = hashlib.sha256(f"{draws.seed}/{draws.step}/{prompt}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def prompt_ids(inputs: Inputs) -> list[Tensor]:
    """Token ids of each prompt without padding."""
    rows = zip(inputs.tensors["input_ids"], inputs.tensors["attention_mask"].bool(), strict=True)
    return [ids[real] for ids, real in rows]


def _same_version(prompt: Prompt, reply: Reply, asked: _Asked) -> None:
    if reply.model != asked.model or reply.version not in (None, str(asked.version)):
        raise ServerError(
            f"question {prompt.id!r}: answered by {reply.model} with weights of version {reply.version}, asked was "
            f"{asked.model} of version {asked.version}"
        )
