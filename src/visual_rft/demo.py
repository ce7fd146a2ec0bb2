"""The demonstration: few-shot reinforcement on real handwriting with the embedded model, before and after.

Decision: exactly the loop of :func:`visual_rft.training.rft.train` on ``demo.yaml``; only the table, the picture and
the summary are its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from visual_rft.config import Config, load_config
from visual_rft.data.sources import load_samples
from visual_rft.evaluation.detection import Prediction, detection_metrics, evaluation_line, predict
from visual_rft.policy.loading import load_policy
from visual_rft.tasks import load_task
from visual_rft.training.rft import train
from visual_rft.training.session import prepare_process
from visual_rft.training.tracking import RunFolder
from visual_rft.vision.drawing import PREDICTED, TRUTH, draw_boxes

SHOWN = ("AP", "AP50", "AP75", "mean_iou", "format_rate", "parse_rate")
PICTURES = 6


def run_demo(folder: Path, seed: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate the base, train it, evaluate again; writes ``summary.json`` and ``before_after.png``.

    Args:
        folder: run folder, must not exist yet.
        seed: of the 64 training scenes, batch order and sampling; the test scenes stay the same.
        overrides: more ``--section.field value`` flags.

    Returns:
        The summary: ``base`` and ``rft`` results, ``seconds`` and ``model``.

    Raises:
        VisualRFTError: if the run folder exists or cannot be written.
    """
    flags = ["--run.folder", str(folder), "--run.seed", str(seed), "--data.train.0.seed", str(seed), *overrides]
    config = load_config(Path(__file__).with_name("demo.yaml"), flags)
    prepare_process(config)
    run = RunFolder(Path(config.run.folder))
    run.check_new()
    started = time.monotonic()

    task = load_task(**config.task.model_dump())
    held_out = load_samples(config.data.evaluation)
    policy = load_policy(config.model, config.rollout)
    parameters = sum(p.numel() for p in policy.model.parameters())
    shots = config.data.train[0].count
    print(
        f"{config.model.path}: {policy.config.model_type}, {parameters / 1e6:.1f} M parameters. "
        f"{shots} labelled scenes of real handwriting to train on, {config.data.evaluation[0].count} others to test."
    )
    before = predict(policy, task, held_out)
    base = detection_metrics(before)
    seconds = {"base_evaluation": time.monotonic() - started}
    print(f"base | {evaluation_line(base)}", flush=True)

    trained = train(config)
    seconds.update(trained["seconds"])
    rft = trained["evaluation"]

    tuned = load_policy(config.model, config.rollout, Path(trained["checkpoint"]) / "model")
    after = predict(tuned, task, held_out[:PICTURES])
    _side_by_side(before[:PICTURES], after).save(run.path / "before_after.png")
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
        "seed": seed,
    }
    run.write_json("summary.json", summary)
    print(_table(summary, config))
    return summary


def _table(summary: dict[str, Any], config: Config) -> str:
    base, rft = summary["base"], summary["rft"]
    lines = [
        "",
        f"{'held-out handwriting':<22}{'base':>9}{'after RFT':>11}{'change':>9}",
        *(f"{name:<22}{base[name]:>9.3f}{rft[name]:>11.3f}{rft[name] - base[name]:>+9.3f}" for name in SHOWN),
        "",
        f"{base['n_images']} images, {base['n_questions']} questions, protocol '{base['protocol']}'; "
        f"{summary['seconds']['total']:.0f} s in all, {summary['seconds']['train']:.0f} s of it training",
        f"pictures  {config.run.folder}/before_after.png   (green: truth, red: answer; left base, right after RFT)",
        f"rollouts  {config.run.folder}/rollouts/          every sampled answer with its rewards",
        f"metrics   {config.run.folder}/metrics.jsonl      numbers {config.run.folder}/summary.json",
        f"model     {summary['model']['checkpoint']}/model",
    ]
    return "\n".join(lines)


def _side_by_side(before: Sequence[Prediction], after: Sequence[Prediction]) -> Image.Image:
    """One row per question: the base's answer left, the tuned model's right, truth in green on both."""
    cell = 400
    sheet = Image.new("RGB", (2 * cell, len(before) * cell), (255, 255, 255))
    for row, pair in enumerate(zip(before, after, strict=True)):
        for column, prediction in enumerate(pair):
            image = prediction.sample.images[0].load()
            scale = cell // max(image.size)
            image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
            answer = prediction.score.answer or {"boxes": [], "confidence": []}
            category = prediction.sample.question["category"]
            for boxes, labels, colour in (
                (prediction.sample.truth["boxes"], (), TRUTH),
                (answer["boxes"], [f"{category} {c:.2f}" for c in answer["confidence"]], PREDICTED),
            ):
                enlarged = [[v * scale for v in box] for box in boxes]
                image = draw_boxes(image, enlarged, labels, colour, least_side=1)
            sheet.paste(image, (column * cell, row * cell))
    return sheet
