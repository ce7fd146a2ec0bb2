"""Drawing completions: a lean decoding loop on the shared prefix.

Decision: every sampling field is explicit, because defaults of the library and of checkpoints leak into ``generate``
and the sampled distribution must be the scored one. The loop returns the log-probability of each sampled token, so
the first on-policy update needs no second pass for the old policy. Rows that have ended are dropped from the batch
once at least a quarter of it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from visual_rft.policy.prefix import Prefix


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_new_tokens: most tokens of a completion.
        temperature: divides the logits, > 0; 1 samples the policy itself.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the most likely tokens up to this total probability, in (0, 1]; 1 keeps all.

    The log-probabilities are those before ``top_k`` and ``top_p`` cut the tail (the policy that is trained).
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


def tempered_logprobs(logits: Tensor, temperature: float, forbidden: Tensor) -> Tensor:
    """Log-probabilities ``[..., V]`` from logits ``[..., V]``: the one distribution that is sampled and scored."""
    logits = logits.float() / temperature
    if forbidden.numel():
        logits = logits.index_fill(-1, forbidden, -torch.inf)
    return logits.log_softmax(-1)


def sample_tokens(
    model: Any,
    prefix: Prefix,
    rows: Tensor,
    sampling: Sampling,
    end_ids: list[int],
    pad_id: int,
    forbidden: Tensor,
    generator: torch.Generator | None,
    greedy: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one completion per row.

    Args:
        model: the language model with its vision tower.
        prefix: encoded prompts.
        rows: ``[N]`` prompt index of each row.
        sampling: see :class:`Sampling`.
        end_ids: tokens that end a completion.
        pad_id: token written after the end.
        forbidden: ids that are never sampled.
        generator: source of randomness on the model's device.
        greedy: take the most likely token.

    Returns:
        Ids ``[N, T]``, mask ``[N, T]`` (bool) and log-probabilities ``[N, T]`` (float32, 0 in padding).
    """
    count, device = len(rows), rows.device
    ids = torch.full((count, sampling.max_new_tokens), pad_id, dtype=torch.long, device=device)
    mask = torch.zeros((count, sampling.max_new_tokens), dtype=torch.bool, device=device)
    logprobs = torch.zeros((count, sampling.max_new_tokens), device=device)
    ends = torch.tensor(end_ids, device=device)
    cache = prefix.cache(rows, detach=True)
    attention = prefix.mask[rows]
    position = prefix.next_position[rows]
    logits = prefix.first_logits.detach()[rows]
    alive = torch.arange(count, device=device)
    running = torch.ones(count, dtype=torch.bool, device=device)
    steps = 0
    for step in range(sampling.max_new_tokens):
        steps = step + 1
        distribution = tempered_logprobs(logits, sampling.temperature, forbidden)
        token = distribution.argmax(-1) if greedy else _draw(distribution, sampling, generator)
        chosen = alive[running]
        ids[chosen, step] = token[running]
        mask[chosen, step] = True
        logprobs[chosen, step] = distribution.gather(1, token[:, None]).squeeze(1)[running]
        running = running & ~torch.isin(token, ends)
        left = int(running.sum())
        if left == 0 or steps == sampling.max_new_tokens:
            break
        if left <= 0.75 * len(alive):
            keep = running.nonzero().squeeze(1)
            cache = DynamicCache(
                [(la.keys.index_select(0, keep), la.values.index_select(0, keep)) for la in cache.layers]
            )
            alive, token, attention, position = alive[keep], token[keep], attention[keep], position[keep]
            running = running[keep]
        attention = torch.cat([attention, attention.new_ones(len(alive), 1)], dim=1)
        output = model(
            input_ids=token[:, None],
            attention_mask=attention,
            position_ids=position[:, None].expand(3, -1, -1),
            past_key_values=cache,
            use_cache=True,
        )
        logits = output.logits[:, -1]
        position = position + 1
    return ids[:, :steps], mask[:, :steps], logprobs[:, :steps]


def _draw(logprobs: Tensor, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    """One token per row of ``logprobs [N, V]`` after the top-k and top-p cuts."""
    probabilities = logprobs.exp()
    if 0 < sampling.top_k < probabilities.shape[-1]:
        least = probabilities.topk(sampling.top_k, dim=-1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < least, 0)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        # A token is cut if those before it already reach top_p; the most likely one always stays.
        cut = ordered.cumsum(-1) - ordered >= sampling.top_p * ordered.sum(-1, keepdim=True)
        cut[:, 0] = False
        probabilities = probabilities.masked_fill(cut.scatter(1, order, cut), 0)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
