"""A policy whose answers are written by a function: evaluation without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from transformers import PretrainedConfig

from visual_rft.config.sections import EngineConfig
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.memory.activations import NumberTypes
from visual_rft.policy.memory.budget import Budget
from visual_rft.policy.prompt import Prompt
from visual_rft.vision.coordinates import CoordinateSpace, Frame


class FakePolicy:
    """Answers each prompt with ``reply(prompt)``; boxes are 0..1000. A token is a character, of log-probability -0.5.

    Attributes:
        batches: the prompts of every call of ``encode``.
    """

    space = CoordinateSpace.RELATIVE_1000

    tower = SimpleNamespace(held_still=nullcontext)
    processor = SimpleNamespace(tokenizer=None)
    device = torch.device("cpu")
    types = NumberTypes(weights=4, computed=4, autocast=False, adapter=False)
    sampling = Sampling()
    core = SimpleNamespace(config=PretrainedConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        vocab_size=8,
    ))  # fmt: skip

    def __init__(self, reply: Callable[[Prompt], str]) -> None:
        self.reply = reply
        self.batches: list[Sequence[Prompt]] = []
        self.budget = Budget(EngineConfig(memory_gib=1))

    def prepare(self, prompts: Sequence[Prompt]) -> SimpleNamespace:
        select = lambda numbers: self.prepare([prompts[i] for i in numbers])  # noqa: E731
        return SimpleNamespace(prompts=prompts, lengths=[1] * len(prompts), pixels=None, select=select)

    def encode(self, inputs: SimpleNamespace) -> SimpleNamespace:
        prompts = inputs.prompts
        self.batches.append(prompts)
        frames = [Frame(p.images[0].load().size, (1000, 1000)) for p in prompts]
        return SimpleNamespace(prompts=prompts, frames=frames)

    def sample(self, prefix: SimpleNamespace, group_size: int, *, greedy: bool) -> SimpleNamespace:
        assert group_size == 1
        assert greedy
        text = [[self.reply(prompt)] for prompt in prefix.prompts]
        spelled = [[(list(one), [-0.5] * len(one)) for one in group] for group in text]
        return SimpleNamespace(text=text, spelled=lambda tokenizer: spelled)
