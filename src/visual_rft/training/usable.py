"""Training questions whose image cannot be used, where the sources say ``broken: skip``.

Decision: whether a file can be decoded is known only when it is, and opening a million before a run costs hours. So an
image that fails in a batch is replaced by that of the next question in the data that does not: the batch keeps its
size, and depends on the data and its number alone, so that a resumed run meets the same questions. Every question that
is left out is named once and counted, and beyond a limit the run stops: then it is the data that are wrong.

    samples = usable(policy, task, samples, skips=leaves_out(config.data.train))
    batch = prepared(policy, task, samples, indices=[3, 5], skips=True)
    batch.left_out      # {"b": "b.jpg: cannot be read as an image (image file is truncated)"}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from visual_rft.config.sources import PROCEDURAL, SourceConfig
from visual_rft.errors import DataError
from visual_rft.inspection.look import look_at_data
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt, is_stretched
from visual_rft.tasks import Sample, Tasks
from visual_rft.terminal.notes import warn

MAX_TRIED = 1000
"""Questions in a row that are tried in the place of one that cannot be used."""


class Batch(NamedTuple):
    """A batch after the processor.

    Attributes:
        samples: its questions.
        inputs: their prompts.
        left_out: id of each question that it should have held and that cannot be used, with the reason.
    """

    samples: list[Sample]
    inputs: Inputs
    left_out: dict[str, str]


def leaves_out(sources: Sequence[SourceConfig]) -> bool:
    """Whether all sources of files say that what is broken is left out.

    >>> leaves_out([SourceConfig(source="jsonl", path="a.jsonl", broken="skip"), SourceConfig(source="shapes")])
    True
    """
    files = [source for source in sources if source.format not in PROCEDURAL]
    return bool(files) and all(source.broken == "skip" for source in files)


def usable(policy: Policy, tasks: Tasks, samples: Sequence[Sample], skips: bool) -> Sequence[Sample]:
    """The questions without those whose image is too narrow for the processor, which are named and counted.

    Args:
        policy: whose processor is asked, where the ratio of the sides is unusual.
        tasks: write the prompts.
        samples: questions; the size of their image is taken from the truth.
        skips: whether to leave any out; without, they are returned as they are, and fail where they are prepared.

    Raises:
        DataError: if none is left.
    """
    if not skips:
        return samples
    left_out: dict[int, str] = {}
    for number, sample in enumerate(samples):
        if "image_size" in sample.truth and is_stretched(sample.truth["image_size"]):
            try:
                policy.prepare([Prompt.of(tasks, sample, policy.space)])
            except DataError as error:
                left_out[number] = str(error)
    if not left_out:
        return samples
    first = next(iter(left_out.values()))
    if len(left_out) == len(samples):
        raise DataError(f"none of the {len(samples)} questions can be used; the first: {first}")
    warn([f"{len(left_out)} of {len(samples)} questions are left out, their image cannot be used; the first: {first}"])
    return [sample for number, sample in enumerate(samples) if number not in left_out]


def look(policy: Policy, tasks: Tasks, samples: Sequence[Sample], skips: bool) -> None:
    """Warn of what looks wrong with the data; where broken images are left out, one of them is a warning too.

    Raises:
        PromptTooLongError: if a prompt does not fit the model's context.
        DataError: if an image cannot be opened, unless ``skips``.
    """
    try:
        warn(look_at_data(policy, tasks, samples))
    except DataError as error:
        if not skips:
            raise
        warn([f"{error}; such questions will be left out (broken: skip), and the data were not looked at further"])


def prepared(policy: Policy, tasks: Tasks, samples: Sequence[Sample], indices: Sequence[int], skips: bool) -> Batch:
    """The questions with these numbers after the processor; one that cannot be used is replaced by the next that can.

    Raises:
        DataError: if an image cannot be used and ``skips`` is false, or none of the questions after it can.
    """
    wanted = [samples[i] for i in indices]
    try:
        return Batch(wanted, policy.prepare([Prompt.of(tasks, sample, policy.space) for sample in wanted]), {})
    except DataError:
        if not skips:
            raise
    left_out: dict[str, str] = {}
    used = [_next_usable(policy, tasks, samples, i, left_out) for i in indices]
    return Batch(used, policy.prepare([Prompt.of(tasks, sample, policy.space) for sample in used]), left_out)


def _next_usable(
    policy: Policy, tasks: Tasks, samples: Sequence[Sample], index: int, left_out: dict[str, str]
) -> Sample:
    said = ""
    for number in range(index, index + min(len(samples), MAX_TRIED)):
        sample = samples[number % len(samples)]
        try:
            policy.prepare([Prompt.of(tasks, sample, policy.space)])
        except DataError as error:
            said = left_out[sample.id] = str(error)
        else:
            return sample
    raise DataError(f"none of {min(len(samples), MAX_TRIED)} questions in a row can be used; the last: {said}")
