"""The policy: encode prompts once, sample groups on the shared prefix, score completions with gradient.

Decision: the stock ``transformers`` model, unpatched, behind four methods:
    prefix      = policy.encode(prompts)                 # vision tower once per image, language model once per prompt
    completions = policy.sample(prefix, group_size=8)    # 8 answers per prompt on that prefix
    logprobs    = policy.logprobs(prefix, completions)   # [B, G, T], with gradient through the prefix
    policy.backward(prefix, completions, loss)           # the same gradients in bounded memory

The prefix keeps its graph, which serves the update too while the weights are unchanged; later it is an error.
Log-probabilities are those of the *sampled* distribution: tempered, without image placeholders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from visual_rft.config.sections import EngineConfig
from visual_rft.errors import ModelError
from visual_rft.parallel.gathering import ByLayer
from visual_rft.policy.engine.attention.shared_prefix import SHARED_PREFIX_ATTENTION
from visual_rft.policy.engine.attention.windows import attend_in_windows
from visual_rft.policy.engine.checkpointing import Checkpointing
from visual_rft.policy.engine.constraint import Constraint
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.interface import Engine
from visual_rft.policy.engine.logits import Head
from visual_rft.policy.engine.prefix import Completions, Prefix, Rows
from visual_rft.policy.engine.repeated import RepeatedEngine
from visual_rft.policy.engine.sampling import Sampling, end_ids_of, placeholder_ids, sample_tokens
from visual_rft.policy.engine.shared import SharedEngine
from visual_rft.policy.families import Family, family_of
from visual_rft.policy.inputs import Inputs, OpenedReasoning, prepare
from visual_rft.policy.loss import Loss
from visual_rft.policy.memory.activations import NumberTypes, activation_size, copied_bytes
from visual_rft.policy.memory.budget import Budget
from visual_rft.policy.memory.plan import MemoryPlan, plan_memory
from visual_rft.policy.patches import multiply_patches
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.tower import FeatureCache, Features, VisionTower
from visual_rft.policy.update import backward, join_backward
from visual_rft.vision.coordinates import CoordinateSpace


class Policy:
    """A vision-language model that answers questions about images.

    Args:
        model: a stock image-text-to-text model, or one wrapped by peft.
        processor: its processor.
        sampling: settings of drawing completions; ``logprobs`` uses the same temperature.
        autocast: type in which sampling and scoring compute where it is safe; None computes in the weights' own.
        engine: settings of the computation; None takes the defaults.
        family: facts about the model's family; None looks them up.

    Attributes:
        fallback_reason: why the shared prefix is not used, in words; None where it is.
        updates: steps of an optimiser that changes weights unseen (a fused one).
        constraint: pattern that completions follow; None lets them say anything.
        by_layer: which of the weights are away during an update.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        sampling: Sampling | None = None,
        autocast: torch.dtype | None = None,
        engine: EngineConfig | None = None,
        family: Family | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.sampling = sampling or Sampling()
        self.autocast = autocast
        self.engine_config = engine or EngineConfig()
        # peft wraps the model; the wrapped one has the methods that compute image features and positions.
        self.core: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.model_config: Any = self.core.config
        self.family = family or family_of(self.model_config.model_type)
        self.reasoning = OpenedReasoning(processor, self.family)
        self.end_ids = end_ids_of(self.core, processor.tokenizer)
        pad_id = processor.tokenizer.pad_token_id
        self.pad_id: int = pad_id if pad_id is not None else self.end_ids[0]
        self.forbidden = torch.tensor(placeholder_ids(self.model_config, processor), device=self.device).long()
        self.types = NumberTypes.of(self.core, autocast, adapter=self.core is not model)
        cache = FeatureCache(int(self.engine_config.feature_cache_mib * 2**20))
        self.tower = VisionTower(self.core, self.family, cache)
        self.checkpointing = Checkpointing(self.core)
        self.budget = Budget(self.engine_config)
        self.fallback_reason: str | None = None
        attend_in_windows(self.core, self.family)
        multiply_patches(self.core)
        self.updates = 0
        self.constraint: Constraint | None = None
        self.by_layer = ByLayer()
        if not self.engine_config.shared_prefix:
            self.fall_back("engine.shared_prefix is false")
        elif not self.family.is_causal(self.model_config):
            self.fall_back("not every token sees the whole text before it and nothing else")
        else:
            self.core.set_attn_implementation({"text_config": SHARED_PREFIX_ATTENTION})

    @property
    def space(self) -> CoordinateSpace:
        """The units in which this model writes boxes."""
        return self.family.space

    @property
    def device(self) -> torch.device:
        return torch.device(next(self.core.parameters()).device)

    @property
    def head(self) -> Head:
        """From hidden states to log-probabilities."""
        return Head(self.core.get_output_embeddings(), self.sampling.temperature, self.forbidden, self.constraint)

    @property
    def engine(self) -> Engine:
        """What computes: the shared prefix, or the repeated path."""
        if self.shares_prefix:
            return SharedEngine(self.core, self.family, self.head, self.tower)
        return RepeatedEngine(self.core, self.family, self.head)

    @property
    def shares_prefix(self) -> bool:
        """Whether each prompt is computed once for its whole group."""
        return self.fallback_reason is None

    @property
    def fuses_layers(self) -> bool:
        """Whether our own execution of the decoder layers runs (``engine/layers.py``)."""
        return self.autocast is None and self.engine.fuses_layers

    @property
    def engine_summary(self) -> str:
        """How prompts are computed, in words."""
        repeated = "each completion with its prompt (the repeated path)"
        return "each prompt computed once" if self.shares_prefix else repeated

    def fall_back(self, reason: str) -> None:
        """Compute every completion with its prompt from now on (the repeated path); ``reason`` says why, in words."""
        self.fallback_reason = reason

    @property
    def weights_version(self) -> int:
        """Rises whenever a weight is changed; a fused optimiser changes them unseen, and counts in ``updates``."""
        return int(self.updates + sum(parameter._version for parameter in self.core.parameters()))

    def to(self, device: torch.device) -> Policy:
        """This policy, its model moved to ``device``."""
        if not getattr(self.core, "is_quantized", False):  # quantised weights are loaded where they stay
            self.model.to(device)
        self.forbidden = self.forbidden.to(device)
        return self

    def prepare(self, prompts: Sequence[Prompt]) -> Inputs:
        """Open the images and run the processor: all that needs no model, so it can be done ahead.

        Args:
            prompts: B prompts; texts and images may differ in length and size.

        Raises:
            PromptTooLongError: if a prompt does not fit the model's context; prompts are never truncated.
            DataError: if an image cannot be opened, or a text contains the family's image placeholder.
        """
        inputs = prepare(prompts, self.processor, self.family, self.model_config.image_token_id)
        inputs.check_length(self.model_config.get_text_config().max_position_embeddings, self.sampling.max_new_tokens)
        return inputs

    def encode(
        self, prompts: Sequence[Prompt] | Inputs, features: Features | None = None, *, for_sampling: bool = False
    ) -> Prefix:
        """Run the vision tower once per distinct image and the language model once per prompt.

        Args:
            prompts: B prompts, or what :meth:`prepare` made of them.
            features: features of the images, if they are known already.
            for_sampling: completions are sampled first, so the graph is kept only if memory allows it; without it the
                graph is kept whenever gradients are enabled.

        Raises:
            PromptTooLongError, DataError: as :meth:`prepare`.
        """
        inputs, share = prompts if isinstance(prompts, Inputs) else self.prepare(prompts), 0.0
        if graph := torch.is_grad_enabled():
            plan = self.memory_plan(inputs)
            graph = plan.keep_graph or not for_sampling
            if self.by_layer and not self.by_layer.updating:  # an update goes through the layers in its own way
                graph = False
            share = plan.checkpoint_prompts if graph else 0.0
        with torch.set_grad_enabled(graph), self.computing(), self.checkpointing(share):
            prefix = self.engine.encode(inputs, features)
        return replace(prefix, weights=self.weights_version)

    def sample(
        self, prefix: Prefix, group_size: int, draws: Draws | None = None, *, greedy: bool = False
    ) -> Completions:
        """Draw ``group_size`` completions per prompt on the shared prefix.

        Args:
            prefix: prompts from :meth:`encode`, with unchanged weights since.
            group_size: G, at least 1.
            draws: random numbers of these prompts; None takes the same ones at every call.
            greedy: whether to take the most likely token instead of sampling (evaluation).

        Returns:
            Completions of shape ``[B, G, T]``, T being the longest sampled length.

        Raises:
            ModelError: if the weights have changed since ``prefix`` was encoded.
        """
        self._check_weights(prefix)
        ends = torch.tensor(self.end_ids, device=self.device)
        size = (len(prefix), group_size, self.sampling.max_new_tokens)
        uniform = None if greedy else (draws or Draws(0)).uniform(*size)
        # inference_mode takes 4 % off a step of 32 rows on two cores; its tensors may enter no graph: copies leave.
        with torch.inference_mode(), self.computing():
            decoder = self.engine.decoder(prefix, group_size)
            tasks = [prompt.task for prompt in prefix.inputs.prompts for _ in range(group_size)]
            drawn = sample_tokens(decoder, self.head, self.sampling, ends, self.pad_id, uniform, tasks)
        ids, mask, logprobs, entropies = (x.clone().unflatten(0, size[:2]) for x in drawn)  # [B, G, T]
        last = ids.gather(-1, (mask.sum(-1, keepdim=True) - 1).clamp(min=0)).squeeze(-1)
        texts = iter(self.decode(ids.flatten(0, 1), mask.flatten(0, 1)))
        grouped = [list(islice(texts, group_size)) for _ in range(len(prefix))]
        return Completions(ids, mask, logprobs, grouped, ~torch.isin(last, ends), entropies)

    def logprobs(self, prefix: Prefix, completions: Completions) -> Tensor:
        """Log-probability of every completion token, ``[B, G, T]``, 0 in padding; with gradient if enabled.

        Raises:
            ModelError: if the weights have changed since ``prefix`` was encoded.
        """
        self._check_weights(prefix)
        prompts, group, length = completions.ids.shape
        rows = Rows.of(completions, range(prompts * group))
        with self.computing():
            logprobs = self.engine.score(prefix, rows)
        padding = length - logprobs.shape[1]
        return torch.nn.functional.pad(logprobs, (0, padding)).view(prompts, group, length)

    def backward(self, prefix: Prefix, completions: Completions, loss: Loss) -> Tensor:
        """Add the gradients of a loss to the weights, in two phases that bound the memory.

        Completions run in micro-batches on the prompts' keys and values as leaves, then the prompts backward once with
        the gradients collected there: the same gradients as one pass over everything, the activations of one
        micro-batch at a time.

        Args:
            prefix: prompts from :meth:`encode`; encoded again here if it kept no graph.
            completions: completions of those prompts.
            loss: which completions it needs, and their share of it.

        Returns:
            Log-probabilities ``[B, G, T]`` without graph; those of sampling where the loss does not need a completion.

        Raises:
            ModelError: if the weights have changed since ``prefix`` was encoded.
        """
        self._check_weights(prefix)
        return backward(self, prefix, completions, loss)

    def join_backward(self) -> None:
        """Compute nothing at a place where other processes may call :meth:`backward`."""
        join_backward(self)

    def decode(self, ids: Tensor, mask: Tensor) -> list[str]:
        """Texts of ``[N, T]`` tokens without special tokens, with the tag that the chat template opened."""
        kept = [row[keep].tolist() for row, keep in zip(ids.cpu(), mask.cpu(), strict=True)]
        return self.reasoning.whole(self.processor.tokenizer.batch_decode(kept, skip_special_tokens=True))

    def completions_of(self, texts: Sequence[str]) -> Completions:
        """Given texts as one completion per prompt (G = 1), the end token added: for supervised training."""
        told = self.reasoning.told(texts)
        return Completions.of_texts(told, self.processor.tokenizer, self.end_ids[0], self.pad_id, self.device)

    def memory_plan(self, inputs: Inputs) -> MemoryPlan:
        """How an update on these prompts is computed, from the config and the memory there is."""
        learns, fused = not self.tower.frozen, self.fuses_layers
        size = activation_size(self.core, inputs, self.types, vision_learns=learns, fused=fused)
        prompts, tokens = len(inputs.prompts), self.sampling.max_new_tokens
        size = size if self.shares_prefix else size.repeated(prompts, tokens)
        limit_bytes = self.budget.limit_bytes(self.model, copied_bytes(self.core, self.family, self.types))
        return plan_memory(self.engine_config, size, limit_bytes, prompts, tokens)

    def computing(self) -> torch.autocast:
        """Inside, the policy computes in its type."""
        return torch.autocast(self.device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None)

    def _check_weights(self, prefix: Prefix) -> None:
        if prefix.weights != self.weights_version:
            raise ModelError("the weights have changed since these prompts were encoded; encode them again")
