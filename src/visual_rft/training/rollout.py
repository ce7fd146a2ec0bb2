"""Answering a step's questions, and asking others where all answers to one earned the same.

Decision: dynamic sampling (DAPO, arXiv 2503.14476, section 3.2) with a budget. A group without spread teaches nothing,
so its place goes to another question whose group has some, until every place is taken or the budget is used up; groups
that are still flat then stay. What was replaced is forgotten but for its history. The step keeps its size.

    answer = Answering(policy, task, config.rollout, watch, sampler)
    rollout = with_spread(answer(questions), answer, others, budget=8)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from visual_rft.config.sections import RolloutConfig
from visual_rft.policy.engine.prefix import Completions, Prefix
from visual_rft.policy.policy import Policy
from visual_rft.samplers.interface import Sampler
from visual_rft.tasks import Score, Task
from visual_rft.training.metrics import Stopwatch
from visual_rft.training.session import Others, Questions


@dataclass(frozen=True)
class Rollout:
    """Answered questions.

    Attributes:
        questions: B questions.
        prefix: their prompts, encoded.
        completions: ``[B, G, T]``.
        scores: of the completions, ``[B][G]``.
        drawn: questions that were answered besides, to find groups with spread.
        seen: rewards of every completion that was scored, by the question's id.
    """

    questions: Questions
    prefix: Prefix
    completions: Completions
    scores: Sequence[Sequence[Score]]
    drawn: int
    seen: dict[str, list[float]]

    def flat(self, by_parts: bool) -> list[int]:
        """Places of the groups in which all completions of the question earned the same, in every part if ``by_parts``
        or else in all."""
        earned: dict[str, set[Any]] = {}
        for sample, group in zip(self.questions.samples, self.scores, strict=True):
            values = [tuple(score.parts.values()) if by_parts else score.total for score in group]
            earned.setdefault(sample.id, set()).update(values)
        return [place for place, sample in enumerate(self.questions.samples) if len(earned[sample.id]) == 1]

    @property
    def ids(self) -> list[str]:
        """Of the B questions."""
        return [sample.id for sample in self.questions.samples]


@dataclass(frozen=True)
class Answering:
    """Encodes, samples and scores.

    Attributes:
        policy: answers.
        task: scores.
        config: how completions are sampled.
        watch: told how long each part takes.
        sampler: draws completions.
        by_parts: whether completions that earned the same in all can differ in their advantages.
    """

    policy: Policy
    task: Task
    config: RolloutConfig
    watch: Stopwatch
    sampler: Sampler
    by_parts: bool = False

    def __call__(self, questions: Questions) -> Rollout:
        """Answer B questions with G completions each."""
        with self.watch("encode"):
            # Vision tower once per image, language model once per prompt; the update goes on from here.
            prefix = self.policy.encode(questions.inputs, for_sampling=True)
        with self.watch("sample"):
            completions = self.sampler.sample(prefix, self.config.group_size, questions.draws)
        with self.watch("score"):
            scores = [
                [self.task.score(text, sample.truth, frame) for text in group]
                for sample, frame, group in zip(questions.samples, prefix.frames, completions.text, strict=True)
            ]
        return Rollout(questions, prefix, completions, scores, 0, _by_question(questions, scores))

    def join(self, rollouts: Sequence[Rollout], rows: Sequence[tuple[int, int]]) -> Rollout:
        """Some groups of several rollouts as one, encoded together.

        Args:
            rollouts: answered with the same weights.
            rows: rollout and place of each group.
        """
        samples = [rollouts[number].questions.samples[place] for number, place in rows]
        prompts = [rollouts[number].questions.inputs.prompts[place] for number, place in rows]
        with self.watch("encode"):
            inputs = self.policy.prepare(prompts)
            prefix = self.policy.encode(inputs, for_sampling=True)
        parts = [(rollouts[number].completions, place) for number, place in rows]
        scores = [rollouts[number].scores[place] for number, place in rows]
        questions = Questions(samples, inputs, rollouts[0].questions.draws)
        return Rollout(questions, prefix, _joined(parts), scores, 0, _by_question(questions, scores))


def with_spread(rollout: Rollout, answer: Answering, others: Others, budget: int) -> Rollout:
    """The rollout with other questions in the place of those whose completions all earned the same.

    Args:
        rollout: as it was answered first.
        answer: answers others.
        others: gives other questions.
        budget: most questions that are answered besides.
    """
    rollouts, rows = [rollout], [(0, place) for place in range(len(rollout.scores))]
    flat, drawn, seen = rollout.flat(answer.by_parts), 0, dict(rollout.seen)
    while flat and drawn < budget and (questions := others(min(len(flat), budget - drawn))) is not None:
        with torch.no_grad():  # what is kept of them is encoded again
            rollouts.append(answer(questions))
        drawn += len(questions.samples)
        seen |= rollouts[-1].seen
        for place in sorted({*range(len(questions.samples))} - {*rollouts[-1].flat(answer.by_parts)}):
            rows[flat.pop(0)] = (len(rollouts) - 1, place)
    if not drawn:
        return rollout
    whole = rollout if all(number == 0 for number, _ in rows) else answer.join(rollouts, rows)
    return Rollout(whole.questions, whole.prefix, whole.completions, whole.scores, drawn, seen)


def _by_question(questions: Questions, scores: Sequence[Sequence[Score]]) -> dict[str, list[float]]:
    earned: dict[str, list[float]] = {}
    for sample, group in zip(questions.samples, scores, strict=True):
        earned.setdefault(sample.id, []).extend(score.total for score in group)
    return earned


def _joined(parts: Sequence[tuple[Completions, int]]) -> Completions:
    """One group of each as completions ``[B, G, T]``, padded to the longest."""
    longest = max(int(completions.lengths[place].max()) for completions, place in parts)

    def stacked(name: str) -> torch.Tensor:  # [B, G, T]
        rows = [getattr(completions, name)[place, :, :longest] for completions, place in parts]
        return torch.stack([torch.nn.functional.pad(row, (0, longest - row.shape[1])) for row in rows])

    text = [completions.text[place] for completions, place in parts]
    truncated = torch.stack([completions.truncated[place] for completions, place in parts])
    sampled = None if parts[0][0].sampled is None else stacked("sampled")
    lag = max(completions.lag for completions, _ in parts)
    ids, mask, logprobs, entropies = map(stacked, ("ids", "mask", "logprobs", "entropies"))
    return Completions(ids, mask, logprobs, text, truncated, entropies, sampled, lag)
