"""Our side of the step benchmark, through the public interface only.

Decision: the step is timed stage by stage as ``training/rft.py`` does it. Encoding the prompts serves the rollout and
the update, so it is counted in both where these are compared with TRL's, each of which runs the prompts itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from measure import peak_memory
from PIL import Image
from workload import DEVICE, Workload, load, reward

from visual_rft.config.config import Config
from visual_rft.config.objective import ObjectiveConfig
from visual_rft.config.optimizer import OptimizerConfig
from visual_rft.config.sections import EngineConfig, ModelConfig
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.prefix import Completions, Prefix
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.families import family_of
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.reference import Reference
from visual_rft.policy.trainable import trainable
from visual_rft.training.advantages import group_advantages
from visual_rft.training.learner import Learner, make_optimizer
from visual_rft.training.objective import GroupLoss


@dataclass(frozen=True)
class Picture:
    """An image in memory."""

    key: str
    image: Image.Image

    def load(self) -> Image.Image:
        return self.image


def prompts_of(work: Workload, processor: Any) -> list[Prompt]:
    """The B prompts of a workload as a policy takes them."""
    questions = work.questions(processor)
    return [Prompt(str(i), question.text, (Picture(str(i), question.image),)) for i, question in enumerate(questions)]


class Ours:
    """One policy, its optimiser and, with ``beta`` above 0, its reference, on one workload; with ``run`` the optimiser
    is that of a run, which may keep it in shards."""

    def __init__(
        self, work: Workload, folder: Path, engine: EngineConfig | None = None, config: ModelConfig | None = None,
        run: Config | None = None,
    ) -> None:  # fmt: skip
        config = config or ModelConfig()
        model, processor = load(folder, work.dtype)
        family = family_of(model.config.model_type)
        model = trainable(model, family, config)
        autocast = torch.bfloat16 if config.autocast == "bfloat16" else None
        self.work = work
        sampling = Sampling(max_new_tokens=work.completion)
        self.policy = Policy(model.eval(), processor, sampling, autocast, engine, family).to(DEVICE)
        self.learner = None
        if run is not None:
            self.learner = Learner.of(self.policy, run, Accelerator())
            self.learner.go_by_layer(run.parallel)
        self.reference = Reference(self.policy) if work.beta > 0 else None
        if self.learner is None:
            self.optimizer, _ = make_optimizer(model, OptimizerConfig(learning_rate=work.learning_rate), 1)
            self.policy.budget.optimizer = self.optimizer
        self.rollouts = 0
        self.prompts = prompts_of(work, processor)
        self.stages: dict[str, float] = {}

    @contextmanager
    def _watch(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        self.stages[stage] = self.stages.get(stage, 0.0) + time.perf_counter() - start

    def _roll(self) -> tuple[Inputs, Prefix, Completions, torch.Tensor]:
        with self._watch("images"):
            inputs = self.policy.prepare(self.prompts)
        with self._watch("encode"):
            prefix = self.policy.encode(inputs, for_sampling=True)
        with self._watch("sample"):
            completions = self.policy.sample(prefix, self.work.group, Draws(0, self.rollouts))
            self.rollouts += 1
        with self._watch("score"):
            values = [[reward(text) for text in group] for group in completions.text]
            rewards = torch.tensor(values, device=DEVICE)
            advantages = group_advantages(rewards)
        return inputs, prefix, completions, advantages

    def _learn(self, inputs: Inputs, prefix: Prefix, completions: Completions, advantages: torch.Tensor) -> None:
        with self._watch("reference"):
            reference = self.reference.logprobs(prefix, completions) if self.reference else None
        loss = GroupLoss(completions, advantages, reference, ObjectiveConfig(beta=self.work.beta))
        with self._watch("backward"):
            self.policy.backward(prefix, completions, loss)
        with self._watch("optimizer"):
            if self.learner is not None:
                self.learner.optimize()
                return
            torch.nn.utils.clip_grad_norm_(self.policy.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def _check(self, completions: Completions, advantages: torch.Tensor) -> None:
        work = self.work
        assert completions.ids.shape == (work.batch, work.group, work.completion), completions.ids.shape
        assert bool(completions.mask.all()), "a completion ended early"
        assert bool((advantages != 0).any(1).all()), "a group without advantages would be skipped"

    def step(self) -> dict[str, float]:
        """Seconds of one training step, whole and by stage."""
        self.stages = {}
        start = time.perf_counter()
        inputs, prefix, completions, advantages = self._roll()
        self._learn(inputs, prefix, completions, advantages)
        whole = time.perf_counter() - start
        self._check(completions, advantages)
        return {"step": whole, **{f"stage/{name}": seconds for name, seconds in self.stages.items()}}

    def rollout(self) -> tuple[Inputs, Prefix | None, Completions, torch.Tensor]:
        """Images, prompts, completions and advantages; a graph is not kept for the update."""
        inputs, prefix, completions, advantages = self._roll()
        return inputs, None if prefix.has_graph else prefix, completions, advantages

    def update(self, inputs: Inputs, prefix: Prefix | None, completions: Completions, advantages: torch.Tensor) -> None:
        """The update alone: prompts encoded anew (by the engine itself where it keeps no graph), loss and all."""
        self._learn(inputs, prefix or self.policy.encode(inputs), completions, advantages)

    def times(self) -> dict[str, float]:
        """Seconds of a whole step, and of its rollout and update, as TRL's are taken from its step.

        Encoding the prompts serves both, and is counted in both: each figure is what that part costs on its own.
        """
        seconds = self.step()
        parts = {
            "rollout": ("images", "encode", "sample", "score"),
            "update": ("encode", "reference", "backward", "optimizer"),
        }
        totals = {part: sum(seconds[f"stage/{stage}"] for stage in stages) for part, stages in parts.items()}
        return {**seconds, **totals}

    def memory(self) -> dict[str, float]:
        """Bytes by which the process grows at most in a whole step, and in an update alone."""
        step = peak_memory(self.step)
        rolled = self.rollout()
        return {"step": step, "update": peak_memory(lambda: self.update(*rolled))}

    def facts(self) -> dict[str, Any]:
        """What is worth knowing about this side in a result."""
        return {"prompt_tokens": int(self.policy.prepare(self.prompts).tensors["input_ids"].shape[1])}


def serve(
    work: Workload, folder: Path, engine: EngineConfig | None, receive: Callable[[], str], send: Callable[[Any], None]
) -> None:
    """Answer each order (``warm-up``, ``times`` or ``memory``) with the figures of one step, until ``stop``."""
    ours = Ours(work, folder, engine)
    send(ours.facts())
    answers = {"warm-up": ours.step, "times": ours.times, "memory": ours.memory}
    while (order := receive()) != "stop":
        send(answers[order]())
