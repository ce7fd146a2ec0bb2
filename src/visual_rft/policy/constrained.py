"""A policy that writes answers of its task's form and nothing else.

constrain(policy, load_task("detection"))
policy.sample(prefix, 8)        # every completion that is not cut off can be read
"""

from __future__ import annotations

from collections.abc import Iterable

from visual_rft.policy.engine.constraint import Constraint
from visual_rft.policy.policy import Policy
from visual_rft.tasks import Task
from visual_rft.tasks.patterns import pattern_of


def constrain(policy: Policy, task: Task, names: Iterable[str] = ()) -> None:
    """From now on the policy samples and scores by the distribution that the task's pattern leaves.

    Args:
        policy: the model.
        task: the task that asks.
        names: of the classes, for a task whose answer is one of them.

    Raises:
        ConfigError: if the answers have no pattern, or llguidance is not installed.
        ModelError: if it cannot use the tokenizer.
    """
    pattern = pattern_of(task, policy.space, sorted(set(names)), policy.reasoning.tag)
    vocabulary = int(policy.core.get_output_embeddings().weight.shape[0])
    policy.constraint = Constraint.of(pattern, policy.processor.tokenizer, vocabulary, policy.end_ids)
