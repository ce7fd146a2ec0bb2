"""Which questions a step asks, and which others where a group of answers teaches nothing.

Decision: everything is a function of seed, step and history, so a resumed run asks what an uninterrupted one would have
asked. Without ``rollout.rest_steps`` and ``rollout.hard_share`` the history does not matter, and batches are prepared
ahead; with either, a step's questions are known only when the step before has been answered.

>>> samples = [Sample(name, (), "detection", {}, {}) for name in "abcd"]
>>> drawing = Drawing(samples, History(), prompts=2, seed=0)
>>> drawing.step(0), list(drawing.others(0, taken=drawing.step(0)))
([2, 0], [3, 1])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from visual_rft.tasks import Sample, Tasks
from visual_rft.training.batches import batch_indices
from visual_rft.training.prompts.history import History
from visual_rft.training.prompts.mixing import Mix


@dataclass
class Drawing:
    """Draws questions.

    Attributes:
        samples: all training questions.
        history: what became of them so far.
        prompts: questions of a step.
        seed: of the run.
        rest_steps: steps for which a question is not asked after all its answers earned the same; 0 lets none rest.
        hard_share: share of a step's places that goes from its easiest known questions to its hardest, which are then
            answered twice as often.
        mix: how often each question is asked; None asks each as often as any other.
        tasks: of the run; hard and easy are told apart within each.
    """

    samples: Sequence[Sample]
    history: History = field(default_factory=History)
    prompts: int = 8
    seed: int = 0
    rest_steps: int = 0
    hard_share: float = 0.0
    mix: Mix | None = None
    tasks: Tasks | None = None

    @property
    def looks_back(self) -> bool:
        """Whether a step's questions depend on the answers of the steps before."""
        return bool(self.rest_steps or self.hard_share)

    def step(self, step: int) -> list[int]:
        """Numbers of the questions of step ``step``; one that comes twice gets two groups of answers."""
        if self.mix is not None:
            asked = self.mix.questions(step * self.prompts, (step + 1) * self.prompts)
        else:
            asked = batch_indices(step, len(self.samples), self.prompts, self.seed)
        if not self.looks_back:
            return asked
        others = self.others(step, asked)
        awake = [next(others, number) if self.rests(number, step) else number for number in asked]
        return self._more_for_the_hard(awake)

    def others(self, step: int, taken: Sequence[int]) -> Iterator[int]:
        """Questions beside those ``taken``, each once, in an order of the step's own; those that rest come last."""
        random = np.random.default_rng((self.seed, step, 1))
        if self.mix is not None:  # drawn without replacement in proportion to the odds: Efraimidis and Spirakis, 2006
            order = np.argsort(random.exponential(size=len(self.samples)) / self.mix.odds).tolist()
        else:
            order = random.permutation(len(self.samples)).tolist()
        asked, resting = set(taken), []
        for number in order:
            if number in asked:
                continue
            if self.rests(number, step):
                resting.append(number)
            else:
                yield number
        yield from resting

    def rests(self, number: int, step: int) -> bool:
        """Whether a question is not to be asked in step ``step``, because its answers lately earned the same."""
        since = self.history.flat_since(self.samples[number].id)
        return since is not None and step - since <= self.rest_steps

    def _more_for_the_hard(self, asked: list[int]) -> list[int]:
        """The places of the easiest questions of a task go to its hardest, as far as both are known and differ."""
        if not self.hard_share:
            return asked
        samples = [self.samples[number] for number in asked]
        labels = (self.tasks.labels(samples) if self.tasks else []) or [""] * len(asked)
        swaps = {}
        for task in dict.fromkeys(labels):
            own = [place for place, label in enumerate(labels) if label == task]
            earned = {asked[place]: self.history.reward(samples[place].id) for place in own}
            known = sorted((reward, number) for number, reward in earned.items() if reward is not None)
            for place in range(min(round(self.hard_share * len(own)), len(known) // 2)):
                (low, hard), (high, easy) = known[place], known[-1 - place]
                if low < high:
                    swaps[easy] = hard
        return [swaps.get(number, number) for number in asked]
