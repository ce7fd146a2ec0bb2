"""The sampler that a config asks for.

sampler = sampler_of(policy, config, Path("runs/coins"))
"""

from __future__ import annotations

from pathlib import Path

from visual_rft.config.config import Config
from visual_rft.policy.policy import Policy
from visual_rft.samplers.interface import OwnSampler, Sampler
from visual_rft.samplers.proof import Proof
from visual_rft.samplers.served import ServedSampler
from visual_rft.samplers.weights import AdapterWeights, FileWeights
from visual_rft.serving.client import Client
from visual_rft.serving.patience import Patience


def sampler_of(policy: Policy, config: Config, run: Path) -> Sampler:
    """Who samples: the policy, or the servers of the config, which are asked for their model at once.

    Args:
        policy: the model that learns.
        config: of the run.
        run: its folder, under which weights go to servers where nothing else is said.

    Raises:
        ServerError: if no server answers.
        ConfigError: if the model there has to be named.
    """
    rollout = config.rollout
    if rollout.engine == "own":
        return OwnSampler(policy)
    patience = Patience(in_flight=rollout.in_flight, tries=rollout.tries, answer=rollout.answer_seconds)
    client = Client(rollout.urls, rollout.served_model, patience)
    way = FileWeights if config.model.lora is None else AdapterWeights
    weights = way(client, Path(rollout.weights_folder or run / "served-weights"))
    proof = Proof(policy, rollout.tolerance)
    return ServedSampler(policy, client, weights, proof, rollout.group_size, rollout.ahead)
