"""Whether the weights have arrived: one prompt with an image, answered there and scored here, after every push.

Decision: the server's log-probabilities of its own answer must be the policy's within a tolerance. The same prompt is
asked every time, so that whatever the server remembers of it (prefix, image, encoded image) would show. How much the
policy itself has changed since the last answer is measured on that answer's tokens: where this is more than twice the
tolerance, agreement with the new weights proves that these are not the old ones. Where it is less, as at a learning
rate of 1e-6, several pushes are proven at once by the first that differs enough.

    proof(engine, model, inputs, sampling, version)
    proof.changed       # nats between the policy now and the weights that were proven last
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from visual_rft.errors import ServerError
from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.policy import Policy
from visual_rft.samplers.interface import SamplingEngine
from visual_rft.samplers.replies import completions_of, decoding_of, same_prompt

TOKENS = 32
"""Tokens of the answer that is compared."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25}
"""Nats. In float32 a real vLLM and transformers differ by 6e-6 on one model, and a server that kept an old output
embedding by 0.96; in bfloat16 single tokens of two right engines differ by some hundredths."""


class Proof:
    """Compares policy and server.

    Args:
        policy: the model that learns.
        tolerance: greatest difference of a token's log-probability, nats; None goes by the type of the weights.

    Attributes:
        changed: greatest change of a token's log-probability since the weights that were proven last, nats.
        unproven: pushes that changed too little to tell the new weights from the proven ones.
        difference: the greatest difference that was found last, nats.
    """

    def __init__(self, policy: Policy, tolerance: float | None = None) -> None:
        self.policy = policy
        dtype = policy.autocast or next(policy.core.parameters()).dtype
        self.tolerance = tolerance if tolerance is not None else TOLERANCE.get(dtype, 0.25)
        self.changed, self.unproven, self.difference = 0.0, 0, 0.0
        self._inputs: Inputs | None = None
        self._sampling = policy.sampling  # of the first time: a temperature that changes would look like other weights
        self._proven: Completions | None = None

    def __call__(self, engine: SamplingEngine, model: str, inputs: Inputs, sampling: Sampling, version: int) -> None:
        """Compare once.

        Args:
            engine: each of whose servers is asked.
            model: name to ask.
            inputs: prompts, of which the first with an image is kept for good.
            sampling: how completions are sampled.
            version: of the weights.

        Raises:
            ServerError: saying what was compared, if the server computes with other weights.
        """
        if self._inputs is None:
            first = next((n for n, one in enumerate(inputs.sets) if one >= 0), 0)
            self._inputs = self.policy.prepare([inputs.prompts[first]])  # alone, so without padding
            self._sampling = replace(sampling, max_new_tokens=min(TOKENS, sampling.max_new_tokens))
        (prompt,) = self._inputs.prompts
        decoding = replace(decoding_of(self._sampling, 1, self.policy, prompt.task), seed=0)
        for url in engine.urls:
            reply = engine.ask_one(url, prompt, decoding, model)
            same_prompt(prompt, self._inputs.tensors["input_ids"][0], reply, self.policy.processor.tokenizer)
            self._compare(url, completions_of([reply], self.policy), version)

    def _compare(self, url: str, said: Completions, version: int) -> None:
        now = self._scored(said)
        self.difference = _apart(now, said.logprobs, said)
        before = ""
        if self._proven is not None:
            self.changed = _apart(self._scored(self._proven), self._proven.logprobs, self._proven)
            if said.ids.shape == self._proven.ids.shape and bool((said.ids == self._proven.ids).all()):
                before = f", and by {_apart(said.logprobs, self._proven.logprobs, said):.2g} from its own before"
        if not self.difference <= self.tolerance:  # NaN too
            raise ServerError(
                f"server {url}: weights of version {version} are not what it computes with: the log-probabilities of "
                f"{int(said.lengths.sum())} tokens after a prompt with an image differ by up to {self.difference:.2g} "
                f"from the policy's{before} (rollout.tolerance is {self.tolerance:g}; the policy changed by "
                f"{self.changed:.2g}). Start it with --logprobs-mode processed_logprobs; see docs/serving.md"
            )
        if self._proven is None or self.changed > 2 * self.tolerance:
            self._proven, self.unproven = said, 0
        else:
            self.unproven += 1

    def _scored(self, said: Completions) -> Tensor:
        assert self._inputs is not None
        usual, self.policy.sampling = self.policy.sampling, self._sampling
        try:
            with torch.no_grad():
                return self.policy.logprobs(self.policy.encode(self._inputs), said)
        finally:
            self.policy.sampling = usual


def _apart(one: Tensor, other: Tensor, said: Completions) -> float:
    return float((one - other).abs()[said.mask].max())
