"""Training from Python: a config from a file, a dict or another config, and the run that came out.

Decision: the same loops as ``visual-rft train`` and ``sft``; here a config may be written where it is used, and what
comes back can be looked at.

    run = visual_rft.train("examples/coco.yaml", run={"steps": 20, "folder": "runs/twenty"})
    run.curves()["reward"]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from visual_rft.config.config import Config, load_config
from visual_rft.notebook.opened import OpenedRun, open_run


def train(
    config: Config | Mapping[str, Any] | Path | str, *, resume: bool = False, anyway: bool = False,
    **sections: Mapping[str, Any],
) -> OpenedRun:  # fmt: skip
    """Train a model by reinforcement.

    Args:
        config: a YAML file, the name of a config of the package, sections as a dict, or a config.
        resume: continue the run in ``run.folder`` from its last whole checkpoint.
        anyway: continue also where the data are not what they were.
        sections: fields to change, ``run={"steps": 10}, optimizer={"learning_rate": 1e-4}``; lists are replaced.

    Raises:
        VisualRFTError: if the config, data, model or run folder cannot be used.
    """
    from visual_rft.training.rft import train as reinforce  # here, because opening a run needs no torch

    return _trained(reinforce, config, sections, resume=resume, anyway=anyway)


def train_supervised(
    config: Config | Mapping[str, Any] | Path | str, *, resume: bool = False, anyway: bool = False,
    **sections: Mapping[str, Any],
) -> OpenedRun:  # fmt: skip
    """Train a model on the gold answers, the supervised baseline; as :func:`train` otherwise."""
    from visual_rft.training.sft import train_supervised as imitate

    return _trained(imitate, config, sections, resume=resume, anyway=anyway)


def _trained(
    loop: Callable[..., Any],
    config: Config | Mapping[str, Any] | Path | str,
    sections: Mapping[str, Mapping[str, Any]],
    **how: bool,
) -> OpenedRun:
    whole = load_config(config, (), ("train", "evaluation"), **sections)
    loop(whole, **how)
    return open_run(Path(whole.run.folder))
