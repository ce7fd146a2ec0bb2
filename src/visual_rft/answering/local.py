"""A model in this process, asked: one vision pass per image, all questions about it in one batch if they fit.

model = LocalModel.load(config.model, config.rollout)
texts = [[one.text for one in written] for written in model.ask([[prompt, prompt], [prompt]], batch=96)]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from visual_rft.answering.answering import Written
from visual_rft.answering.box_questions import NO, YES, share_of_yes
from visual_rft.answering.fitting import in_parts
from visual_rft.answering.scores import number_logprobs
from visual_rft.config.sections import EngineConfig, ModelConfig, RolloutConfig
from visual_rft.parallel.meetings import check_equal
from visual_rft.parallel.processes import here
from visual_rft.policy.agreement import verify_together
from visual_rft.policy.constrained import constrain
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import Task
from visual_rft.vision.coordinates import CoordinateSpace


class LocalModel:
    """A policy as what answers questions: an :class:`~visual_rft.answering.answering.Answerer`.

    Args:
        policy: the model.
        path: the name that it was loaded by.
    """

    def __init__(self, policy: Policy, path: str = "") -> None:
        self.policy = policy
        self.name = self.folder = path

    @classmethod
    def load(cls, model: ModelConfig, rollout: RolloutConfig, engine: EngineConfig | None = None) -> LocalModel:
        """The model of a config, on the GPU if there is one.

        Raises:
            ModelError: if it cannot be loaded, or other processes have loaded another.
        """
        policy = load_policy(model, rollout, engine=engine).to(best_device())
        check_equal(policy.model.parameters(), "the weights")
        return cls(policy, model.path)

    @property
    def space(self) -> CoordinateSpace:
        """The units in which it writes boxes."""
        return self.policy.space

    def held_still(self) -> AbstractContextManager[Any]:
        """Inside, the weights stay, so what the vision tower said about an image is kept until its last question."""
        stack = ExitStack()
        stack.enter_context(self.policy.tower.held_still())
        stack.enter_context(torch.no_grad())
        return stack

    def check(self, prompt: Prompt) -> None:
        """Find out whether the model takes a prompt's images.

        Raises:
            DataError: if it does not.
        """
        self.policy.prepare([prompt])

    def constrain(self, task: Task, names: Iterable[str]) -> None:
        """As :meth:`Answerer.constrain`; token by token (llguidance)."""
        constrain(self.policy, task, names)

    def verify(self, prompt: Prompt) -> None:
        """Compare the shared prefix with the plain way on one prompt; fall back to it where they differ."""
        verify_together(self.policy, self.policy.prepare([prompt]))

    def ask(self, groups: Sequence[Sequence[Prompt]], batch: int) -> Iterator[list[Written]]:
        """What is written about every prompt, group after group, a group being kept in one batch where it fits."""
        done: list[list[Written]] = [[] for _ in groups]
        yielded = 0
        for chunk in _packed([len(group) for group in groups], batch):
            answers = in_parts(self.policy, [groups[g][k] for g, k in chunk], self._written)
            for (g, _), written in zip(chunk, answers, strict=True):
                done[g].append(written)
            while yielded < len(groups) and len(done[yielded]) == len(groups[yielded]):
                yield done[yielded]
                yielded += 1
        while yielded < len(groups):  # images about which nothing is asked
            yield done[yielded]
            yielded += 1

    def _written(self, inputs: Inputs) -> list[Written]:
        prefix = self.policy.encode(inputs)
        completions = self.policy.sample(prefix, 1, greedy=True)
        spelled = completions.spelled(self.policy.processor.tokenizer)
        return [
            Written(text, frame, number_logprobs(text, *tokens))
            for frame, (text,), (tokens,) in zip(prefix.frames, completions.text, spelled, strict=True)
        ]

    def shares_of_yes(self, prompts: Sequence[Prompt], batch: int) -> list[float]:
        """The probability of *Yes* as the whole answer to each prompt, against that of *No*."""
        parts = (prompts[start : start + batch] for start in range(0, len(prompts), batch))
        return [share for part in parts for share in in_parts(self.policy, part, self._shares)]

    def _shares(self, inputs: Inputs) -> list[float]:
        policy, sums = self.policy, []
        prefix = policy.encode(inputs)
        for word in (YES, NO):
            told = policy.completions_of([word] * len(inputs.prompts))
            sums.append(policy.logprobs(prefix, told).sum(-1).squeeze(1).tolist())
        return [share_of_yes(*both) for both in zip(*sums, strict=True)]


def _packed(sizes: Sequence[int], batch: int) -> Iterator[list[tuple[int, int]]]:
    """Places (group, number in the group) in batches of at most ``batch``; only a group that is larger is split.

    >>> [len(chunk) for chunk in _packed([3, 3, 3], 7)], [len(chunk) for chunk in _packed([10, 2], 4)]
    ([6, 3], [4, 4, 4])
    """
    chunk: list[tuple[int, int]] = []
    for group, size in enumerate(sizes):
        if chunk and len(chunk) + size > batch:
            yield chunk
            chunk = []
        for number in range(size):
            if len(chunk) == batch:
                yield chunk
                chunk = []
            chunk.append((group, number))
    if chunk:
        yield chunk


def best_device() -> torch.device:
    """The GPU of this process if there is one."""
    return here().device
