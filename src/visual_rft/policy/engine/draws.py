"""Random numbers of sampling, which belong to a completion and not to whoever draws it.

Decision: every completion has a stream of its own, named by seed, step, prompt and place in its group, and the number
of its n-th token is the n-th of that stream. So it does not matter which prompts are answered together, in which order
completions end, on how many processes a step is divided, or on which device: the same numbers meet the same tokens.

>>> together = Draws(seed=1, step=3).uniform(prompts=2, group=2, tokens=4)
>>> alone = Draws(seed=1, step=3, prompts=(1,)).uniform(prompts=1, group=2, tokens=4)
>>> bool((together[2:] == alone).all())
True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The random numbers of some prompts of a step.

    Attributes:
        seed: of the run, at least 0.
        step: number of the step, at least 0.
        prompts: number of each prompt within the step; None counts from 0.
    """

    seed: int
    step: int = 0
    prompts: tuple[int, ...] | None = None

    def uniform(self, prompts: int, group: int, tokens: int) -> Tensor:
        """Numbers in [0, 1), ``[prompts * group, tokens]`` (float64): one per token of every completion.

        Args:
            prompts: number of prompts that are answered.
            group: completions per prompt.
            tokens: most tokens of a completion.
        """
        numbers = range(prompts) if self.prompts is None else self.prompts
        streams = [
            np.random.default_rng((self.seed, self.step, prompt, place)).random(tokens)
            for prompt in numbers
            for place in range(group)
        ]
        assert len(streams) == prompts * group
        return torch.from_numpy(np.stack(streams))
