"""How large a run is: parameters by part, and the memory of a step, without loading a weight.

Decision: what a step holds throughout (weights, reference, gradients, optimiser) is counted exactly from the shapes of
the parameters; what comes and goes follows the plan that the engine would make with that much memory (``plan.py``),
so that the estimate and the run cannot differ in what they decide. A run is as large as the largest of
its three phases: sampling, the update, and an evaluation. ``benchmarks/memory.py`` measures it.

    footprint = Footprint.of(config, policy, policy.prepare([longest]), limit=40 * 2**30)
    footprint.total, footprint.parts
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from visual_rft.config.config import Config
from visual_rft.parallel.gathering import layers_of
from visual_rft.parallel.processes import here
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.memory.activations import activation_size, copied_bytes
from visual_rft.policy.memory.budget import ACTIVATION_SHARE, AVERAGES_BYTES, card_bytes
from visual_rft.policy.memory.caches import ANSWERED_AT_ONCE, answered_at_once, laid_out_bytes, sampling_bytes
from visual_rft.policy.memory.plan import plan_memory
from visual_rft.policy.policy import Policy

UNREACHED_BYTES = 1e18
"""A limit that nothing reaches."""
BYTES_OF_WEIGHT = {"nf4": 0.52, "int8": 1.0}
"""Bytes per quantised weight; nf4 has half a byte and a scale for every 64, itself in 8 bits."""


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: ``total``, and how many of them learn."""

    total: int
    trainable: int

    @classmethod
    def of(cls, parameters: Iterable[torch.nn.Parameter]) -> Parameters:
        found = list(parameters)
        return cls(sum(p.numel() for p in found), sum(p.numel() for p in found if p.requires_grad))

    @property
    def frozen(self) -> int:
        """Those that stay as they are."""
        return self.total - self.trainable


def count_parameters(policy: Policy) -> dict[str, Parameters]:
    """Parameters of the whole ``model`` and of its ``vision tower``, ``projector`` and ``language model``.

    An adapter counts to the part that it adapts.
    """
    parts: dict[str, list[torch.nn.Parameter]] = {"vision tower": [], "projector": [], "language model": []}
    for name, parameter in policy.model.named_parameters():
        vision = "projector" if policy.family.is_projector(name) else "vision tower"
        parts[vision if policy.family.is_vision(name) else "language model"].append(parameter)
    return {"model": Parameters.of(policy.model.parameters()),
            **{part: Parameters.of(found) for part, found in parts.items()}}  # fmt: skip


@dataclass(frozen=True)
class Footprint:
    """Bytes of a run: what is there throughout, and what each of its phases adds to that.

    Attributes:
        held: bytes by name of what is there throughout.
        sampling: bytes by name of what sampling adds to that.
        update: bytes by name of what the update adds to it.
        evaluation: bytes by name of what an evaluation adds to it; its questions are cut to what fits, so this is what
            one question takes at least, or as many as the limit allows.
    """

    held: Mapping[str, float]
    sampling: Mapping[str, float]
    update: Mapping[str, float]
    evaluation: Mapping[str, float]

    @property
    def total(self) -> float:
        """The most that is in use at once."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, float]:
        """What is in use when it is most, by name."""
        phases: tuple[Mapping[str, float], ...] = (self.sampling, self.update, self.evaluation)
        totals = [sum(phase.values()) for phase in phases]
        return {**self.held, **phases[totals.index(max(totals))]}

    @property
    def beside_activations(self) -> float:
        """What is there during an update whatever fits: weights, gradients and the optimiser."""
        return sum(self.held.values()) + self.update.get("weights", 0.0) + self.update["gradients"]

    @classmethod
    def of(
        cls, config: Config, policy: Policy, inputs: Inputs, limit: float | None = None, *, supervised: bool = False
    ) -> Footprint:
        """Estimate a step whose prompts are all as long as the longest and whose completions have full length.

        Args:
            config: the whole run.
            policy: the model, with or without its weights.
            inputs: the longest prompt.
            limit: bytes that activations may take; None takes no notice of memory.
            supervised: one gold answer per prompt instead of a sampled group, and no reference.
        """
        loop, rollout = config.run, config.rollout
        prompts = loop.prompts_per_batch if supervised else loop.prompts_per_step
        prompts = min(prompts, prompts if supervised else rollout.prompts_at_once or prompts)
        prompts = -(-prompts // here().size)  # every process takes its share
        limit_bytes = UNREACHED_BYTES if limit is None else limit
        group = 1 if supervised else int(rollout.ever("group_size"))
        update, graph_bytes = _update(config, policy, inputs, prompts, limit_bytes, group)
        sampling: dict[str, float] = {}
        if not supervised:
            each = _sampling(policy, inputs, rollout.max_new_tokens, prompts, group, graph_bytes > 0)
            sampling = {"prompts with graph": graph_bytes, **each}
        held = held_bytes(config, policy, supervised=supervised, processes=here().size)
        most = answered_at_once(policy.core, inputs, policy.types, rollout.max_new_tokens, limit_bytes)
        evaluation = _sampling(policy, inputs, rollout.max_new_tokens, min(most, ANSWERED_AT_ONCE), 1, graph=False)
        if "weights" in update:  # fewer than there are in the other phases
            weights = {"weights": held.pop("weights")}
            sampling, evaluation = {**weights, **sampling}, {**weights, **evaluation}
        return cls(held, sampling, update, evaluation)


def _update(
    config: Config, policy: Policy, inputs: Inputs, prompts: int, limit_bytes: float, group: int
) -> tuple[dict[str, float], float]:
    """Bytes by name of an update on so many prompts, and of the graph that they keep while answers are sampled."""
    max_tokens = config.rollout.max_new_tokens
    learns, fused = not policy.tower.frozen, policy.fuses_layers
    one = activation_size(policy.core, inputs, policy.types, vision_learns=learns, fused=fused)
    size = one.times(prompts) if policy.shares_prefix else one.repeated(1, max_tokens)
    plan = plan_memory(config.engine, size, limit_bytes, prompts, max_tokens)
    graph_bytes = size.prompt_bytes_at(plan.checkpoint_prompts)
    full = plan.micro_batches([max_tokens] * (prompts * group), list(range(prompts * group)))
    tokens_at_once = float(max(map(len, full)) * max_tokens)
    update = {
        **update_bytes(config, policy),
        "prompts with graph": graph_bytes if plan.keep_graph else graph_bytes / prompts * plan.prompts_at_once,
        "completions": tokens_at_once * plan.bytes_per_token,
        "logits": plan.logits_bytes(tokens_at_once),
    }
    return update, graph_bytes if plan.keep_graph else 0.0


def _sampling(
    policy: Policy, inputs: Inputs, max_tokens: int, prompts: int, group: int, graph: bool
) -> dict[str, float]:
    """Bytes by name of sampling for so many prompts like the one of ``inputs``."""
    one = sampling_bytes(policy.core, inputs, policy.types, max_new_tokens=max_tokens, group=group, graph=graph)
    sizes = {name: size * prompts for name, size in one.items()}
    return {**sizes, "layers laid out anew": laid_out_bytes(policy.core)} if policy.fuses_layers else sizes


def held_bytes(config: Config, policy: Policy, *, supervised: bool = False, processes: int = 1) -> dict[str, float]:
    """Weights, copies of them and the optimiser's state, on each of so many processes."""
    parameters: list[torch.nn.Parameter] = list(policy.model.parameters())
    learning = [p for p in parameters if p.requires_grad]
    weights = sum(_bytes(name, p, config, policy) for name, p in policy.model.named_parameters())
    state = AVERAGES_BYTES[config.optimizer.name] * sum(p.numel() for p in learning)
    masters = 4.0 * sum(p.numel() for p in learning if p.element_size() < 4)
    parallel, share = config.parallel, 1.0  # of what is cut, on this process's device
    if parallel.strategy == "fsdp":
        share = 1 / min(parallel.shard_within or processes, processes)
        if parallel.offload == "optimizer":
            share = 0.0
        # Masters, and what is collected of the gradients where that is not once, at the end.
        masters = (8.0 if parallel.at_once else 4.0) * sum(p.numel() for p in learning)
        state, masters = share * state, share * masters
    held = {"weights": weights, "optimiser": state + masters}
    layers = _in_layers(policy, _bytes_of) if parallel.by_layer else []
    if not supervised and config.objective.ever("beta") > 0 and config.model.lora is None:
        held["reference"] = weights - _halved(policy)
        if layers:
            held["reference"] *= 1 - (1 - share) * sum(layers) / weights
    if layers and 0 < share < 1 and len(learning) < len(parameters):
        held["frozen weights in shards"] = share * sum(_in_layers(policy, _frozen_bytes))
    copies = copied_bytes(policy.core, policy.family, policy.types, graphs=2 if policy.shares_prefix else 1)
    return {**held, "weights as bfloat16": copies} if copies else held


def update_bytes(config: Config, policy: Policy) -> dict[str, float]:
    """Gradients, and the weights if an update does not have all of them, on each process."""
    gradients = float(sum(_bytes_of(p) for p in policy.model.parameters() if p.requires_grad))
    if config.parallel.at_once:
        layers = _in_layers(policy, lambda p: _bytes_of(p) - _frozen_bytes(p))
        gradients += max(layers) - sum(layers)
    if not config.parallel.by_layer:
        return {"gradients": gradients}
    layers = _in_layers(policy, _bytes_of)
    whole = sum(_bytes(name, p, config, policy) for name, p in policy.model.named_parameters())
    return {"weights": whole + max(layers) - sum(layers), "gradients": gradients}


def most_held(config: Config, policy: Policy, *, supervised: bool = False, processes: int = 1) -> float:
    """Bytes that each of so many processes needs beside activations, gradients included."""
    held = held_bytes(config, policy, supervised=supervised, processes=processes)
    weights, update = held.pop("weights"), update_bytes(config, policy)
    return sum(held.values()) + max(weights, update.get("weights", weights) + update["gradients"])


def _in_layers(policy: Policy, bytes_of: Callable[[torch.nn.Parameter], float]) -> list[float]:
    """Bytes of the parameters of each decoder layer."""
    return [sum(bytes_of(p) for p in layer.parameters()) for layer in layers_of(policy.core)]


def _frozen_bytes(parameter: torch.nn.Parameter) -> float:
    return 0.0 if parameter.requires_grad else _bytes_of(parameter)


def _bytes_of(parameter: torch.nn.Parameter) -> float:
    return float(parameter.numel() * parameter.element_size())


def _halved(policy: Policy) -> float:
    """Bytes that the reference saves where linear layers computed in bfloat16 are held so, as they were published."""
    if policy.types.weights == policy.types.computed:
        return 0.0
    tables = {id(module.weight) for module in policy.core.modules() if isinstance(module, torch.nn.Embedding)}
    linear = (module.weight for module in policy.core.modules() if isinstance(module, torch.nn.Linear))
    return float(sum(2 * weight.numel() for weight in linear if id(weight) not in tables))


def _bytes(name: str, parameter: torch.nn.Parameter, config: Config, policy: Policy) -> float:
    """Bytes of a weight; the linear layers of a quantised language model have few bits, see ``policy/loading.py``."""
    full = _bytes_of(parameter)
    quantised = config.model.quantization in BYTES_OF_WEIGHT and not parameter.requires_grad and parameter.ndim == 2
    if not quantised or policy.family.is_vision(name) or "embed_tokens" in name or "lm_head" in name:
        return full
    return BYTES_OF_WEIGHT[config.model.quantization] * parameter.numel()


def activation_limit(config: Config, held: float) -> float | None:
    """Bytes that activations may take: as the config says, or of the card that the run is for; None without one.

    Args:
        config: the whole run.
        held: bytes that a step holds throughout, gradients included.
    """
    if config.engine.memory_gib is not None:
        return config.engine.memory_gib * 2**30
    card = card_bytes(config)
    return None if card is None else max(0.0, ACTIVATION_SHARE * (card - held))
