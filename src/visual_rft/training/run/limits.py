"""When a run has left out or skipped too much to go on.

Decision: one bad image and one step without a finite gradient are named and counted; too many of them mean that the
data or the rewards are wrong, and the run ends with what has to be looked at.

    limits = Limits(config, console.warn)
    limits.leave_out({"b": "b.jpg: cannot be read as an image"}, checkpoint)
    limits.count_skipped(done=4, grad_norm=float("nan"), checkpoint=checkpoint)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from visual_rft.config.config import Config
from visual_rft.errors import DataError, ModelError
from visual_rft.parallel.meetings import gather


class Limits:
    """Counts what could not be used.

    Args:
        config: the whole run.
        warn: told about each of it.

    Attributes:
        asked: ids of the questions of the step that goes on, of this process.
        skipped: steps in a row whose gradient was not finite.
        left_out: ids of training questions that could not be used in this session.
    """

    def __init__(self, config: Config, warn: Callable[[str], object]) -> None:
        self.config, self.warn = config, warn
        self.asked: list[str] = []
        self.skipped = 0
        self.left_out: set[str] = set()

    def leave_out(self, questions: Mapping[str, str], checkpoint: Path | None) -> None:
        """Name the training questions that cannot be used, by id with the reason, each once.

        Raises:
            DataError: if more than ``run.max_unusable`` were left out in this session.
        """
        for name in questions.keys() - self.left_out:
            self.warn(f"left out, another question takes its place: {questions[name]}")
        self.left_out |= questions.keys()
        if len(self.left_out) > (most := self.config.run.max_unusable):
            raise DataError(
                f"{len(self.left_out)} training questions had to be left out, run.max_unusable is {most}; mend the "
                f"data. Last checkpoint: {checkpoint or 'none'}"
            )

    def count_skipped(self, done: int, grad_norm: float, checkpoint: Path | None) -> None:
        """Name the questions of a step whose gradient was not finite; too many of them in a row end the run.

        Raises:
            ModelError: if there are.
        """
        asked, self.asked = self.asked, []
        if math.isfinite(grad_norm):
            self.skipped = 0
            return
        self.skipped += 1
        everything = [name for part in gather(asked, "the questions of a step") for name in part]
        names = ", ".join(everything[:8]) + (" ..." if len(everything) > 8 else "")
        about = f" (questions: {names})" if names else ""
        self.warn(f"step {done}: skipped, its gradient is not finite{about}; the weights are as before")
        most = self.config.optimizer.max_skipped
        if self.skipped > most:
            raise ModelError(
                f"step {done}: {self.skipped} steps in a row had no finite gradient{about}, so nothing is learned any "
                "more. Look at these questions and rewards; try a lower optimizer.learning_rate, model.dtype float32 "
                f"with model.autocast bfloat16, or another model. Last checkpoint: {checkpoint or 'none'}; "
                f"optimizer.max_skipped is {most}"
            )
