"""Answering a step's questions, and asking others where all answers to one earned the same.

Decision: dynamic sampling (DAPO, arXiv 2503.14476, section 3.2) with a budget. A group without spread teaches nothing,
so its place goes to another question whose group has some, until every place is taken or the budget is used up; groups
that are still flat then stay. What was replaced is forgotten but for its history. The step keeps its size.

Several processes look at the whole batch: they know of all groups which are flat, divide the other questions, and send
an answered group to the process that has the place. So the batch is the same however many there are.

    answer = Answering(policy, task, config.rollout, watch, sampler)
    rollout = with_spread(answer(questions), answer, others, extra=2.0)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from visual_rft.config.sections import RolloutConfig
from visual_rft.parallel.meetings import gather
from visual_rft.parallel.processes import here
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.prefix import Completions, Prefix
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.samplers.interface import Sampler
from visual_rft.tasks import Sample, Score, Tasks
from visual_rft.training.metrics import Stopwatch
from visual_rft.training.session import Others, Questions

TENSORS = ("ids", "mask", "logprobs", "truncated", "entropies", "sampled")
"""Of completions; the last two may be None."""
Earned = tuple[str, frozenset[Hashable]]
"""The id of a question, and the different things that completions to it earned."""


class Group(NamedTuple):
    """An answered question: what is needed to learn from it, also in another process than the one that answered it.

    Attributes:
        sample: the question.
        prompt: how it was asked.
        completions: ``[1, G, T]``.
        scores: of the G completions.
    """

    sample: Sample
    prompt: Prompt
    completions: Completions
    scores: Sequence[Score]

    def on(self, device: torch.device) -> Group:
        """The same with its tensors on a device."""
        moved = _changed(self.completions, lambda _, tensor: tensor.to(device))
        return self._replace(completions=replace(self.completions, **moved))


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

    def earned(self, by_parts: bool) -> list[Earned]:
        """What each group earned: in every part if ``by_parts``, or else in all."""
        return [
            (sample.id, frozenset(tuple(score.parts.values()) if by_parts else score.total for score in group))
            for sample, group in zip(self.questions.samples, self.scores, strict=True)
        ]

    def group(self, place: int) -> Group:
        """The question at ``place`` with its completions."""
        return Group(
            self.questions.samples[place], self.questions.inputs.prompts[place], _only(self.completions, place),
            self.scores[place],
        )  # fmt: skip

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
    task: Tasks
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
                [self.task.of(sample).score(text, sample.truth, frame) for text in group]
                for sample, frame, group in zip(questions.samples, prefix.frames, completions.text, strict=True)
            ]
        return Rollout(questions, prefix, completions, scores, 0, _by_question(questions, scores))

    def join(self, groups: Sequence[Group], draws: Draws) -> Rollout:
        """Groups that were answered with the same weights as one rollout, encoded together."""
        samples, prompts, parts, scores = zip(*groups, strict=True)
        with self.watch("encode"):
            inputs = self.policy.prepare(prompts)
            prefix = self.policy.encode(inputs, for_sampling=True)
        questions = Questions(samples, inputs, draws)
        return Rollout(questions, prefix, _joined(parts), scores, 0, _by_question(questions, scores))


class _Place(NamedTuple):
    """Where an answered group is: the process, the number of its rollout there, and the place in it."""

    process: int
    rollout: int
    row: int


def with_spread(rollout: Rollout, answer: Answering, others: Others, extra: float) -> Rollout:
    """The rollout with other questions in the place of those whose completions all earned the same.

    Args:
        rollout: as it was answered first, this process's part of a batch.
        answer: answers others.
        others: gives other questions.
        extra: most questions that are answered besides, over those of the batch.
    """
    if not extra:
        return rollout
    rollouts: list[Rollout | None] = [rollout]

    def newest() -> tuple[list[_Place], list[int]]:
        """The groups that all processes answered last, and the numbers of those that are flat."""
        own = [] if rollouts[-1] is None else rollouts[-1].earned(answer.by_parts)
        earned = gather(own, "what the answers earned")
        number = len(rollouts) - 1
        places = [_Place(process, number, row) for process, part in enumerate(earned) for row in range(len(part))]
        return places, flat([one for part in earned for one in part])

    # Until every place of the batch is taken by a group with spread, or the budget is used up.
    rows, left = newest()
    homes, budget, drawn = [place.process for place in rows], round(extra * len(rows)), 0
    while left and drawn < budget:
        count, questions = others(min(len(left), budget - drawn))
        if not count:
            break
        with torch.no_grad():  # what is kept of them is encoded again
            rollouts.append(None if questions is None else answer(questions))
        drawn += count
        places, same = newest()
        for number in sorted({*range(count)} - {*same}):
            rows[left.pop(0)] = places[number]
    if not drawn:
        return rollout

    # Groups go where their places are.
    answered = [one for one in rollouts if one is not None]
    own_drawn = sum(len(one.scores) for one in answered[1:])
    seen = {name: rewards for one in answered for name, rewards in one.seen.items()}
    groups = _sent([(home, place) for home, place in zip(homes, rows, strict=True)], rollouts)
    moved = any(place.rollout for home, place in zip(homes, rows, strict=True) if home == here().rank)
    whole = answer.join(groups, rollout.questions.draws) if moved else rollout
    return Rollout(whole.questions, whole.prefix, whole.completions, whole.scores, own_drawn, seen)


def flat(earned: Sequence[Earned]) -> list[int]:
    """Numbers of the groups in which all completions of the question earned the same; two groups of one count as one.

    >>> flat([("a", frozenset({1.0})), ("b", frozenset({0.0, 1.0})), ("c", frozenset({0.0})), ("c", frozenset({1.0}))])
    [0]
    """
    of_question: dict[str, frozenset[Hashable]] = {}
    for name, values in earned:
        of_question[name] = of_question.get(name, frozenset()) | values
    return [number for number, (name, _) in enumerate(earned) if len(of_question[name]) == 1]


def _sent(rows: Sequence[tuple[int, _Place]], rollouts: Sequence[Rollout | None]) -> list[Group]:
    """The groups whose home is this process, of ``rows`` of a home and a place each; what is elsewhere is sent."""
    rank, device = here().rank, next(one for one in rollouts if one is not None).completions.ids.device

    def group(place: _Place) -> Group:
        found = rollouts[place.rollout]
        assert found is not None
        return found.group(place.row)

    leaving = {
        number: group(place).on(torch.device("cpu"))
        for number, (home, place) in enumerate(rows)
        if place.process == rank != home
    }
    came: dict[int, Group] = {}
    if any(home != place.process for home, place in rows):
        for part in gather(leaving, "the groups of other questions"):
            came |= part
    own = [(number, place) for number, (home, place) in enumerate(rows) if home == rank]
    return [came[number].on(device) if number in came else group(place) for number, place in own]


def _by_question(questions: Questions, scores: Sequence[Sequence[Score]]) -> dict[str, list[float]]:
    earned: dict[str, list[float]] = {}
    for sample, group in zip(questions.samples, scores, strict=True):
        earned.setdefault(sample.id, []).extend(score.total for score in group)
    return earned


def _changed(completions: Completions, change: Callable[[str, torch.Tensor], torch.Tensor]) -> dict[str, Any]:
    """The tensors of completions by name, each changed."""
    found = {name: getattr(completions, name) for name in TENSORS}
    return {name: None if tensor is None else change(name, tensor) for name, tensor in found.items()}


def _only(completions: Completions, place: int) -> Completions:
    """The group at ``place``, ``[1, G, T]`` with T its longest."""
    longest = int(completions.lengths[place].max())

    def cut(name: str, tensor: torch.Tensor) -> torch.Tensor:
        row = tensor[place : place + 1]
        return row if name == "truncated" else row[..., :longest]

    return replace(completions, text=[completions.text[place]], **_changed(completions, cut))


def _joined(parts: Sequence[Completions]) -> Completions:
    """Groups ``[1, G, T]`` as completions ``[B, G, T]``, padded to the longest."""
    longest = max(int(part.lengths.max()) for part in parts)

    def stacked(name: str, first: torch.Tensor) -> torch.Tensor:  # [B, G, T], of ``truncated`` [B, G]
        rows = [getattr(part, name) for part in parts]
        if name == "truncated":
            return torch.cat(rows)
        return torch.cat([torch.nn.functional.pad(row, (0, longest - row.shape[-1])) for row in rows])

    text, lag = [part.text[0] for part in parts], max(part.lag for part in parts)
    return Completions(text=text, lag=lag, **_changed(parts[0], stacked))
