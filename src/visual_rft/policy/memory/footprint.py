"""How large a run is: parameters by part, and the memory of a step, without loading a weight.

Decision: what a step holds throughout (weights, reference, gradients, optimiser) is counted exactly from the shapes of
the parameters; what comes and goes follows the plan that the engine would make with that much memory (``plan.py``),
so that the estimate and the run cannot differ in what they decide. A step is as large as the larger of
its two phases: sampling, and the update. ``benchmarks/memory.py`` measures it.

    footprint = Footprint.of(config, policy, policy.prepare([longest]), limit=40 * 2**30)
    footprint.total, footprint.parts
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from visual_rft.config.config import Config
from visual_rft.policy.engine.decoding import BLOCK_TOKENS
from visual_rft.policy.engine.logits import MAX_PIECE_BYTES
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.memory.activations import activation_size
from visual_rft.policy.memory.plan import ACTIVATION_SHARE, plan_memory
from visual_rft.policy.policy import Policy

UNREACHED_BYTES = 1e18
"""A limit that nothing reaches."""
BYTES_OF_STATE = {"adamw_8bit": 2.0}
"""Bytes per parameter of an optimiser whose state has a type of its own; others keep two values of the parameter's."""
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
    """Bytes of one training step.

    Attributes:
        held: bytes by name of what is there throughout.
        sampling: bytes by name of what sampling adds to that.
        update: bytes by name of what the update adds to it.
    """

    held: Mapping[str, float]
    sampling: Mapping[str, float]
    update: Mapping[str, float]

    @property
    def total(self) -> float:
        """The most that is in use at once."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, float]:
        """What is in use when it is most, by name."""
        larger = max(self.sampling, self.update, key=lambda parts: sum(parts.values()))
        return {**self.held, **larger}

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
        prompts, max_tokens = config.run.prompts_per_batch, config.rollout.max_new_tokens
        group = 1 if supervised else config.rollout.group_size
        tokens = float(prompts * group * max_tokens)
        text = policy.model_config.get_text_config()
        element_bytes = 2 if config.model.autocast == "bfloat16" else getattr(torch, config.model.dtype).itemsize

        one = activation_size(policy.model_config, inputs, element_bytes, vision_learns=not policy.tower.frozen)
        size = one.times(prompts) if policy.shares_prefix else one.repeated(1, max_tokens)
        plan = plan_memory(config.engine, size, UNREACHED_BYTES if limit is None else limit, prompts, max_tokens)

        graph_bytes = size.prompt_bytes_at(plan.checkpoint_prompts)
        tokens_at_once = min(tokens, max(plan.free_bytes // plan.bytes_per_token, max_tokens))
        if plan.micro_batch is not None:
            tokens_at_once = min(tokens, plan.micro_batch * max_tokens)
        logit_bytes = 12.0 * text.vocab_size  # logits, their log-softmax and its gradient, float32
        update = {
            "prompts with graph": graph_bytes if plan.keep_graph else graph_bytes / prompts * plan.prompts_at_once,
            "completions": tokens_at_once * (plan.bytes_per_token - logit_bytes),
            "logits": min(tokens_at_once * logit_bytes, 3.0 * MAX_PIECE_BYTES),
        }

        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        cached_bytes = 2 * text.num_key_value_heads * width * text.num_hidden_layers * element_bytes  # of one token
        buffered = -(-max_tokens // BLOCK_TOKENS) * BLOCK_TOKENS
        sampling = {
            "prompts with graph": graph_bytes if plan.keep_graph else 0.0,
            # The keys of the prompts are laid out anew for decoding, beside the prefix itself.
            "prompts cached": float(cached_bytes * sum(inputs.lengths) * prompts * (1 if plan.keep_graph else 2)),
            "completions cached": float(cached_bytes * prompts * group * buffered),
            "logits": 24.0 * text.vocab_size * prompts * group,
        }
        return cls(_held(config, policy, supervised), {} if supervised else sampling, update)


def _held(config: Config, policy: Policy, supervised: bool) -> dict[str, float]:
    """Weights, copies of them, gradients and the optimiser's state."""
    parameters: list[torch.nn.Parameter] = list(policy.model.parameters())
    learning = [p for p in parameters if p.requires_grad]
    weights = sum(_bytes(name, p, config, policy) for name, p in policy.model.named_parameters())
    gradients = float(sum(p.numel() * p.element_size() for p in learning))
    state = BYTES_OF_STATE.get(config.optimizer.name)
    held = {
        "weights": weights,
        "gradients": gradients,
        "optimiser": 2 * gradients if state is None else state * sum(p.numel() for p in learning),
    }
    if not supervised and config.objective.ever("beta") > 0 and config.model.lora is None:
        held["reference"] = weights
    if config.model.autocast == "bfloat16" and config.model.dtype == "float32":
        # The graph of the prompts and that of the completions each hold the matrices that they were computed with.
        named = [(name, p.numel()) for name, p in policy.model.named_parameters() if p.ndim >= 2]
        vision = sum(count for name, count in named if policy.family.is_vision(name))
        language = sum(count for _, count in named) - vision
        graphs = 2 if policy.shares_prefix else 1
        held["weights as bfloat16"] = 2.0 * (graphs * language + (0 if policy.tower.frozen else vision))
    return held


def _bytes(name: str, parameter: torch.nn.Parameter, config: Config, policy: Policy) -> float:
    """Bytes of a weight; the linear layers of a quantised language model have few bits, see ``policy/loading.py``."""
    full = float(parameter.numel() * parameter.element_size())
    quantised = config.model.quantization in BYTES_OF_WEIGHT and not parameter.requires_grad and parameter.ndim == 2
    if not quantised or policy.family.is_vision(name) or "embed_tokens" in name or "lm_head" in name:
        return full
    return BYTES_OF_WEIGHT[config.model.quantization] * parameter.numel()


def activation_limit(config: Config, held: float) -> float | None:
    """Bytes that activations may take here: as the config says, or of this machine's GPU; None without one.

    Args:
        config: the whole run.
        held: bytes that a step holds throughout.
    """
    if config.engine.memory_gib is not None:
        return config.engine.memory_gib * 2**30
    if torch.cuda.is_available():
        return max(0.0, ACTIVATION_SHARE * (float(torch.cuda.mem_get_info()[1]) - held))
    return None
