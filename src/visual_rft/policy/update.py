"""The gradients of a loss, in two phases that bound the memory.

Decision: completions run in micro-batches on the prompts' keys and values as leaves, then the prompts backward once
with the gradients collected there: the same gradients as one pass over everything, the activations of one micro-batch
at a time. Where decoder layers are gathered one by one (``parallel/gathering.py``) all processes make the same number
of passes: those of the one that has most, in which the others have nothing to compute.

    logprobs = backward(policy, prefix, completions, loss)      # what Policy.backward is
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol

import torch
from torch import Tensor

from visual_rft.parallel.gathering import ByLayer
from visual_rft.policy.engine.checkpointing import Checkpointing
from visual_rft.policy.engine.interface import Engine
from visual_rft.policy.engine.prefix import Completions, Prefix, Rows
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.loss import Loss
from visual_rft.policy.memory.budget import Budget
from visual_rft.policy.memory.halving import in_halves
from visual_rft.policy.memory.plan import MemoryPlan
from visual_rft.policy.tower import Features, VisionTower


class Learning(Protocol):
    """What an update needs of a policy."""

    core: Any
    tower: VisionTower
    budget: Budget
    checkpointing: Checkpointing
    by_layer: ByLayer

    @property
    def shares_prefix(self) -> bool:
        """Whether each prompt is computed once for its whole group."""

    @property
    def engine(self) -> Engine:
        """What computes."""

    def computing(self) -> torch.autocast:
        """Inside, the policy computes in its type."""

    def memory_plan(self, inputs: Inputs) -> MemoryPlan:
        """How these prompts are computed."""

    def encode(self, prompts: Inputs, features: Features | None) -> Prefix:
        """The prompts, with graph."""


@dataclass(frozen=True)
class Part:
    """Prompts that are encoded at once, and the completions on them that a loss needs.

    Attributes:
        prompts: numbers of the prompts, of all B.
        inputs: of these prompts.
        plan: how they are computed.
        micro_batches: numbers (of B * G, ascending) of the completions that run at once.
    """

    prompts: range
    inputs: Inputs
    plan: MemoryPlan
    micro_batches: list[list[int]]


@dataclass(frozen=True)
class Update:
    """What the gradients are of.

    Attributes:
        policy: whose weights get them.
        prefix: the prompts; encoded again where it kept no graph.
        completions: on them.
        loss: of the completions.
        logprobs: ``[B * G, T]``, filled by the computation.
    """

    policy: Learning
    prefix: Prefix
    completions: Completions
    loss: Loss
    logprobs: Tensor

    @property
    def has_graph(self) -> bool:
        """Whether the graph that the prompts kept from sampling serves: weights have been there ever since."""
        return self.prefix.has_graph and not self.policy.by_layer

    def parts(self) -> list[Part]:
        """The completions that the loss needs, by the prompts that are encoded at once."""
        group, needed = self.completions.ids.shape[1], self.loss.needed
        lengths = self.completions.lengths.flatten()
        whole = self.policy.memory_plan(self.prefix.inputs)
        at_once = self.has_graph or not self.policy.shares_prefix
        parts = []
        for prompts in [range(len(self.prefix))] if at_once else whole.chunks(len(self.prefix)):
            rows = [number for number in needed if number // group in prompts]
            if rows:
                inputs = self.prefix.inputs if at_once else self.prefix.inputs.select(prompts)
                plan = self.policy.memory_plan(inputs)
                parts.append(Part(prompts, inputs, plan, plan.micro_batches(lengths[rows].tolist(), rows)))
        return parts

    def encoded(self, part: Part) -> Prefix:
        """The prompts of a part, with graph where there is one."""
        if self.has_graph or not self.policy.shares_prefix:
            return self.prefix
        known = None
        if self.prefix.features is not None and self.policy.tower.frozen:
            known = self.prefix.features.only(self.prefix.inputs.used_sets(part.prompts))
        return self.policy.encode(part.inputs, known)

    def compute(self, part: Part, passes: int) -> None:
        """Both phases for a part, in so many micro-batches on all processes."""
        policy, by_layer = self.policy, self.policy.by_layer
        with by_layer.forward() if policy.shares_prefix else nullcontext():
            prompts = self.encoded(part)
        # The completions; their gradients to the prompts are collected in the leaves.
        leaves = prompts.leaves()

        def compute(micro_batch: list[int], only: Sequence[Tensor] | None) -> None:
            checkpointing = policy.checkpointing(float(part.plan.checkpoint_completions))
            with by_layer.forward(), policy.computing(), checkpointing:
                logprobs = policy.engine.score(leaves, Rows.of(self.completions, micro_batch, part.prompts.start))
            numbers = torch.tensor(micro_batch, device=logprobs.device)
            if only is None or only:  # tensors that have their gradients already are not given them twice
                with by_layer.backward():
                    torch.autograd.backward(self.loss.share(logprobs, numbers), inputs=only)
            self.logprobs[numbers, : logprobs.shape[1]] = logprobs.detach()

        if by_layer:  # half a micro-batch more would be one that the other processes do not make
            for micro_batch in part.micro_batches:
                compute(micro_batch, None)
            go_through(by_layer, passes - len(part.micro_batches))
        else:
            learning = [x for x in (*policy.core.parameters(), *leaves.tensors) if x.requires_grad]
            most = policy.budget.most_completions
            policy.budget.most_completions = in_halves(part.micro_batches, compute, learning, most)
        # The prompts, once.
        with by_layer.backward() if policy.shares_prefix else nullcontext():
            prompts.backward(leaves)


def backward(policy: Learning, prefix: Prefix, completions: Completions, loss: Loss) -> Tensor:
    """See :meth:`~visual_rft.policy.policy.Policy.backward`."""
    update = Update(policy, prefix, completions, loss, completions.logprobs.flatten(0, 1).clone())
    _in_all_processes(policy, update, update.parts())
    return update.logprobs.view_as(completions.logprobs)


def join_backward(policy: Learning) -> None:
    """Compute nothing at a place where other processes may call :func:`backward`."""
    _in_all_processes(policy, None, [])


def _in_all_processes(policy: Learning, update: Update | None, parts: Sequence[Part]) -> None:
    by_layer = policy.by_layer
    agreed = by_layer.agreed([len(part.micro_batches) for part in parts])
    if not agreed:
        return
    with by_layer.update():
        for part, passes in zip_longest(parts, agreed):
            if part is not None and update is not None:
                update.compute(part, passes)
                continue
            with by_layer.forward() if policy.shares_prefix else nullcontext():
                pass
            go_through(by_layer, passes)
            with by_layer.backward() if policy.shares_prefix else nullcontext():
                pass


def go_through(by_layer: ByLayer, passes: int) -> None:
    """Passes of a micro-batch that other processes compute and this one has not."""
    for _ in range(passes):
        with by_layer.forward():
            pass
        with by_layer.backward():
            pass
