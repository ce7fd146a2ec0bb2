"""A policy that writes answers of its task's form and nothing else.

constrain(policy, load_task("detection"))
policy.sample(prefix, 8)        # every completion that is not cut off can be read
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from visual_rft.policy.engine.constraint import Constraint
from visual_rft.policy.policy import Policy
from visual_rft.tasks import Sample, Task, Tasks
from visual_rft.tasks.patterns import label_names, pattern_of


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
    _follow(policy, {task.name: _pattern(policy, task, names)})


def constrain_each(policy: Policy, tasks: Tasks, samples: Sequence[Sample]) -> None:
    """The same for a run: each answer follows the pattern of its question's task.

    Args:
        policy: the model.
        tasks: that ask.
        samples: all questions, for a task whose answer is one of their labels.

    Raises:
        ConfigError, ModelError: as :func:`constrain`.
    """
    patterns = {}
    for called, task in tasks.each.items():
        names = label_names(task, (sample for sample in samples if tasks.of(sample) is task))
        patterns[called] = _pattern(policy, task, names)
    _follow(policy, patterns)


def _pattern(policy: Policy, task: Task, names: Iterable[str]) -> str:
    return pattern_of(task, policy.space, sorted(set(names)), policy.reasoning.tag)


def _follow(policy: Policy, patterns: Mapping[str, str]) -> None:
    vocabulary = int(policy.core.get_output_embeddings().weight.shape[0])
    policy.constraint = Constraint.of(patterns, policy.processor.tokenizer, vocabulary, policy.end_ids)
