"""How often a step asks what: sources of unlike weight, and rare classes as often as common ones.

Decision: a group of questions (a source, or a class of one) has a share of all places. An epoch, as many places as
there are questions, is cut into the shares by systematic sampling with an offset of its own, so a group gets its share
of every epoch to within one place, and exactly in the long run; within a group every question is asked once before any
is asked again. All of it is a function of the seed and the place: a resumed run asks what an uninterrupted one does.

>>> mix = Mix(((0, 1, 2), (3,)), (0.5, 0.5), seed=0)
>>> sorted(mix.questions(0, 4)), sorted(mix.questions(0, 12)).count(3)
([0, 2, 3, 3], 6)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from visual_rft.config.sources import DataConfig
from visual_rft.errors import ConfigError
from visual_rft.tasks import Sample
from visual_rft.training.batches import permutation

Group = tuple[int, ...]
"""Numbers of questions."""


@dataclass(frozen=True)
class Mix:
    """Groups of questions and their shares.

    Attributes:
        groups: the questions of each; none is empty, and every question is in one.
        shares: of the places, in the order of the groups, adding up to 1.
        seed: of the run.
    """

    groups: tuple[Group, ...]
    shares: tuple[float, ...]
    seed: int
    _order: dict[int, list[int]] = field(default_factory=dict)
    _before: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def questions(self, start: int, stop: int) -> list[int]:
        """The questions at places ``start`` to ``stop - 1`` of the run."""
        found = []
        for place in range(start, stop):
            epoch, offset = divmod(place, self.size)
            found.append(self._epoch(epoch)[offset])
        return found

    @cached_property
    def size(self) -> int:
        """Questions there are, which is the length of an epoch."""
        return sum(map(len, self.groups))

    @cached_property
    def odds(self) -> npt.NDArray[np.float64]:
        """How often each question is asked, relative to an even choice, by its number."""
        odds = np.zeros(self.size)
        for group, share in zip(self.groups, self.shares, strict=True):
            odds[list(group)] = share * self.size / len(group)
        return odds

    def _epoch(self, epoch: int) -> list[int]:
        """The questions of an epoch in their order; the newest two are kept."""
        if epoch not in self._order:
            asked = [int(n) for n in self._asked_before(epoch)]
            order = []
            for number in self._places(epoch).tolist():
                cycle, offset = divmod(asked[number], len(self.groups[number]))
                asked[number] += 1
                shuffled = permutation(self.seed, cycle, len(self.groups[number]), number)
                order.append(self.groups[number][int(shuffled[offset])])
            for old in sorted(self._order)[:-1]:
                del self._order[old]
            self._order[epoch] = order
        return self._order[epoch]

    def _places(self, epoch: int) -> npt.NDArray[np.int64]:
        """The group of each place of an epoch."""
        random = np.random.default_rng((self.seed, epoch, 2))
        points = (np.arange(self.size) + random.random()) / self.size
        groups = np.searchsorted(np.cumsum(self.shares), points, side="right")
        return random.permutation(np.minimum(groups, len(self.groups) - 1))

    def _asked_before(self, epoch: int) -> npt.NDArray[np.int64]:
        """How often each group was asked before an epoch."""
        while len(self._before) <= epoch:
            done = len(self._before)
            counts = np.zeros(len(self.groups), np.int64)
            if done:
                counts = self._before[-1] + np.bincount(self._places(done - 1), minlength=len(self.groups))
            self._before.append(counts)
        return self._before[epoch]


def mix_of(samples: Sequence[Sample], data: DataConfig, seed: int) -> Mix | None:
    """How often the questions are asked; None where each is asked as often as any other.

    Args:
        samples: all training questions.
        data: names the weights of sources, and what is balanced.
        seed: of the run.

    Raises:
        ConfigError: if classes are to be balanced and there are none, or only one.
    """
    weights = [source.weight for source in data.train]
    if data.balance == "none" and len(set(weights)) == 1:
        return None
    groups: dict[tuple[str, str, int], list[int]] = {}
    for number, sample in enumerate(samples):
        kind = class_of(sample) if data.balance == "classes" else ""
        groups.setdefault((sample.task, kind, sample.source), []).append(number)
    if data.balance == "classes" and len({(task, kind) for task, kind, _ in groups}) == len({t for t, _, _ in groups}):
        raise ConfigError("data.balance classes: no task asks about several classes; leave it out, or balance sources")
    size = {key: weights[key[2]] * (1 if data.balance == "sources" else len(rows)) for key, rows in groups.items()}
    if data.balance == "sources":  # one that is asked in the words of several tasks counts once
        parts = {source: sum(other == source for _, _, other in groups) for _, _, source in groups}
        size = {key: value / parts[key[2]] for key, value in size.items()}
    if data.balance == "classes":
        size = _evened(size)
    total = sum(size.values())
    return Mix(tuple(map(tuple, groups.values())), tuple(size[key] / total for key in groups), seed)


def class_of(sample: Sample) -> str:
    """The class that a question is about: its true label, or what it asks to find; empty where it is about none."""
    name = sample.truth.get("label", sample.question.get("category", ""))
    return name if isinstance(name, str) else ""


def _evened(size: dict[tuple[str, str, int], float]) -> dict[tuple[str, str, int], float]:
    """The sizes with those of all classes of a task made equal, and that of the task kept."""
    of_task: dict[str, float] = {}
    of_class: dict[tuple[str, str], float] = {}
    for (task, kind, _), value in size.items():
        of_task[task] = of_task.get(task, 0.0) + value
        of_class[task, kind] = of_class.get((task, kind), 0.0) + value
    classes = {task: sum(other == task for other, _ in of_class) for task in of_task}
    return {
        (task, kind, source): of_task[task] / classes[task] * value / of_class[task, kind]
        for (task, kind, source), value in size.items()
    }
