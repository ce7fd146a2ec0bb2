"""What passes between the policy's methods: the shared prefix and the completions.

Decision: the group is the unit. A :class:`Prefix` holds each prompt *once*, without padding: its keys and values lie in
one row, prompt after prompt, and every completion that continues it reads them in place.

Shapes: B prompts, P tokens of all prompts, G completions per prompt, T completion tokens (right-padded), E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from visual_rft.policy.engine.attention.shared_prefix import Layers
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.tower import Features
from visual_rft.vision.coordinates import Frame


@dataclass(frozen=True)
class Prefix:
    """What the policy computed for B prompts, once.

    Attributes:
        lengths: tokens of each prompt.
        layers: keys and values ``[P, heads, head_dim]`` of every language layer, prompt after prompt; empty on the
            repeated path, which keeps none.
        last_hidden: ``[B, E]`` final hidden state of each prompt's last token, from which the first completion token is
            predicted; None on the repeated path.
        next_position: ``[B]`` position of the first completion token.
        features: image features from the vision tower; None without images, or on the repeated path.
        inputs: the prompts that were encoded, so that the reference or a second update need not process it again.
        weights: version of the policy's weights that encoded it.
    """

    lengths: tuple[int, ...]
    layers: Layers
    last_hidden: Tensor | None
    next_position: Tensor
    features: Features | None
    inputs: Inputs
    weights: int = 0

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def frames(self) -> tuple[Frame | None, ...]:
        """Units of the coordinates of each prompt's first image (None for a prompt without image)."""
        return self.inputs.frames

    @property
    def tensors(self) -> list[Tensor]:
        """What completions read, in a fixed order: keys and values of each layer, then the last hidden states."""
        last = [] if self.last_hidden is None else [self.last_hidden]
        return [x for pair in self.layers for x in pair] + last

    @property
    def has_graph(self) -> bool:
        """Whether gradients can flow back into what encoded it."""
        return any(x.grad_fn is not None for x in self.tensors)

    def leaves(self) -> Prefix:
        """The same values as leaves that collect gradients, cut off from the graph behind them."""
        leaves = [x.detach().requires_grad_(x.requires_grad) for x in self.tensors]
        pairs = tuple(zip(leaves[0 : 2 * len(self.layers) : 2], leaves[1 : 2 * len(self.layers) : 2], strict=True))
        return replace(self, layers=pairs, last_hidden=leaves[-1] if self.last_hidden is not None else None)

    def backward(self, leaves: Prefix) -> None:
        """Send the gradients that ``leaves`` (of :meth:`leaves`) have collected into what encoded this prefix."""
        pairs = [(x, leaf.grad) for x, leaf in zip(self.tensors, leaves.tensors, strict=True)]
        reached = [(x, gradient) for x, gradient in pairs if gradient is not None]
        if reached:
            torch.autograd.backward([x for x, _ in reached], [gradient for _, gradient in reached])


@dataclass(frozen=True)
class Completions:
    """G completions of each of B prompts; a group is never split or shuffled apart.

    Attributes:
        ids: ``[B, G, T]`` token ids, the end token included, padding after it.
        mask: ``[B, G, T]`` bool, true for sampled tokens.
        logprobs: ``[B, G, T]`` log-probability of each sampled token under the policy that sampled it, 0 in padding.
        text: B lists of G texts without special tokens.
        truncated: ``[B, G]`` bool, true where the length limit was reached before the end token.
        entropies: ``[B, G, T]`` entropy in nats of the distribution that each token was drawn from, 0 in padding and
            where :class:`~visual_rft.policy.engine.sampling.Sampling` does not keep them; None if nobody sampled.
        sampled: ``[B, G, T]`` the same log-probabilities as another engine that sampled says; None if the policy did.
        lag: updates by which the weights that sampled are older than the policy's.
    """

    ids: Tensor
    mask: Tensor
    logprobs: Tensor
    text: Sequence[Sequence[str]]
    truncated: Tensor
    entropies: Tensor | None = None
    sampled: Tensor | None = None
    lag: int = 0

    @classmethod
    def of_texts(
        cls, texts: Sequence[str], tokenizer: Any, end_id: int, pad_id: int, device: torch.device
    ) -> Completions:
        """Given texts as one completion per prompt (G = 1); nobody sampled them, so their log-probabilities are 0.

        Args:
            texts: B texts, without special tokens.
            tokenizer: the model's.
            end_id: id of the end token, added to each text.
            pad_id: id that stands in padding.
            device: where the tensors go.
        """
        rows = [[*tokenizer(text, add_special_tokens=False).input_ids, end_id] for text in texts]
        shape = (len(rows), 1, max(map(len, rows)))
        ids = torch.full(shape, pad_id, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, 0, : len(row)] = torch.tensor(row)
            mask[i, 0, : len(row)] = True
        nothing = torch.zeros(shape, device=device)
        truncated = torch.zeros(shape[:2], dtype=torch.bool)
        return cls(ids.to(device), mask.to(device), nothing, [[text] for text in texts], truncated)

    def spelled(self, tokenizer: Any) -> list[list[tuple[list[str], list[float]]]]:
        """The tokens of each completion as the vocabulary spells them, special ones left out, and their
        log-probabilities: B lists of G pairs of lists."""
        special = set(tokenizer.all_special_ids)

        def one(ids: list[int], mask: list[bool], logprobs: list[float]) -> tuple[list[str], list[float]]:
            rows = [row for row, real in zip(zip(ids, logprobs, strict=True), mask, strict=True) if real]
            rows = [row for row in rows if row[0] not in special]
            return tokenizer.convert_ids_to_tokens([token for token, _ in rows]), [logprob for _, logprob in rows]

        groups = zip(self.ids.tolist(), self.mask.tolist(), self.logprobs.tolist(), strict=True)
        return [[one(*row) for row in zip(*group, strict=True)] for group in groups]

    @property
    def lengths(self) -> Tensor:
        """``[B, G]`` number of sampled tokens."""
        return self.mask.sum(-1)


@dataclass(frozen=True)
class Rows:
    """Some of the completions, flat: what one forward pass scores.

    Attributes:
        ids: ``[n, T]`` token ids.
        lengths: tokens of each, at least 1.
        prompts: the prompt that each continues, ascending.
    """

    ids: Tensor
    lengths: tuple[int, ...]
    prompts: tuple[int, ...]

    @classmethod
    def of(cls, completions: Completions, numbers: Sequence[int], first_prompt: int = 0) -> Rows:
        """The completions with these numbers (of B * G, ascending), trimmed to the longest of them.

        Args:
            completions: completions of all B prompts.
            numbers: numbers of those that are wanted.
            first_prompt: number of the prompt that counts as number 0.
        """
        group = completions.ids.shape[1]
        index = torch.tensor(numbers, device=completions.ids.device)
        lengths = tuple(int(n) for n in completions.lengths.flatten()[index])
        ids = completions.ids.flatten(0, 1)[index, : max(lengths)]
        return cls(ids, lengths, tuple(i // group - first_prompt for i in numbers))

    @property
    def mask(self) -> Tensor:
        """``[n, T]`` bool, true for real tokens."""
        steps = torch.arange(self.ids.shape[1], device=self.ids.device)
        return steps < torch.tensor(self.lengths, device=self.ids.device)[:, None]
