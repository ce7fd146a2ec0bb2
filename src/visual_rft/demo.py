"""The demonstrations: few-shot reinforcement with the embedded model, before and after.

Decision: exactly the loop of :func:`visual_rft.training.rft.train` on a config of ``demos/``; only the table, the
picture and the summary are its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from visual_rft.config import Config, load_config
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError
from visual_rft.evaluation.pictures import truth_and_answer
from visual_rft.evaluation.predict import evaluation_line, predict
from visual_rft.plots import learning_curve
from visual_rft.policy.loading import load_policy
from visual_rft.tasks import Prediction, Task, task_of
from visual_rft.training.rft import train
from visual_rft.training.session import prepare_process
from visual_rft.training.tracking import RunFolder
from visual_rft.vision.drawing import contact_sheet

DEMOS = Path(__file__).parent / "demos"
PICTURES = 6
"""Questions of the picture."""
CELL = 256
"""Pixels a side of each of its parts."""


def run_demo(name: str, folder: Path, seed: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate the base, train it, evaluate again; writes ``summary.json``, ``before_after.png`` and
    ``plots/learning_curve.png``.

    Args:
        name: which demonstration: ``detection``, ``classification`` or ``grounding``.
        folder: run folder, must not exist yet.
        seed: of the training images, batch order and sampling; the test images stay the same.
        overrides: more ``--section.field value`` flags.

    Returns:
        The summary: ``base`` and ``rft`` results, ``seconds`` and ``model``.

    Raises:
        VisualRFTError: if the run folder exists or cannot be written.
    """
    file = DEMOS / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(f.stem for f in DEMOS.glob("*.yaml")))
        raise ConfigError(f"there is no demonstration {name!r}; choose from {known}")
    seeds = [f"--data.train.{i}.seed={seed}" for i in range(len(load_config(file).data.train))]
    config = load_config(file, ["--run.folder", str(folder), "--run.seed", str(seed), *seeds, *overrides])
    prepare_process(config)
    run = RunFolder(Path(config.run.folder))
    run.check_new()
    started = time.monotonic()

    task = task_of(config.task)
    held_out = load_samples(config.data.evaluation, task)
    policy = load_policy(config.model, config.rollout)
    parameters = sum(p.numel() for p in policy.model.parameters())
    shots = sum(source.count or 0 for source in config.data.train)
    print(
        f"{config.model.path}: {policy.config.model_type}, {parameters / 1e6:.1f} M parameters. Task {name}: "
        f"{shots} labelled images to train on, {sum(s.count or 0 for s in config.data.evaluation)} others to test."
    )
    before = predict(policy, task, held_out)
    base = task.metrics(before)
    seconds = {"base_evaluation": time.monotonic() - started}
    print(f"base | {evaluation_line(task, base)}", flush=True)

    trained = train(config)
    seconds.update(trained["seconds"])
    rft = trained["evaluation"]

    tuned = load_policy(config.model, config.rollout, Path(trained["checkpoint"]) / "model")
    after = predict(tuned, task, held_out[:PICTURES])
    before_and_after(task, before[:PICTURES], after).save(run.path / "before_after.png")
    seconds["total"] = time.monotonic() - started
    summary = {
        "base": base,
        "rft": rft,
        "seconds": seconds,
        "model": {
            "path": config.model.path,
            "type": policy.config.model_type,
            "parameters": parameters,
            "checkpoint": trained["checkpoint"],
        },
        "task": name,
        "seed": seed,
    }
    run.write_json("summary.json", summary)
    learning_curve(run.path)
    print(_table(summary, config, task))
    return summary


def _table(summary: dict[str, Any], config: Config, task: Task) -> str:
    base, rft = summary["base"], summary["rft"]
    names = (*task.headline, "format_rate", "parse_rate")
    lines = [
        "",
        f"{'held-out images':<22}{'base':>9}{'after RFT':>11}{'change':>9}",
        *(f"{name:<22}{base[name]:>9.3f}{rft[name]:>11.3f}{rft[name] - base[name]:>+9.3f}" for name in names),
        "",
        f"{base['n_images']} images, {base['n_questions']} questions; "
        f"{summary['seconds']['total']:.0f} s in all, {summary['seconds']['train']:.0f} s of it training",
        f"pictures  {config.run.folder}/before_after.png   (green: truth, red: answer; base above, after RFT below)",
        f"curves    {config.run.folder}/plots/learning_curve.png",
        f"rollouts  {config.run.folder}/rollouts/          every sampled answer with its rewards",
        f"metrics   {config.run.folder}/metrics.jsonl      numbers {config.run.folder}/summary.json",
        f"model     {summary['model']['checkpoint']}/model",
    ]
    return "\n".join(lines)


def before_and_after(task: Task, before: Sequence[Prediction], after: Sequence[Prediction]) -> Image.Image:
    """One column per question: truth in green and the answer in red, the base's above, the tuned model's below."""
    rows = [
        [truth_and_answer(task, p.sample, p.score.answer, least_side=CELL) for p in predictions]
        for predictions in (before, after)
    ]
    sheets = [contact_sheet(pictures, columns=len(pictures), cell=CELL) for pictures in rows]
    title = CELL // 10
    both = Image.new("RGB", (sheets[0].width, 2 * (sheets[0].height + title)), (255, 255, 255))
    draw = ImageDraw.Draw(both)
    for number, (sheet, text) in enumerate(zip(sheets, ("base", "after RFT"), strict=True)):
        top = number * (sheet.height + title)
        draw.text((6, top + 3), text, fill=(0, 0, 0), font=ImageFont.load_default(size=title - 8))
        both.paste(sheet, (0, top + title))
    return both
