"""Were the images of an evaluation trained on? Asked of every model that comes out of a run.

Decision: the run's own config says what it was trained on, so nobody has to remember it. A run that was evaluated on
the same data has the answer in its folder already; else its training data are read again. What cannot be known (data
that have moved, a model from elsewhere) is said or left alone, never assumed.

    seen_in_training("runs/coins", config.data.evaluation, samples)     # {'leaked': 2, 'pairs': [...], ...} or None
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from visual_rft.config.config import load_config
from visual_rft.config.sources import SourceConfig
from visual_rft.data.leakage import find_leakage
from visual_rft.data.sources import load_samples
from visual_rft.errors import VisualRFTError
from visual_rft.files import json_or_nothing
from visual_rft.policy.prompt import tasks_for
from visual_rft.policy.stored.places import run_config_file
from visual_rft.tasks import Sample


def seen_in_training(
    model: str, evaluation: Sequence[SourceConfig], samples: Sequence[Sample]
) -> Mapping[str, Any] | None:
    """Which images of an evaluation the model's run was trained on; named on standard error where there are any.

    Args:
        model: ``tiny``, a folder or a hub id.
        evaluation: sources of the questions.
        samples: the questions.

    Returns:
        What :meth:`visual_rft.data.leakage.Leakage.as_json` gives, None if no image was seen or nothing is known.
    """
    file = run_config_file(model)
    if file is None:
        return None
    try:
        config = load_config(file)
        known = json_or_nothing(file.parent / "data.json").get("leakage")
        if isinstance(known, Mapping) and list(config.data.evaluation) == list(evaluation):
            found, line = dict(known), _again(known)
        else:
            leakage = find_leakage(load_samples(config.data.train, tasks_for(config)), samples)
            found, line = leakage.as_json(), leakage.line()
    except VisualRFTError as error:
        print(f"note: {model}: whether these images were trained on is not known ({error})", file=sys.stderr)
        return None
    if not found.get("leaked"):
        return None
    print(f"warning: {model}: {line}", file=sys.stderr)
    return found


def _again(known: Mapping[str, Any]) -> str:
    """What a run noted at its start, as a sentence."""
    named = "; ".join(str(pair.get("held_out")) for pair in known.get("pairs", [])[:5])
    return (
        f"leakage: {known.get('leaked')} of {known.get('held_out_images')} images were trained on or look like those "
        f"that were, so their numbers are not held out: {named}"
    )
