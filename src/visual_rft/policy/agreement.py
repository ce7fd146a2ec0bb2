"""Does sharing the prefix change nothing? Asked of the model and data at hand before a run relies on it.

Decision: exactness is a property of a model's code, of the library's version and of the device's kernels, so it is not
assumed: a few short completions are sampled on real prompts and scored both ways, with gradients where the model is
small. Where the two differ, or sharing fails altogether, the policy falls back to the repeated path and says so.

    inputs = policy.prepare(prompts)
    verify(policy, inputs)            # warns and calls policy.fall_back(...) on a mismatch
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from visual_rft.parallel.meetings import gather
from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.loss import WeightedLogprobs
from visual_rft.policy.memory.halving import out_of_memory
from visual_rft.policy.policy import Policy

MAX_PROMPTS, GROUP_SIZE, MAX_TOKENS = 2, 2, 16
"""What is compared: the first prompts, completions of each, tokens of each."""
MAX_PARAMETERS_WITH_GRADIENTS = 20_000_000
"""Parameters up to which gradients are compared too."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Mean difference of log-probabilities that rounding explains: between shared and repeated rows, 1e-5 at most was seen
in float32; bfloat16 keeps 8 bits, and the repeated path itself is that far from float32."""


class SharedPrefixWarning(UserWarning):
    """The shared prefix is not exact here; the slower repeated path is used."""


def verify(policy: Policy, inputs: Inputs) -> None:
    """Compare both ways on the first prompts of ``inputs``; fall back with a warning where they differ.

    Warns:
        SharedPrefixWarning: naming the difference.

    Raises:
        ModelError: if memory runs out.
    """
    if not policy.shares_prefix or not policy.engine_config.self_check:
        return
    inputs = inputs.select(range(min(MAX_PROMPTS, len(inputs.prompts))))
    try:
        problem = _difference(policy, inputs)
    except torch.OutOfMemoryError as error:  # says nothing about sharing, and the other way needs more
        raise out_of_memory("in the check before the first step (engine.self_check)", error) from error
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, IndexError) as error:
        problem = f"it fails with {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    policy.model.zero_grad()
    if problem is not None:
        policy.fall_back(problem)
        warnings.warn(
            f"the shared prefix is not used for this model ({policy.model_config.model_type}): {problem}. Every "
            "completion repeats its prompt and image instead, which is right but slower",
            SharedPrefixWarning,
            stacklevel=2,
        )


def verify_together(policy: Policy, inputs: Inputs) -> None:
    """As :func:`verify`, each process on its own prompts; where one falls back, all do.

    Warns:
        SharedPrefixWarning: naming the difference.
    """
    verify(policy, inputs)
    for reason in gather(policy.fallback_reason, "the self-check"):
        if reason is not None and policy.shares_prefix:
            policy.fall_back(reason)


def _difference(policy: Policy, inputs: Inputs) -> str | None:
    """What is wrong, or None."""
    sampling = policy.sampling
    try:
        policy.sampling = replace(sampling, max_new_tokens=min(MAX_TOKENS, sampling.max_new_tokens))
        with torch.no_grad():
            completions = policy.sample(policy.encode(inputs), GROUP_SIZE)
    finally:
        policy.sampling = sampling
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    count = sum(p.numel() for p in policy.model.parameters())
    with_gradients = bool(parameters) and count <= MAX_PARAMETERS_WITH_GRADIENTS
    tolerance = tolerance_of({p.dtype for p in policy.core.parameters()}, policy.autocast)

    ours, our_gradient = _scored(policy, inputs, completions, with_gradients)
    policy.fall_back("it is compared with the repeated path")
    try:
        theirs, their_gradient = _scored(policy, inputs, completions, with_gradients)
    finally:
        policy.fallback_reason = None
    for name, values in (("sampled", completions.logprobs), ("scored", ours)):
        difference = (values - theirs)[completions.mask].abs().mean().item()
        if not difference <= tolerance:
            return f"log-probabilities {name} on it differ from those of repeated rows by {difference:.2g} on average"
    if with_gradients:
        difference = ((our_gradient - their_gradient).norm() / their_gradient.norm().clamp(min=1e-12)).item()
        if not difference <= tolerance:
            return f"gradients differ from those of repeated rows by {difference:.2g} of their norm"
    return None


def tolerance_of(dtypes: Iterable[torch.dtype], autocast: torch.dtype | None = None) -> float:
    """What rounding explains where weights have these types: the coarsest counts.

    An adapter is float32 on a bfloat16 base, and quantised weights are integers that are computed in bfloat16.
    """
    computed = [autocast] if autocast is not None else [dtype for dtype in dtypes if dtype.is_floating_point]
    return max((TOLERANCE.get(dtype, 1e-3) for dtype in computed), default=0.1)


def _scored(policy: Policy, inputs: Inputs, completions: Completions, with_gradients: bool) -> tuple[Tensor, Tensor]:
    """Log-probabilities and, if wanted, the gradient of their weighted sum in one vector."""
    if not with_gradients:
        with torch.no_grad():
            return policy.logprobs(policy.encode(inputs), completions), torch.empty(0)
    policy.model.zero_grad()
    # Different weights, so that errors of different tokens do not cancel.
    weights = torch.linspace(-1, 1, completions.mask.numel(), device=policy.device).view(completions.mask.shape)
    scored = policy.backward(policy.encode(inputs), completions, WeightedLogprobs(weights))
    found = [p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]
    return scored, torch.cat(found)
