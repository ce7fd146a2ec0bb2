"""The reference policy of the KL term.

Decision: the base under a LoRA adapter needs no second model; a fully trained policy keeps one frozen copy of its
starting weights; with ``beta`` 0 there is no reference at all. Where the vision tower is not trained it is the same in
both, and the reference takes the policy's image features; where it is trained, the reference keeps its own from step
to step, because its tower never changes. Under autocast the copy's linear layers are held in the type they compute in,
where that loses nothing (weights that were published in bfloat16): the same numbers to the last bit in half the memory.
Where the policy's layers are gathered one by one, the copy's are too.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visual_rft.config.config import Config
from visual_rft.parallel.gathering import ByLayer, layers_of
from visual_rft.policy.engine.prefix import Completions, Prefix
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy


class Reference:
    """Scores completions under the policy as it was before training.

    Args:
        policy: the policy that is trained, not yet changed unless it has an adapter.
        frozen: a policy with the starting weights; None makes a copy of ``policy`` (or, with an adapter, none).
    """

    def __init__(self, policy: Policy, frozen: Policy | None = None) -> None:
        self.policy = policy
        self.frozen = frozen
        if frozen is None and not hasattr(policy.model, "disable_adapter"):
            self.frozen = Policy(
                copy.deepcopy(policy.model), policy.processor, policy.sampling, policy.autocast, policy.engine_config,
                policy.family,
            )  # fmt: skip
        if self.frozen is not None:
            self.frozen.model.requires_grad_(False)
            if self.frozen.autocast is not None:
                hold_as_computed(self.frozen.core, self.frozen.autocast)
            if policy.fallback_reason is not None:  # what is not exact for the one is not for its copy
                self.frozen.fall_back(policy.fallback_reason)
            if policy.by_layer.gathers:  # away from now on, but for the layer that computes
                self.frozen.by_layer = ByLayer(layers_of(self.frozen.core), policy.by_layer.shards, gather=True)
                self.frozen.by_layer.release()

    @classmethod
    def at_start(cls, policy: Policy, config: Config, resumed_from: Path | None) -> Reference | None:
        """The reference of a run, None if ``beta`` stays 0; a full run that was resumed loads its starting weights
        again."""
        if config.objective.ever("beta") == 0:
            return None
        if resumed_from is None or config.model.lora is not None:
            return cls(policy)
        return cls(policy, load_policy(config.model, config.rollout, engine=config.engine).to(policy.device))

    @torch.no_grad()
    def logprobs(self, prefix: Prefix, completions: Completions) -> Tensor:
        """Log-probabilities ``[B, G, T]`` of the completion tokens under the reference, 0 in padding.

        Args:
            prefix: the policy's own, whose image features serve the reference where the vision tower is not trained.
            completions: completions of those prompts.
        """
        features = prefix.features if self.policy.tower.frozen else None
        if self.frozen is not None:
            self.frozen.sampling = self.policy.sampling  # the temperature may change over the run
            self.frozen.constraint = self.policy.constraint
            by_layer = self.frozen.by_layer
            with by_layer.update(whole_after=False):
                with by_layer.forward():
                    encoded = self.frozen.encode(prefix.inputs, features)
                with by_layer.forward():
                    return self.frozen.logprobs(encoded, completions)
        with self.policy.model.disable_adapter():
            return self.policy.logprobs(self.policy.encode(prefix.inputs, features), completions)


def hold_as_computed(core: Any, dtype: torch.dtype) -> None:
    """Hold the weights of linear layers in the type to which autocast casts them, where they are the same in it.

    Left as they are: what a table of embeddings shares, because a table is not cast, and what would be rounded.
    """
    tables = {id(module.weight) for module in core.modules() if isinstance(module, torch.nn.Embedding)}
    for module in core.modules():
        if isinstance(module, torch.nn.Linear) and id(module.weight) not in tables:
            cast = module.weight.detach().to(dtype)
            if torch.equal(cast.to(module.weight.dtype), module.weight):
                module.weight = torch.nn.Parameter(cast, requires_grad=False)
