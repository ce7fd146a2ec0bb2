"""What both loops do before their first step."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from visual_rft.config import Config
from visual_rft.errors import ConfigError
from visual_rft.policy.policy import Policy
from visual_rft.policy.prefix import Prompt
from visual_rft.tasks import Sample, Task


def prepare_process(config: Config) -> None:
    """Threads and the seed of everything random outside the loop (the start of a LoRA adapter).

    Raises:
        ConfigError: if a launcher started more than one process. The policy is called outside its wrapper's
            ``forward``, which would silently leave the gradients of the processes apart.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"this was launched as {os.environ['WORLD_SIZE']} processes, but training on several is not supported "
            "yet: gradients would silently stay apart; launch one process"
        )
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.manual_seed(config.run.seed)


def prompts_of(task: Task, policy: Policy, samples: Sequence[Sample]) -> list[Prompt]:
    """The questions as the policy is asked them."""
    return [Prompt(s.id, task.prompt(s.question, policy.space), s.images) for s in samples]
