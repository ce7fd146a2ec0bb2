"""The demonstrations: few-shot reinforcement with the embedded model, before and after.

Decision: exactly :func:`visual_rft.training.rft.train` on a config beside this file; only the names in the
summary are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visual_rft.config.config import Config, load_config
from visual_rft.errors import ConfigError
from visual_rft.policy.prompt import tasks_for
from visual_rft.report.ending import ending
from visual_rft.training.rft import train
from visual_rft.training.run.folder import RunFolder

DEMOS = Path(__file__).parent


def demo_config(name: str, folder: Path, seed: int, overrides: Sequence[str] = ()) -> Config:
    """The run that a demonstration is.

    Args:
        name: which demonstration: ``detection``, ``classification`` or ``grounding``.
        folder: run folder, must not exist yet.
        seed: of the training images, batch order and sampling; the test images stay the same.
        overrides: more ``--section.field value`` flags.

    Raises:
        ConfigError: if there is no such demonstration, or a flag is wrong.
    """
    file = DEMOS / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(f.stem for f in DEMOS.glob("*.yaml")))
        raise ConfigError(f"there is no demonstration {name!r}; choose from {known}")
    seeds = [f"--data.train.{i}.seed={seed}" for i in range(len(load_config(file).data.train))]
    flags = ["--run.folder", str(folder), "--run.seed", str(seed), *seeds, *overrides, "--run.evaluate_base=true"]
    return load_config(file, flags)


def run_demo(name: str, config: Config) -> dict[str, Any]:
    """Evaluate the base, train it, evaluate again; the summary names both.

    Args:
        name: which demonstration it is.
        config: what :func:`demo_config` gives.

    Returns:
        The summary: ``base`` and ``rft`` results, ``seconds``, ``model`` and ``checkpoint``; empty in all but the first
        of several processes.

    Raises:
        VisualRFTError: if the run folder exists or cannot be written.
    """
    trained = train(config)
    if not trained:
        return {}
    summary = {
        "base": trained["base"],
        "rft": trained["evaluation"],
        **{name: trained[name] for name in ("seconds", "steps", "model", "checkpoint")},
        "task": name,
        "seed": config.run.seed,
    }
    RunFolder(Path(config.run.folder)).write_json("summary.json", summary)
    print(ending(trained, Path(config.run.folder), tasks_for(config).headline, "RFT"))
    return summary
