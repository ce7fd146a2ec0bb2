"""A policy whose answers are written by a function: evaluation without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace

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

    def __init__(self, reply: Callable[[Prompt], str]) -> None:
        self.reply = reply
        self.batches: list[Sequence[Prompt]] = []

    def encode(self, prompts: Sequence[Prompt]) -> SimpleNamespace:
        self.batches.append(prompts)
        frames = [Frame(p.images[0].load().size, (1000, 1000)) for p in prompts]
        return SimpleNamespace(prompts=prompts, frames=frames)

    def sample(self, prefix: SimpleNamespace, group_size: int, *, greedy: bool) -> SimpleNamespace:
        assert group_size == 1
        assert greedy
        text = [[self.reply(prompt)] for prompt in prefix.prompts]
        spelled = [[(list(one), [-0.5] * len(one)) for one in group] for group in text]
        return SimpleNamespace(text=text, spelled=lambda tokenizer: spelled)
