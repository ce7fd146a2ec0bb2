"""A task's score as the reward function of another trainer: TRL, ms-swift, verl and EasyR1 (docs/adapters.md).

Decision: nothing of those trainers is imported, only their calling conventions are met, so a reward needs no extra
package and no torch. Rewards are instances of classes of this module rather than closures, so that they can be pickled
into the worker processes of a trainer. The truth is one JSON value per row, or the truth's own fields as columns; a
field that is null counts as not there, because Arrow tables fill the fields a row lacks with null. What a model wrote
never raises; a broken truth does.

>>> reward = trl_reward("detection")
>>> completion = "<think>one</think><answer>[{'Position': [100, 100, 500, 500], 'Confidence': 0.9}]</answer>"
>>> reward(completions=[completion], boxes=[[[10, 10, 50, 50]]], image_size=[[100, 100]])
[2.9]
>>> reward([[{"role": "assistant", "content": completion}]], truth=['{"boxes": [], "image_size": [100, 100]}'])
[1.1]
>>> verl_reward("classification")("flowers", "<think>red</think><answer>poppy</answer>", {"label": "poppy"})
{'accuracy': 1.0, 'format': 1.0, 'score': 2.0}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import load_task
from visual_rft.tasks.base import Task
from visual_rft.tasks.columns import Rows, as_lists, completion_text, progress_of, truth_of
from visual_rft.tasks.plugins import part_name
from visual_rft.tasks.samples import Score
from visual_rft.tasks.truth import image_size_of
from visual_rft.vision.boxes import is_finite_number
from visual_rft.vision.coordinates import CoordinateSpace, Frame

Reward = Callable[..., list[float | None]]
"""``f(completions, **columns)``, one value per completion; None where the reward does not apply."""


def trl_reward(
    task: Task | str, coordinates: CoordinateSpace | str = CoordinateSpace.RELATIVE_1000, *, log_parts: bool = True
) -> Reward:
    """The task's total as a reward function of TRL's ``GRPOTrainer``, called what the task is called.

    The function takes ``completions``, as plain text or as lists of messages, and the columns of the data set:

    * ``truth``: a mapping or JSON text per row; without it the truth's own fields, e.g. ``boxes`` and ``image_size``.
    * ``processed_size``: [width, height] after the processor's resize, for ``coordinates="processed_pixels"``.
    * ``task``: if there is such a column, rows that name another task get None, so one run can train several tasks.
    * ``id``: names a row in error messages.

    It raises DataError naming the row, counted from 0 in the batch, if a truth is missing or broken. A reward that
    changes over the training (``iou_threshold={"from": 0.5, "to": 0.9}``) follows TRL's ``trainer_state``.

    Args:
        task: the task or its name, as :func:`visual_rft.load_task` takes it.
        coordinates: units in which the model writes boxes.
        log_parts: have TRL log the mean of each part as ``detection/iou``, and as ``detection/read`` the share of
            answers that could be read.

    Raises:
        ConfigError: if the task or the units are unknown.
    """
    return _ColumnReward(_Scorer.of(task, coordinates), None, log_parts)


def trl_rewards(
    task: Task | str, coordinates: CoordinateSpace | str = CoordinateSpace.RELATIVE_1000
) -> tuple[list[Reward], list[float]]:
    """One reward function per part of the task, and their weights for ``GRPOConfig(reward_weights=...)``.

    The weighted sum is what :func:`trl_reward` gives. Take this where TRL is to treat the parts apart, e.g. normalise
    each within its group. The functions are called ``detection_iou`` and so on; arguments and errors as there.

    Returns:
        (functions, weights), in the order of the task's weights.
    """
    scorer = _Scorer.of(task, coordinates)
    functions: list[Reward] = []
    for name in scorer.task._weights:  # each function computes its own part only
        alone = replace(scorer.task, weights={name: 1.0})
        functions.append(_ColumnReward(_Scorer(alone, scorer.space), part_name(name), False))
    return functions, [float(weight) for weight in scorer.task._weights.values()]


def swift_reward(
    task: Task | str, coordinates: CoordinateSpace | str = CoordinateSpace.RELATIVE_1000
) -> type[SwiftReward]:
    """The task's total as a reward class (ORM) of ms-swift. Register it in a file of your own, e.g. ``plugin.py``::

        from swift.rewards import orms          # ms-swift 3: from swift.plugin import orms
        from visual_rft import swift_reward

        orms["detection"] = swift_reward("detection")

    and run ``swift rlhf --rlhf_type grpo --external_plugins plugin.py --reward_funcs detection``. Columns, arguments
    and errors as in :func:`trl_reward`; take the column ``truth``, because ms-swift has its own use for ``label``.
    """
    scorer = _Scorer.of(task, coordinates)
    # ms-swift logs a reward under the name of its class.
    return type(scorer.task.name, (SwiftReward,), {"reward": _ColumnReward(scorer, None, False)})


def verl_reward(
    task: Task | str, coordinates: CoordinateSpace | str = CoordinateSpace.RELATIVE_1000
) -> Callable[..., dict[str, float]]:
    """The task's score as verl's ``compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs)``.

    The function returns the parts and as ``score`` the total; a part that does not apply is 0, because verl wants the
    same numbers in every row. ``ground_truth`` is the truth, a mapping or JSON text. ``processed_size`` is looked for
    in ``extra_info``, then in the truth; ``extra_info["index"]`` names the row in a DataError.

    Args:
        task: as in :func:`trl_reward`.
        coordinates: units in which the model writes boxes.

    Raises:
        ConfigError: if the task or the units are unknown, or the reward changes over the training: verl does not tell.
    """
    return _VerlReward(_Scorer.of(task, coordinates).constant("verl"))


def easyr1_reward(
    task: Task | str, coordinates: CoordinateSpace | str = CoordinateSpace.RELATIVE_1000
) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, float]]]:
    """The task's score as EasyR1's batch function ``compute_score(reward_inputs)``.

    Each input holds ``response`` and ``ground_truth``, the truth as JSON text (or a mapping) with ``processed_size`` in
    it where that is needed; each result holds the parts that apply and as ``overall`` the total. Arguments and errors
    as in :func:`verl_reward`; rows are counted from 0 in the batch.
    """
    return _EasyR1Reward(_Scorer.of(task, coordinates).constant("EasyR1"))


@dataclass(frozen=True, eq=False)
class _Scorer:
    """Scores one completion against one truth; errors name the row."""

    task: Task
    space: CoordinateSpace

    @classmethod
    def of(cls, task: Task | str, coordinates: CoordinateSpace | str) -> _Scorer:
        try:
            space = CoordinateSpace(coordinates)
        except ValueError:
            known = ", ".join(CoordinateSpace)
            raise ConfigError(f"coordinates: {coordinates!r} is not known; choose from {known}") from None
        return cls(load_task(task) if isinstance(task, str) else task, space)

    def constant(self, trainer: str) -> _Scorer:
        if self.task.at(0.0) != self.task.at(1.0):
            raise ConfigError(
                f"task {self.task.name}: its reward changes over the training, and {trainer} does not tell a reward "
                "how far the training is; give one number in the place of {from, to}"
            )
        return self

    def score(self, completion: object, truth: Mapping[str, Any], processed_size: object, row: str) -> Score:
        text = completion_text(completion, row)
        try:
            return self.task.score(text, truth, self._frame(truth, processed_size))
        except DataError as error:
            raise DataError(f"{row}: {error}") from None

    def _frame(self, truth: Mapping[str, Any], processed_size: object) -> Frame | None:
        if self.space is CoordinateSpace.RELATIVE_1000 or "image_size" not in truth:
            return None  # a task that reads boxes misses the size itself; one that reads names needs none
        size = image_size_of(truth)
        if self.space is not CoordinateSpace.PROCESSED_PIXELS:
            return Frame.of(self.space, size)
        processed = as_lists(truth.get("processed_size") if processed_size is None else processed_size)
        if processed is None:
            raise DataError(
                "processed_size is missing: coordinates 'processed_pixels' need [width, height] of the image after the "
                "processor's resize, as a column or in the truth"
            )
        pair = isinstance(processed, (list, tuple)) and len(processed) == 2
        if not (pair and all(is_finite_number(v) and v > 0 for v in processed)):
            raise DataError(f"processed_size: {processed!r} is not [width, height] in pixels")
        return Frame.of(self.space, size, (processed[0], processed[1]))


@dataclass(frozen=True, eq=False)
class _ColumnReward:
    """``f(completions, **columns)``, the convention of TRL and ms-swift."""

    scorer: _Scorer
    part: str | None
    log_parts: bool

    @property
    def __name__(self) -> str:  # what TRL logs the reward under
        name = self.scorer.task.name
        return name if self.part is None else f"{name}_{self.part}"

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        scorer = replace(self.scorer, task=self.scorer.task.at(progress_of(columns.get("trainer_state"))))
        rows = Rows(len(completions), columns)
        scores = [
            scorer.score(completion, rows.truth(i), rows.cell("processed_size", i), rows.place(i))
            if rows.cell("task", i) in (None, scorer.task.name)
            else None
            for i, completion in enumerate(completions)
        ]
        if self.log_parts and "log_metric" in columns:
            self._log([score for score in scores if score is not None], columns["log_metric"])
        if self.part is None:
            return [None if score is None else score.total for score in scores]
        return [None if score is None else score.parts[self.part] for score in scores]

    def _log(self, scores: Sequence[Score], log: Callable[[str, float], None]) -> None:
        metrics = {name: [s.parts[name] for s in scores] for name in (scores[0].parts if scores else ())}
        metrics["read"] = [float(score.failure is None) for score in scores]
        for name, values in metrics.items():
            applied = [value for value in values if value is not None]
            if applied:
                log(f"{self.scorer.task.name}/{name}", sum(applied) / len(applied))


class SwiftReward:
    """Base of the classes that :func:`swift_reward` makes; ms-swift makes the instance."""

    reward: Reward

    def __init__(self, args: Any = None, **kwargs: Any) -> None:
        self.args = args

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """One reward per completion; None, which ms-swift leaves out, for rows of another task."""
        return self.reward(completions, **columns)


@dataclass(frozen=True, eq=False)
class _VerlReward:
    scorer: _Scorer

    def __call__(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any,
        extra_info: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, float]:
        extra = extra_info or {}
        row = f"{data_source}, row {extra['index']}" if "index" in extra else f"a row of {data_source}"
        truth = truth_of(ground_truth, f"{row}, ground_truth")
        score = self.scorer.score(solution_str, truth, extra.get("processed_size"), row)
        return {**{name: value or 0.0 for name, value in score.parts.items()}, "score": score.total}


@dataclass(frozen=True, eq=False)
class _EasyR1Reward:
    scorer: _Scorer

    def __call__(self, reward_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
        if isinstance(reward_inputs, Mapping):
            raise ConfigError('EasyR1 called the reward row by row; write REWARD_TYPE = "batch" in the reward file')
        results = []
        for number, given in enumerate(reward_inputs):
            row = f"row {number}"
            for key in ("response", "ground_truth"):
                if key not in given:
                    raise DataError(f"{row}: {key} is missing; the input has {', '.join(given)}")
            truth = truth_of(given["ground_truth"], f"{row}, ground_truth")
            score = self.scorer.score(given["response"], truth, None, row)
            applied = {name: value for name, value in score.parts.items() if value is not None}
            results.append({**applied, "overall": score.total})
        return results
