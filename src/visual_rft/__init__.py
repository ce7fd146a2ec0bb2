"""Visual reinforcement fine-tuning: teach a vision-language model a visual task from a few dozen labelled images.

Decision: names are imported when they are first used, so that a reward costs no torch import.

>>> task = load_task("detection")
>>> truth = {"boxes": [[10, 10, 50, 50]], "image_size": [100, 100]}
>>> task.score("<think>one</think><answer>No Objects</answer>", truth).total
1.0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visual_rft.answering.asking import predict_image
    from visual_rft.config.config import Config, load_config
    from visual_rft.errors import VisualRFTError
    from visual_rft.evaluation.run import evaluate
    from visual_rft.export.export import export_run
    from visual_rft.notebook.opened import open_run
    from visual_rft.notebook.trained import train, train_supervised
    from visual_rft.policy.loading import load_policy
    from visual_rft.tasks import Sample, Score, Task, load_task
    from visual_rft.tasks.adapters import easyr1_reward, swift_reward, trl_reward, trl_rewards, verl_reward

_HOMES = {
    "Config": "config.config",
    "Sample": "tasks",
    "Score": "tasks",
    "Task": "tasks",
    "VisualRFTError": "errors",
    "easyr1_reward": "tasks.adapters",
    "evaluate": "evaluation.run",
    "export_run": "export.export",
    "load_config": "config.config",
    "load_policy": "policy.loading",
    "load_task": "tasks",
    "open_run": "notebook.opened",
    "predict_image": "answering.asking",
    "swift_reward": "tasks.adapters",
    "train": "notebook.trained",
    "train_supervised": "notebook.trained",
    "trl_reward": "tasks.adapters",
    "trl_rewards": "tasks.adapters",
    "verl_reward": "tasks.adapters",
}
__all__ = [
    "Config",
    "Sample",
    "Score",
    "Task",
    "VisualRFTError",
    "easyr1_reward",
    "evaluate",
    "export_run",
    "load_config",
    "load_policy",
    "load_task",
    "open_run",
    "predict_image",
    "swift_reward",
    "train",
    "train_supervised",
    "trl_reward",
    "trl_rewards",
    "verl_reward",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visual_rft' has no attribute {name!r}")
    return getattr(import_module(f"visual_rft.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
