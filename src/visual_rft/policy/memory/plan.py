"""How an update fits into memory: the plan that follows from what each token keeps (``activations.py``).

Decision: four settings bound the memory of an update, all exact: gradient checkpointing, whether the prompts keep their
graph from sampling to the update, how many prompts are encoded at once where they do not, and how many completions run
at once. Each is a field of the config; left empty it follows from the estimate. Half of the limit is for prompts: as
many layers as need be keep only their input, and if even that does not fit, prompts are encoded a few at a time.
Completions take what is left, but a quarter at least; their layers are checkpointed only if a single one of full length
does not fit. The limit is taken once, so that every step has the same plan.

>>> size = ActivationSize(
...     prompt_bytes=100, checkpointed_prompt_bytes=10, bytes_per_token=1, checkpointed_bytes_per_token=1
... )
>>> plan = plan_memory(EngineConfig(), size, limit_bytes=120, prompts=2, max_tokens=7)
>>> plan.keep_graph, plan.micro_batches([60, 60], [0, 1])
(True, [[0], [1]])
>>> round(plan.checkpoint_prompts, 2)  # 0.44 of the layers hold 60 instead of 100
0.44
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visual_rft.config.sections import EngineConfig
from visual_rft.policy.memory.activations import ActivationSize


@dataclass(frozen=True)
class MemoryPlan:
    """How the update of one batch is computed.

    Attributes:
        checkpoint_prompts: share of the layers, 0 to 1, that keep only their input while prompts are encoded with
            graph.
        checkpoint_completions: whether all layers keep only their input while completions are scored.
        keep_graph: whether the graph of the prompts stays alive from sampling to the update.
        prompts_at_once: number of prompts that are encoded at once where it does not.
        micro_batch: number of completions at once; None takes as many as ``free_bytes`` allow.
        free_bytes: bytes that the activations of completions may take.
        bytes_per_token: bytes of one completion token, without its logits.
        logits_per_token: bytes of its logits and their gradient.
        logits_at_most: bytes that all logits of a pass take at most.
    """

    checkpoint_prompts: float
    checkpoint_completions: bool
    keep_graph: bool
    prompts_at_once: int
    micro_batch: int | None
    free_bytes: float
    bytes_per_token: float
    logits_per_token: float = 0.0
    logits_at_most: float = 0.0

    def completion_bytes(self, tokens: float) -> float:
        """Bytes of so many completion tokens at once."""
        return tokens * self.bytes_per_token + self.logits_bytes(tokens)

    def logits_bytes(self, tokens: float) -> float:
        """Bytes of the logits of so many completion tokens at once."""
        return min(tokens * self.logits_per_token, self.logits_at_most)

    def chunks(self, prompts: int) -> list[range]:
        """The numbers 0 to ``prompts`` - 1 in consecutive ranges, each encoded at once."""
        width = self.prompts_at_once
        return [range(start, min(start + width, prompts)) for start in range(0, prompts, width)]

    def micro_batches(self, lengths: Sequence[int], numbers: Sequence[int]) -> list[list[int]]:
        """``numbers`` of completions, cut into micro-batches that run at once, in order.

        Args:
            lengths: tokens of each completion.
            numbers: its number, which is what is cut.
        """
        batches: list[list[int]] = []
        tokens = 0
        for number, length in zip(numbers, lengths, strict=True):
            full = not batches or len(batches[-1]) == self.micro_batch
            if full or (self.micro_batch is None and self.completion_bytes(tokens + length) > self.free_bytes):
                batches.append([])
                tokens = 0
            batches[-1].append(number)
            tokens += length
        return batches


def plan_memory(
    config: EngineConfig, size: ActivationSize, limit_bytes: float, prompts: int, max_tokens: int
) -> MemoryPlan:
    """The plan for a batch; fields of the config that are set are obeyed.

    Args:
        config: settings of the engine; a field that is null follows from the size.
        size: bytes that the batch keeps.
        limit_bytes: bytes that activations may take.
        prompts: number of prompts in the batch.
        max_tokens: most tokens of a completion.
    """
    share = config.checkpoint_prompts
    if share is None:
        saved_bytes = max(size.prompt_bytes - size.checkpointed_prompt_bytes, 1e-9)
        share = min(max((size.prompt_bytes - limit_bytes / 2) / saved_bytes, 0.0), 1.0)
    checkpoint_completions = config.checkpoint_completions
    if checkpoint_completions is None:
        logits_bytes = min(max_tokens * size.logits_per_token, size.logits_at_most)
        checkpoint_completions = max_tokens * size.bytes_per_token + logits_bytes > limit_bytes / 4
    kept_bytes = size.prompt_bytes_at(share)
    keep_graph = config.reuse_rollout_graph
    if keep_graph is None:
        keep_graph = kept_bytes <= limit_bytes / 2 + 1  # a byte for rounding
    fitting = int(prompts * limit_bytes / 2 / kept_bytes) if kept_bytes > 0 else prompts
    return MemoryPlan(
        share,
        checkpoint_completions,
        keep_graph,
        prompts_at_once=config.prompts_at_once or min(max(fitting, 1), prompts),
        micro_batch=config.micro_batch,
        free_bytes=max(limit_bytes - kept_bytes, limit_bytes / 4),
        bytes_per_token=size.checkpointed_bytes_per_token if checkpoint_completions else size.bytes_per_token,
        logits_per_token=size.logits_per_token,
        logits_at_most=size.logits_at_most,
    )
