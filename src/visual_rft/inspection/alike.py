"""Whether all processes of a run have read the same: its config, its data.

Decision: compared at the start, before anything is computed, because on several machines a file may be another one, and
half a run on each would be compared with neither. The fields of the config must be equal but for where things lie; data
are compared by the fingerprint of their files (``data/fingerprint.py``) and by questions spread over them, which is all
there is of data on the hub. Weights are compared by ``check_equal`` (``parallel/meetings.py``).

    check_alike(config, samples, held_out)      # returns at once in a single process
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from visual_rft.config.config import Config, differences
from visual_rft.data.fingerprint import changes, fingerprint
from visual_rft.errors import ConfigError, DataError
from visual_rft.inspection.look import spread
from visual_rft.parallel.meetings import gather
from visual_rft.parallel.processes import here
from visual_rft.tasks import Sample
from visual_rft.tasks.spaces import MAX_QUESTIONS_LOOKED_AT

PLACES = re.compile(r"model\.path|data\..*")
"""Fields that may differ between machines: what lies there is compared instead."""

_NOTHING: dict[str, Any] = {}


class Read(NamedTuple):
    """What a process has read.

    Attributes:
        config: all fields.
        data: fingerprints by part, without where the files are.
        questions: by part, how many there are and a digest of some.
    """

    config: Config
    data: dict[str, list[dict[str, Any]]]
    questions: dict[str, tuple[int, str]]


def check_alike(config: Config, samples: Sequence[Sample], held_out: Sequence[Sample] = ()) -> None:
    """Compare what all processes have read.

    Args:
        config: the whole run, as this process has read it.
        samples: its training questions.
        held_out: its evaluation questions, as far as they are known.

    Raises:
        ConfigError: naming the first field that differs, with both values.
        DataError: naming the file or part that differs.
    """
    if here().size == 1:
        return
    sources = {"train": config.data.train, "evaluation": config.data.evaluation}
    mine = Read(
        config,
        {name: fingerprint(part) for name, part in sources.items()},
        {"train": _digest(samples), "evaluation": _digest(held_out)},
    )
    first, *others = gather(mine, "a look at config and data")
    for rank, other in enumerate(others, 1):
        _compare(rank, first, other)


def _compare(rank: int, first: Read, other: Read) -> None:
    for field, expected, found in differences(first.config, other.config):
        if not PLACES.fullmatch(field):
            raise ConfigError(
                f"process {rank} has another config than process 0: {field} is {found!r} there and {expected!r} here; "
                "give all processes the same file"
            )
    for name, files in other.data.items():
        both = zip_longest(first.data[name], files, fillvalue=_NOTHING)
        # They are named by where they are on that machine.
        expected = [{**one, "path": its["path"]} if one and its else one for one, its in both]
        for change in changes(expected, files):
            raise DataError(f"process {rank} has other data than process 0: data.{name}: {change}; copy them anew")
    for name, (count, digest) in other.questions.items():
        if (count, digest) != first.questions[name]:
            raise DataError(
                f"process {rank} has other questions in data.{name} than process 0: {count:,} there and "
                f"{first.questions[name][0]:,} here; give all machines the same data"
            )


def _digest(samples: Sequence[Sample]) -> tuple[int, str]:
    digest = hashlib.sha256()
    for place in spread(len(samples), MAX_QUESTIONS_LOOKED_AT):
        sample = samples[place]
        row = [sample.id, sample.question, sample.truth]
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return len(samples), digest.hexdigest()
