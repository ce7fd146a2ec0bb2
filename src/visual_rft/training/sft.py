"""Supervised fine-tuning on the gold answers: the baseline, and how the embedded base was taught.

Decision: the same config, data, prefix and checkpoint as reinforcement; only the loss differs, the mean negative
log-probability of the gold completion's tokens. The same step serves a run of its own, the warm start of a run of
reinforcement (``objective.warm_start``), and beside it (``objective.sft_weight``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from visual_rft.config.config import Config
from visual_rft.config.objective import ObjectiveConfig
from visual_rft.parallel.meetings import total
from visual_rft.parallel.processes import together
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.loss import WeightedLogprobs
from visual_rft.policy.policy import Policy
from visual_rft.tasks import Sample, Score, Tasks
from visual_rft.training.metrics import Stopwatch
from visual_rft.training.objective import token_weights, tokens_of_batch
from visual_rft.training.rollout import Rollout
from visual_rft.training.session import Questions, Session
from visual_rft.vision.coordinates import Frame


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
    with together(), Session.start(config, resume=resume, anyway=anyway, supervised=True) as session:
        imitate(session)
        return session.household.end()


def imitate(session: Session) -> None:
    """The steps that are left of a run."""
    for step, batches, _ in session.steps(session.config.run.prompts_per_batch):
        session.household.end_step(step, imitate_step(session, step, batches))


def imitate_step(session: Session, step: int, batches: Iterable[Questions]) -> dict[str, float]:
    """One step on the gold answers; returns its metrics."""
    learner, prompts = session.learner, session.config.run.prompts_per_step
    watch = Stopwatch()
    loss = 0.0
    for questions in batches:
        share = len(questions.samples) / prompts
        loss += share * teach(learner.policy, session.task, questions.samples, questions.inputs, share)
    grad_norm = learner.optimize()
    return {
        "step": step,
        "loss": total(loss, "the loss"),
        "grad_norm": grad_norm,
        "learning_rate": learner.learning_rate,
        "samples_per_second": prompts / watch.total,
    }


def teach(policy: Policy, task: Tasks, samples: Sequence[Sample], inputs: Inputs, weight: float) -> float:
    """Add the gradients of ``weight`` times the mean negative log-probability of the gold answers' tokens.

    The mean is over the batch of all processes: their parts, weighed by their prompts, add up to it.

    Returns:
        This process's part of that mean, without the weight.
    """
    prefix = policy.encode(inputs, for_sampling=True)
    gold = [task.of(sample).gold(sample.truth, frame) for sample, frame in zip(samples, prefix.frames, strict=True)]
    completions = policy.completions_of(gold)
    tokens = tokens_of_batch(float(completions.mask.sum()), len(samples))
    weights = token_weights(completions.mask, "token_mean", tokens=tokens)
    logprobs = policy.backward(prefix, completions, WeightedLogprobs(-weights * weight))
    return -(logprobs * weights).sum().item()


def teach_beside(policy: Policy, task: Tasks, rollout: Rollout, config: ObjectiveConfig, scale: float) -> float | None:
    """The gold answers beside reinforcement, as CHORD mixes the two (arXiv 2508.11408, eq. 5): the same gradients for
    the chosen of B prompts, each with the weight that it would have if all were.

    Args:
        policy: learns.
        task: knows the gold answers.
        rollout: what was answered, by which unsolved prompts are known.
        config: with ``sft_weight`` and ``sft_prompts``.
        scale: factor of the whole loss.

    Returns:
        The mean negative log-probability; None where there is nothing to learn this way.
    """
    samples, inputs = rollout.questions.samples, rollout.questions.inputs
    chosen = [
        place
        for place, sample in enumerate(samples)
        if config.sft_prompts == "all" or _is_unsolved(task, sample, inputs.frames[place], rollout.scores[place])
    ]
    if config.sft_weight == 0:
        return None
    if not chosen:
        tokens_of_batch(0, 0)  # where the other processes count theirs
        policy.join_backward()
        return None
    weight = config.sft_weight * scale * len(chosen) / len(samples)
    return teach(policy, task, [samples[place] for place in chosen], inputs.select(chosen), weight)


def _is_unsolved(task: Tasks, sample: Sample, frame: Frame | None, scores: Sequence[Score]) -> bool:
    one = task.of(sample)
    gold = one.score(one.gold(sample.truth, frame), sample.truth, frame)
    return max(score.total for score in scores) < gold.total - 1e-6
