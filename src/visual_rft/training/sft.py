"""Supervised fine-tuning on the gold answers: the baseline, and how the embedded base was taught.

Decision: the same config, data, prefix and checkpoint as reinforcement; only the loss differs, the mean negative
log-probability of the gold completion's tokens.
"""

from __future__ import annotations

from typing import Any

from visual_rft.config.config import Config
from visual_rft.policy.loss import WeightedLogprobs
from visual_rft.training.metrics import Stopwatch
from visual_rft.training.objective import token_weights
from visual_rft.training.session import Session


def train_supervised(config: Config, *, resume: bool = False, anyway: bool = False) -> dict[str, Any]:
    """Train a policy on gold answers.

    Args:
        config: the whole run; ``rollout.group_size`` and ``objective`` are not used.
        resume: continue the run in ``config.run.folder`` from its last whole checkpoint.
        anyway: continue also where the data are not what they were.

    Returns:
        What is written to ``summary.json``.

    Raises:
        VisualRFTError: if the config, data, model or run folder cannot be used.
    """
    with Session.start(config, resume=resume, anyway=anyway) as session:
        imitate(session)
        return session.household.end()


def imitate(session: Session) -> None:
    """The steps that are left of a run."""
    learner, task, loop = session.learner, session.task, session.config.run
    policy = learner.policy
    for step, batches, _ in session.steps(loop.prompts_per_batch):
        watch, losses = Stopwatch(), []
        for samples, inputs, _ in batches:
            prefix = policy.encode(inputs)
            gold = [task.gold(sample.truth, frame) for sample, frame in zip(samples, prefix.frames, strict=True)]
            completions = policy.completions_of(gold)
            weights = token_weights(completions.mask, "token_mean")
            loss = WeightedLogprobs(-weights * len(samples) / loop.prompts_per_step)
            logprobs = policy.backward(prefix, completions, loss)
            losses.append(-(logprobs * weights).sum().item())
        grad_norm = learner.optimize()
        metrics = {
            "step": step,
            "loss": sum(losses) / len(losses),
            "grad_norm": grad_norm,
            "learning_rate": learner.learning_rate,
            "samples_per_second": loop.prompts_per_step / watch.total,
        }
        session.household.end_step(step, metrics)
