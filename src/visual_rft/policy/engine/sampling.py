"""Drawing completions: a lean decoding loop over an engine's decoder.

Decision: every sampling field is explicit, because defaults of the library and of checkpoints leak into ``generate``
and the sampled distribution must be the scored one. The loop returns the log-probability of each sampled token, so
the first on-policy update needs no second pass for the old policy. Slots whose completion has ended are dropped, and
nothing is read back from a GPU for :data:`CHECK_INTERVAL_TOKENS` tokens at a time: each reading makes the host wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visual_rft.errors import ModelError
from visual_rft.policy.engine.interface import Decoder
from visual_rft.policy.engine.logits import Head

CHECK_INTERVAL_TOKENS = 8
"""Tokens between two looks at which completions have ended, on a GPU; on a CPU looking is free."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_new_tokens: most tokens of a completion.
        temperature: divides the logits, > 0; 1 samples the policy itself.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the most likely tokens up to this total probability, in (0, 1]; 1 keeps all.
        entropies: whether the entropy of every distribution is kept.

    The log-probabilities are those before ``top_k`` and ``top_p`` cut the tail (the policy that is trained).
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    entropies: bool = False


def end_ids_of(model: Any, tokenizer: Any) -> list[int]:
    """Ids of the tokens that end a completion, as the checkpoint names them.

    Raises:
        ModelError: if neither the generation config nor the tokenizer names one.
    """
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        raise ModelError("neither the generation config nor the tokenizer names an end token (eos_token_id)")
    return list(ends) if isinstance(ends, (list, tuple)) else [int(ends)]


def placeholder_ids(model_config: Any, processor: Any) -> list[int]:
    """Ids of the tokens that stand for images or video: sampled, they would crash the next forward pass."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    found = {getattr(model_config, name, None) for name in names} | set(processor.image_token_ids)
    return sorted(i for i in found if i is not None)


def sample_tokens(
    decoder: Decoder,
    head: Head,
    sampling: Sampling,
    end_ids: Tensor,
    pad_id: int,
    uniform: Tensor | None,
    tasks: Sequence[str],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw the completions.

    Args:
        decoder: N completions on encoded prompts.
        head: output embedding, from hidden states to log-probabilities.
        sampling: length, temperature and cuts.
        end_ids: tokens that end a completion.
        pad_id: token written after the end.
        uniform: ``[N, max_new_tokens]`` numbers in [0, 1) (float64), one per token; None takes the most likely token.
        tasks: of the N prompts, by which a constraint knows the form of the answer.

    Returns:
        Ids ``[N, T]``, mask ``[N, T]`` (bool), log-probabilities ``[N, T]`` (float32, 0 in padding) and entropies
        ``[N, T]`` (nats, 0 in padding and where they are not kept).
    """
    hidden = decoder.first
    count, device = len(hidden) if decoder.slots is None else len(decoder.slots), hidden.device
    uniform = None if uniform is None else uniform.to(device)
    shape = (count, sampling.max_new_tokens)
    ids = torch.full(shape, pad_id, dtype=torch.long, device=device)
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    logprobs, entropies = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
    rows = torch.arange(count, device=device)  # the completions that are left
    running = torch.ones(count, dtype=torch.bool, device=device)
    interval = CHECK_INTERVAL_TOKENS if device.type == "cuda" else 1
    following = head.constraint.follow(tasks) if head.constraint is not None else None
    for step in range(sampling.max_new_tokens):
        slots = decoder.slots
        if slots is not None and following is not None:  # what is allowed is told of each completion
            hidden, slots = hidden.index_select(0, slots), None
        distribution = head(hidden, following.allowed(rows.tolist()) if following else None)
        if slots is not None:
            distribution = distribution.index_select(0, slots)
        token = distribution.argmax(-1) if uniform is None else _draw(distribution, sampling, uniform[rows, step])
        ids[rows, step] = torch.where(running, token, pad_id)
        mask[rows, step] = running
        logprobs[rows, step] = torch.where(running, distribution.gather(1, token[:, None]).squeeze(1), 0.0)
        if sampling.entropies:
            entropies[rows, step] = torch.where(running, torch.special.entr(distribution.exp()).sum(-1), 0.0)
        if following is not None:
            following.take(rows[running].tolist(), token[running].tolist())
        running = running & ~torch.isin(token, end_ids)
        if step + 1 == sampling.max_new_tokens:
            break
        if (step + 1) % interval == 0:
            if not running.any():
                break
            kept = decoder.compact(running)
            if kept is not None:
                rows, running, token = rows[kept], running[kept], token[kept]
        hidden = decoder.step(token)
    longest = int(mask.sum(1).max())
    return ids[:, :longest], mask[:, :longest], logprobs[:, :longest], entropies[:, :longest]


def _draw(logprobs: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """One token per row of ``logprobs [N, V]`` after the top-k and top-p cuts, from ``uniform [N]`` in [0, 1)."""
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
    # Inverse of the distribution function: one random number per row, where torch.multinomial draws one per token of
    # the vocabulary (1.7 ms of an 8 ms step for 32 rows of 2,704). In float64, so that a token of probability 0 has
    # no interval of its own.
    upto = probabilities.cumsum(-1, dtype=torch.float64)
    place = torch.searchsorted(upto, uniform[:, None] * upto[:, -1:], right=True).squeeze(1)
    return place.clamp(max=upto.shape[-1] - 1)
