"""Two engines never agree to the last bit: what that is worth, and how the loss corrects for it.

Decision: a completion that another engine sampled is weighted by how much more likely the policy finds it than the
sampler did, cut where that ratio is large. The forms are those in use:

* ``token_truncate``: each token by its own ratio, at most the limit (truncated importance sampling).
* ``sequence_truncate``: each completion by the ratio of the whole, at most the limit.
* ``token_mask``, ``sequence_mask``: the same, but 0 beyond the limit: nothing is learned from a ratio so large.

Completions of the policy itself have no such ratio: their weight is 1.

>>> import torch
>>> policy, sampler = torch.tensor([[[-1.0, -2.0]]]), torch.tensor([[[-1.5, -3.5]]])
>>> mask = torch.ones(1, 1, 2, dtype=torch.bool)
>>> [round(float(w), 2) for w in importance(policy, sampler, mask, "token_truncate", 3.0)[0, 0]]
[1.65, 3.0]
>>> importance(policy, sampler, mask, "sequence_mask", 3.0)[0, 0].tolist()
[0.0, 0.0]
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from visual_rft.config.objective import Correction


class Mismatch(NamedTuple):
    """How far the sampler's log-probabilities are from the policy's.

    Attributes:
        mean: mean absolute difference of sampled tokens, nats.
        largest: greatest of them.
        masked: share of the tokens that the correction leaves no weight.
    """

    mean: float
    largest: float
    masked: float


def importance(policy: Tensor, sampler: Tensor, mask: Tensor, how: Correction, limit: float) -> Tensor:
    """Weight ``[B, G, T]`` of each token in the loss, at least 0.

    Args:
        policy: ``[B, G, T]`` log-probabilities under the policy.
        sampler: the same under the engine that sampled.
        mask: ``[B, G, T]`` bool, true for sampled tokens.
        how: form of the correction.
        limit: of the ratio, above 1.
    """
    if how == "none":
        return torch.ones_like(policy)
    difference = (policy - sampler) * mask
    if how.startswith("sequence"):
        difference = difference.sum(-1, keepdim=True).expand_as(difference)
    ratio = difference.exp()
    if how.endswith("truncate"):
        return ratio.clamp(max=limit)
    return torch.where(ratio <= limit, ratio, torch.zeros_like(ratio))


def mismatch(policy: Tensor, sampler: Tensor, mask: Tensor, weights: Tensor) -> Mismatch:
    """What to log, from tensors as of :func:`importance` and its result."""
    differences = (policy - sampler).abs()[mask]
    if not len(differences):
        return Mismatch(0.0, 0.0, 0.0)
    masked = (weights[mask] == 0).float().mean().item()
    return Mismatch(differences.mean().item(), differences.max().item(), masked)
