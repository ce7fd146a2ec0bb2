"""The sampler that a config asks for.

sampler = sampler_of(policy, config, Path("runs/coins"))
"""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path

from visual_rft.config.config import Config
from visual_rft.policy.policy import Policy
from visual_rft.policy.stored.places import model_folder
from visual_rft.samplers.colocated import Colocated, ColocatedWeights
from visual_rft.samplers.interface import OwnSampler, Sampler, SamplingEngine
from visual_rft.samplers.proof import Proof
from visual_rft.samplers.served import ServedSampler
from visual_rft.samplers.weights import AdapterWeights, FileWeights, Weights
from visual_rft.serving.client import Client
from visual_rft.serving.patience import Patience
from visual_rft.serving.started import started
from visual_rft.serving.vllm_options import SERVER_VARIABLES, flags, rollout_options


def sampler_of(policy: Policy, config: Config, run: Path) -> Sampler:
    """Who samples: the policy, vLLM in this process, or servers, which are started if the config says so.

    Args:
        policy: the model that learns.
        config: of the run.
        run: its folder, under which weights go to servers where nothing else is said.

    Raises:
        ServerError: if no server answers, or vLLM does not start.
        ConfigError: if the model there has to be named, or vLLM is not there to be started.
    """
    rollout = config.rollout
    if rollout.engine == "own":
        return OwnSampler(policy)
    folder = Path(rollout.weights_folder or run / "served-weights")
    dtype = str(policy.autocast or next(policy.core.parameters()).dtype).removeprefix("torch.")
    options = rollout_options(config.model, dtype, constrained=rollout.constrained)
    base = model_folder(config.model.path)
    with ExitStack() as undo:
        engine: SamplingEngine
        weights: Weights
        if rollout.mode == "colocate":
            engine = local = Colocated.open(base, options, rollout.memory_share)
            weights = ColocatedWeights(local, folder if config.model.lora else None)
        else:
            urls = rollout.urls
            if rollout.serve is not None:
                command = [*shlex.split(rollout.serve), base, *flags(options)]
                urls = (undo.enter_context(started(command, server_log(run), SERVER_VARIABLES)),)
            patience = Patience(in_flight=rollout.in_flight, tries=rollout.tries, answer=rollout.answer_seconds)
            engine = client = Client(urls, rollout.served_model, patience)
            weights = FileWeights(client, folder) if config.model.lora is None else AdapterWeights(client, folder)
        undo.callback(engine.close)
        proof = Proof(policy, rollout.tolerance)
        return ServedSampler(policy, engine, weights, proof, rollout.ahead, undo.pop_all())


def server_log(run: Path) -> Path:
    """Where a server that is started for a run says what it does: beside the run folder, which is made after it."""
    return run.with_name(f"{run.name}-server.log")
