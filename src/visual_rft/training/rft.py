"""Visual reinforcement fine-tuning: the loop (arXiv 2503.01785; GRPO, arXiv 2402.03300).

Decision: our own loop over accelerate, because the group is the unit from the sampler to the loss: each image and
each prompt is encoded once, its G completions share that prefix, and they are never shuffled apart.

Worked example, three steps on your own COCO-format folder:

    from visual_rft import load_config
    summary = train(load_config(Path("examples/coco.yaml"), ["--run.steps", "3"]))
    summary["evaluation"]["AP"]
"""

from __future__ import annotations

from typing import Any

from visual_rft.config.config import Config
from visual_rft.parallel.processes import together
from visual_rft.policy.loading import sampling_of
from visual_rft.policy.reference import Reference
from visual_rft.training.metrics import BatchResult, Rollouts, Stopwatch, step_metrics
from visual_rft.training.objective import GroupLoss, advantages_of, rewards_of
from visual_rft.training.rollout import Answering, with_spread
from visual_rft.training.session import Session
from visual_rft.training.sft import imitate_step, teach_beside


def train(config: Config, *, resume: bool = False, anyway: bool = False) -> dict[str, Any]:
    """Train a policy by reinforcement.

    Args:
        config: the whole run.
        resume: continue the run in ``config.run.folder`` from its last whole checkpoint.
        anyway: continue also where the data are not what they were.

    Returns:
        What is written to ``summary.json``: the last evaluation, seconds and where the model is.

    Raises:
        VisualRFTError: if the config, data, model or run folder cannot be used.
    """
    with together(), Session.start(config, resume=resume, anyway=anyway) as session:
        reinforce(session)
        return session.household.end()


def reinforce(session: Session) -> None:
    """The steps that are left of a run."""
    config, learner, household = session.config, session.learner, session.household
    loop, policy, device = config.run, learner.policy, learner.device
    reference = Reference.at_start(policy, config, session.resumed_from)

    for step, batches, others in session.steps(config.rollout.prompts_at_once):
        task, objective = session.task.at(step / loop.steps), config.objective.at(step / loop.steps)
        sampled = config.rollout.at(step / loop.steps)
        policy.sampling = sampling_of(sampled, entropies=objective.needs_entropies)
        if step < objective.warm_start:
            household.end_step(step, imitate_step(session, step, batches))
            continue
        watch = Stopwatch()
        answer = Answering(policy, task, sampled, watch, session.sampler, objective.compares_parts)
        results: list[BatchResult] = []
        for questions in batches:
            # Encode, sample and score; other questions take the place of those that teach nothing.
            rollout = with_spread(answer(questions), answer, others, config.rollout.extra)
            samples, inputs, completions = rollout.questions.samples, rollout.questions.inputs, rollout.completions
            prefix = rollout.prefix
            with watch("reference"):
                reference_logprobs = reference.logprobs(prefix, completions) if reference else None
            labels = task.labels(samples)
            rewards = rewards_of(rollout.scores, task.part_weights, learner.history.parts, device, labels)
            pooled = rollout.ids if config.rollout.hard_share else None
            advantages = advantages_of(rewards, objective, completions, reference_logprobs, pooled)
            scale, longest = len(samples) / loop.prompts_per_step, config.rollout.max_new_tokens
            loss = GroupLoss(completions, advantages, reference_logprobs, objective, scale, longest)
            with watch("update"):
                for update in range(objective.updates_per_rollout):
                    if update > 0:
                        learner.optimize()
                        prefix = policy.encode(inputs, for_sampling=True)  # again: the weights have changed
                    logprobs = policy.backward(prefix, completions, loss)
                    gold_loss = teach_beside(policy, task, rollout, objective, scale)
            rollouts = Rollouts(samples, inputs, completions, rollout.scores, rewards.total, advantages, labels)
            results.append(BatchResult(rollouts, loss.stats(logprobs), rollout.drawn, rollout.seen, gold_loss))
            household.keep_rollouts(step, rollouts)
        with watch("update"):
            grad_norm = learner.optimize()
        session.keep_history(step, results)
        household.end_step(step, step_metrics(step, results, grad_norm, learner.learning_rate, watch))
