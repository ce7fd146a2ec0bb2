"""Prompts computed as many at once as fit into memory, and fewer where it runs out all the same.

Decision: how many fit follows from what is free now, because an evaluation runs before the first step, between steps
and alone, with other things in memory each time; what is said does not depend on it but for rounding.

    texts = in_parts(policy, prompts, lambda inputs: answers(policy, inputs))
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from visual_rft.errors import ModelError
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.memory.caches import answered_at_once
from visual_rft.policy.memory.halving import give_back
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt

T = TypeVar("T")


def in_parts(policy: Policy, prompts: Sequence[Prompt], compute: Callable[[Inputs], list[T]]) -> list[T]:
    """What ``compute`` gives for each prompt, in order.

    Args:
        policy: the model, whose budget remembers how many are too many.
        prompts: the prompts.
        compute: function of some of them after the processor, one result each.

    Raises:
        ModelError: if memory runs out with one prompt.
        PromptTooLongError, DataError: as :meth:`Policy.prepare`.
    """
    inputs, budget = policy.prepare(prompts), policy.budget
    tokens, free = policy.sampling.max_new_tokens, budget.answer_bytes(policy.device)
    width = answered_at_once(policy.core, inputs, policy.types, tokens, free)
    results: list[T] = []
    while len(results) < len(prompts):
        width = min(width, budget.most_answers or width, len(prompts) - len(results))
        found = _unless_out_of_memory(compute, inputs.select(range(len(results), len(results) + width)))
        if found is not None:
            results += found
            continue
        if width == 1:
            raise ModelError(
                "out of memory while one question is answered; lower model.max_pixels or rollout.max_new_tokens, or "
                "hold the weights in fewer bits (model.dtype bfloat16, model.quantization)"
            )
        budget.most_answers = width // 2
        print(f"warning: out of memory while answering: {width // 2} instead of {width} questions at once from now on",
              file=sys.stderr, flush=True)  # fmt: skip
        give_back()
    return results


def _unless_out_of_memory(compute: Callable[[Inputs], list[T]], inputs: Inputs) -> list[T] | None:
    """None where memory ran out; a function of its own, because what failed is held as long as its exception."""
    try:
        return compute(inputs)
    except torch.OutOfMemoryError:
        return None
