"""The demonstrations: few-shot reinforcement with the embedded model, before and after.

Decision: exactly :func:`visual_rft.training.rft.train` on a config beside this file; only the table and the names in
the summary are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visual_rft.config.config import Config, load_config
from visual_rft.errors import ConfigError
from visual_rft.tasks import Task, task_of
from visual_rft.training.rft import train
from visual_rft.training.run.folder import RunFolder

DEMOS = Path(__file__).parent


def run_demo(name: str, folder: Path, seed: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate the base, train it, evaluate again; the summary names both.

    Args:
        name: which demonstration: ``detection``, ``classification`` or ``grounding``.
        folder: run folder, must not exist yet.
        seed: of the training images, batch order and sampling; the test images stay the same.
        overrides: more ``--section.field value`` flags.

    Returns:
        The summary: ``base`` and ``rft`` results, ``seconds``, ``model`` and ``checkpoint``.

    Raises:
        VisualRFTError: if the run folder exists or cannot be written.
    """
    file = DEMOS / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(f.stem for f in DEMOS.glob("*.yaml")))
        raise ConfigError(f"there is no demonstration {name!r}; choose from {known}")
    seeds = [f"--data.train.{i}.seed={seed}" for i in range(len(load_config(file).data.train))]
    flags = ["--run.folder", str(folder), "--run.seed", str(seed), *seeds, *overrides, "--run.evaluate_base=true"]
    config = load_config(file, flags)
    trained = train(config)
    summary = {
        "base": trained["base"],
        "rft": trained["evaluation"],
        **{name: trained[name] for name in ("seconds", "steps", "model", "checkpoint")},
        "task": name,
        "seed": seed,
    }
    RunFolder(Path(config.run.folder)).write_json("summary.json", summary)
    print(_table(summary, config, task_of(config.task)))
    return summary


def _table(summary: dict[str, Any], config: Config, task: Task) -> str:
    base, rft, folder = summary["base"], summary["rft"], config.run.folder
    names = (*task.headline, "format_rate", "parse_rate")
    lines = [
        "",
        f"{'held-out images':<22}{'base':>9}{'after RFT':>11}{'change':>9}",
        *(f"{name:<22}{base[name]:>9.3f}{rft[name]:>11.3f}{rft[name] - base[name]:>+9.3f}" for name in names),
        "",
        f"{base['n_images']} images, {base['n_questions']} questions; "
        f"{summary['seconds']['total']:.0f} s in all, {summary['seconds']['evaluation']:.0f} s of it evaluation",
        f"report    {folder}/report.html                  every rollout with its boxes; opens in a browser",
        f"pictures  {folder}/plots/before_after.png       (green: truth, red: answer; base above, after RFT below)",
        f"curves    {folder}/plots/learning_curve.png",
        f"rollouts  {folder}/rollouts/                    metrics {folder}/metrics.jsonl",
        f"model     {summary['checkpoint']}/model",
    ]
    return "\n".join(lines)
