"""Micro-batches that are halved where memory runs out, and the gradients stay what they were to be.

Decision: the plan (``plan.py``) is an estimate, and other programs take memory too. A backward pass that runs out of
memory has added its gradients to some tensors and not to others; each addition is whole or not there, and a tensor's
version tells which. So the halves of that micro-batch are computed again and add to the others alone: nothing is lost,
nothing is counted twice, and no copy of the gradients has to be kept for the case.

>>> import torch
>>> weight, done = torch.zeros(1, requires_grad=True), []
>>> def compute(numbers, only):
...     if len(numbers) > 2:
...         raise torch.OutOfMemoryError("too large")
...     done.append(numbers)
>>> in_halves([[0, 1, 2, 3, 4], [5, 6, 7]], compute, [weight], None, print)
out of memory in the update: micro-batches of 3 instead of 5 completions from now on (engine.micro_batch)
out of memory in the update: micro-batches of 2 instead of 3 completions from now on (engine.micro_batch)
2
>>> done
[[0, 1], [2], [3, 4], [5, 6], [7]]
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from visual_rft.errors import ModelError


def in_halves(
    batches: Sequence[Sequence[int]],
    compute: Callable[[list[int], Sequence[Tensor] | None], None],
    learning: Sequence[Tensor],
    most: int | None,
    say: Callable[[str], object] = lambda text: print(f"warning: {text}", file=sys.stderr, flush=True),
) -> int | None:
    """Compute micro-batches one after the other, smaller ones once memory has run out.

    Args:
        batches: numbers of the completions of each.
        compute: function that scores some completions and adds the gradients of their share to the given tensors, None
            meaning all of ``learning``.
        learning: every tensor that collects gradients.
        most: greatest size that is tried; None takes the batches as they are.
        say: called with one line whenever memory runs out.

    Returns:
        The greatest size that is to be tried from now on.

    Raises:
        ModelError: if memory runs out with one completion.
    """
    waiting: list[tuple[list[int], Sequence[Tensor] | None]] = [(list(batch), None) for batch in reversed(batches)]
    while waiting:
        numbers, only = waiting.pop()
        if most is not None and len(numbers) > most:
            waiting += [(numbers[most:], only), (numbers[:most], only)]
            continue
        targets = learning if only is None else only
        before = [_state(tensor) for tensor in targets]
        if _fits(compute, numbers, only):
            continue
        if len(numbers) == 1:
            raise ModelError(
                "out of memory in the update with one completion at once; set engine.checkpoint_completions and "
                "engine.checkpoint_prompts 1, lower rollout.max_new_tokens or model.max_pixels, or use model.lora"
            )
        most = -(-len(numbers) // 2)
        say(
            f"out of memory in the update: micro-batches of {most} instead of {len(numbers)} completions from now on "
            "(engine.micro_batch)"
        )
        left = [tensor for tensor, state in zip(targets, before, strict=True) if _state(tensor) == state]
        waiting.append((numbers, only if len(left) == len(targets) else left))
        give_back()
    return most


def give_back() -> None:
    """Free what an attempt that failed has left behind."""
    gc.collect()  # a graph that was cut off holds itself
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def out_of_memory(where: str, error: torch.OutOfMemoryError) -> ModelError:
    """The error to raise in its place, which says what to do.

    Args:
        where: what was going on.
        error: what PyTorch says.
    """
    said = " ".join(str(error).split())[:160]
    return ModelError(
        f"out of memory {where} ({said}); take less at once (rollout.prompts_at_once 4, engine.memory_gib), shorter "
        "prompts or answers (model.max_pixels, rollout.max_new_tokens), or less to hold (model.lora, model.dtype "
        "bfloat16, optimizer.name adamw_8bit); --dry-run estimates each"
    )


def _fits(
    compute: Callable[[list[int], Sequence[Tensor] | None], None], numbers: list[int], only: Sequence[Tensor] | None
) -> bool:
    """Whether memory sufficed; a function of its own, because what failed is held as long as its exception."""
    try:
        compute(numbers, only)
    except torch.OutOfMemoryError:
        return False
    return True


def _state(tensor: Tensor) -> int | None:
    """Changes with every addition to a tensor's gradient."""
    return None if tensor.grad is None else tensor.grad._version
