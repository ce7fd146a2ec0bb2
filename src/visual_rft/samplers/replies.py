"""From a server's replies to completions, each checked: prompts token by token, ends, placeholders.

same_prompt(prompt, ids, reply, tokenizer)      # raises where the server reads another prompt
completions = completions_of(replies, policy)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visual_rft.errors import ServerError
from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.serving.wire import Decoding, Reply

SHOWN = 8
"""Tokens of either prompt that a message shows."""


def decoding_of(sampling: Sampling, group_size: int, policy: Policy, task: str = "") -> Decoding:
    """How a server has to sample so that its distribution is the policy's: tempered, without placeholders, and in the
    form of the answers of ``task`` where they are constrained."""
    return Decoding(
        n=group_size,
        temperature=sampling.temperature,
        max_tokens=sampling.max_new_tokens,
        token_ids=True,
        forbidden=tuple(policy.forbidden.tolist()),
        grammar=policy.constraint.grammar(task) if policy.constraint else None,
    )


def same_prompt(prompt: Prompt, ids: Tensor, reply: Reply, tokenizer: Any) -> None:
    """Compare a prompt with what the server made of it.

    Args:
        prompt: the question.
        ids: ``[P]`` its tokens here.
        reply: has those of the server.
        tokenizer: spells them.

    Raises:
        ServerError: if they differ, showing both.
    """
    ours, theirs = ids.tolist(), list(reply.prompt_ids or ())
    if ours == theirs:
        return
    pairs = enumerate(zip(ours, theirs, strict=False))
    first = next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    shown = [tokenizer.decode(row[max(0, first - 2) : first + SHOWN]) for row in (ours, theirs)]
    raise ServerError(
        f"question {prompt.id!r}: the server reads another prompt: {len(ours)} tokens here, {len(theirs)} there; from "
        f"token {first} on, here {shown[0]!r}, there {shown[1]!r}. Serve the same model with the same chat template "
        "and limits of pixels (--mm-processor-kwargs)"
    )


def completions_of(replies: Sequence[Reply], policy: Policy) -> Completions:
    """Completions ``[B, G, T]``, with the server's log-probabilities as ``sampled`` and as ``logprobs``.

    Raises:
        ServerError: if one has no tokens, does not end as it says, or holds a placeholder of an image.
    """
    rows = [row for reply in replies for row in zip(reply.ids or (), reply.logprobs or (), reply.cut, strict=True)]
    group = len(replies[0].texts)
    size = (len(rows), max(len(ids) for ids, _, _ in rows) or 1)
    ids = torch.full(size, policy.pad_id, dtype=torch.long)
    mask = torch.zeros(size, dtype=torch.bool)
    logprobs = torch.zeros(size)
    forbidden, ends = set(policy.forbidden.tolist()), set(policy.end_ids)
    for place, (tokens, values, cut) in enumerate(rows):
        if not tokens or (not cut and tokens[-1] not in ends):
            raise ServerError(f"a completion of {len(tokens)} tokens came back without the end token that it ends with")
        if forbidden & set(tokens):
            raise ServerError("a completion came back with an image's placeholder in it, which is never to be sampled")
        ids[place, : len(tokens)] = torch.tensor(tokens)
        mask[place, : len(tokens)] = True
        logprobs[place, : len(tokens)] = torch.tensor(values)
    flat = policy.decode(ids, mask)
    text = [flat[start : start + group] for start in range(0, len(flat), group)]
    truncated = torch.tensor([row[2] for row in rows]).view(-1, group).to(policy.device)
    ids, mask, logprobs = (x.view(-1, group, size[1]).to(policy.device) for x in (ids, mask, logprobs))
    return Completions(ids, mask, logprobs, text, truncated, torch.zeros_like(logprobs), sampled=logprobs)
