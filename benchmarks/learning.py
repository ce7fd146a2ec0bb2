"""Does TRL learn the same, and how long does it take? The demo of detection in both, step by step.

    python benchmarks/learning.py                        # 60 steps, 3 seeds, a picture for the README; hours
    python benchmarks/learning.py --steps 2 --seeds 1 --out /tmp/learning.json     # does it run?

Decision: the embedded model, the demo's data, rewards (through ``trl_reward``), group, prompts a step, two updates a
rollout, learning rate and schedule in TRL's ``GRPOTrainer`` and in ours. Weights are written down every few steps and
evaluated afterwards by one and the same code, so neither pays for the other's evaluation; time is wall time, less the
time of writing weights down. A system and a seed are a process of their own on one thread; the systems of a seed
follow each other, in another order for each seed, so that a machine that is slow for a while is slow for all. What is
finished is kept (``--cells``) and not run again, unless the code's settings or the base's weights changed.

    ours      the package as it is
    default   GRPOConfig as it comes (gradient checkpointing on, 8 rows a forward pass), its loss set to ``grpo``
    tuned     the same without gradient checkpointing and with ``--pass_rows`` rows a forward pass
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import origin

from visual_rft import load_task, trl_reward
from visual_rft.config.config import Config
from visual_rft.data.sources import load_samples
from visual_rft.demo.run import demo_config
from visual_rft.evidence.runner import evaluate
from visual_rft.files import write_whole
from visual_rft.policy.loading import load_policy
from visual_rft.policy.stored.places import EMBEDDED, weights_fingerprint
from visual_rft.training.metrics import Clock
from visual_rft.training.rft import reinforce
from visual_rft.training.session import Session

ROOT = Path(__file__).parent.parent
SYSTEMS = ("ours", "tuned", "default")
NAMES = {"ours": "Visual-RFT", "tuned": "TRL, tuned", "default": "TRL, default"}
COLOURS = {"ours": "#0072b2", "tuned": "#d55e00", "default": "#e69f00"}
METRICS = ("AP", "AP50", "mean_iou")
GAIN = 0.15
"""How much more AP than the base's the headline waits for."""
Kept = Callable[[int, float, float], None]
"""Told the steps that are done, and the wall and CPU seconds that they took."""


def workload(steps: int, seed: int) -> Config:
    """The demo of detection for so many steps, which evaluates and writes nothing on its way."""
    flags = ["--run.steps", str(steps), "--run.evaluate_base", "false", "--run.evaluate_every", "0",
             "--run.rollouts_every", "0"]  # fmt: skip
    config = demo_config("detection", Path("unused"), seed, flags)
    asked = [source.model_copy(update={"count": 1}) for source in config.data.evaluation]
    return config.model_copy(update={"data": config.data.model_copy(update={"evaluation": tuple(asked)})})


def train_ours(config: Config, folder: Path, keep: Kept, save: Callable[[Any, int], None]) -> None:
    """Our loop; weights are written down between the end of a step and the next one."""
    run = config.run.model_copy(update={"folder": str(folder / "run")})
    with Session.start(config.model_copy(update={"run": run}), resume=False, supervised=False) as session:
        stopwatch = Stopwatch(keep, lambda done: save(session.learner.policy.model, done))

        class Steps(Clock):
            def end_step(self) -> None:
                super().end_step()
                stopwatch.step_is_done()

        session.household.clock = Steps()
        stopwatch.start()
        reinforce(session)


def train_trl(config: Config, rows: int | None, folder: Path, keep: Kept, save: Callable[[Any, int], None]) -> None:
    """TRL's loop; ``rows`` of a forward pass, None for its own defaults."""
    import transformers
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import GRPOConfig, GRPOTrainer

    task = load_task("detection", weights=dict(config.task.weights or {}))
    samples = load_samples(config.data.train, task)
    data = [
        {
            "prompt": [{"role": "user", "content": task.prompt(sample.question, "relative_1000")}],
            "image": sample.images[0].load(),
            "truth": json.dumps(sample.truth),
        }
        for sample in samples
    ]
    completions = config.run.prompts_per_step * config.rollout.group_size
    updates, at_once = config.objective.updates_per_rollout, rows or 8
    own: dict[str, Any] = {} if rows is None else {"gradient_checkpointing": False}
    settings = GRPOConfig(
        output_dir=str(folder / "trl"), use_cpu=True, bf16=False, seed=config.run.seed,
        per_device_train_batch_size=at_once, gradient_accumulation_steps=completions // at_once,
        num_generations=config.rollout.group_size, num_iterations=updates, max_steps=config.run.steps * updates,
        max_completion_length=config.rollout.max_new_tokens, temperature=1.0, top_p=1.0, top_k=0,
        beta=config.objective.beta, loss_type="grpo", epsilon=config.objective.clip_low,
        learning_rate=config.optimizer.learning_rate, lr_scheduler_type=config.optimizer.schedule,
        warmup_steps=config.optimizer.warmup_steps, adam_beta1=config.optimizer.betas[0],
        adam_beta2=config.optimizer.betas[1], weight_decay=config.optimizer.weight_decay,
        max_grad_norm=config.optimizer.max_grad_norm, save_strategy="no", logging_strategy="no", report_to="none",
        disable_tqdm=True, **own,
    )  # fmt: skip
    model = AutoModelForImageTextToText.from_pretrained(EMBEDDED, dtype=torch.float32)

    class Watch(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            stopwatch.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % updates == 0:
                stopwatch.step_is_done()

    stopwatch = Stopwatch(keep, lambda done: save(model, done))
    trainer = GRPOTrainer(
        model=model, processing_class=AutoProcessor.from_pretrained(EMBEDDED), reward_funcs=trl_reward(task),
        train_dataset=Dataset.from_list(data), args=settings, callbacks=[Watch()],
    )  # fmt: skip
    trainer.train()


class Stopwatch:
    """Wall and CPU seconds of a training, less those of what is done between its steps."""

    def __init__(self, keep: Kept, between: Callable[[int], None]) -> None:
        self.keep, self.between, self.done = keep, between, 0

    def start(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def step_is_done(self) -> None:
        self.done += 1
        paused, paused_cpu = time.perf_counter(), time.process_time()
        self.keep(self.done, paused - self.wall, paused_cpu - self.cpu)
        self.between(self.done)
        self.wall += time.perf_counter() - paused
        self.cpu += time.process_time() - paused_cpu


def run_cell(system: str, seed: int, steps: int, every: int, rows: int, images: int | None) -> list[dict[str, Any]]:
    """Train one system with one seed, then evaluate the weights it wrote down; a row per point of its curve."""
    config = workload(steps, seed)
    points: list[dict[str, Any]] = [{"steps": 0, "seconds": 0.0, "cpu_seconds": 0.0}]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def keep(done: int, wall: float, cpu: float) -> None:
            if done % every == 0 or done == steps:
                points.append({"steps": done, "seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)})

        def save(model: Any, done: int) -> None:
            if done % every == 0 or done == steps:
                model.save_pretrained(folder / str(done))

        if system == "ours":
            train_ours(config, folder, keep, save)
        else:
            train_trl(config, rows if system == "tuned" else None, folder, keep, save)
        asked = demo_config("detection", Path("unused"), seed)
        if images is not None:
            sources = [source.model_copy(update={"count": images}) for source in asked.data.evaluation]
            asked = asked.model_copy(update={"data": asked.data.model_copy(update={"evaluation": tuple(sources)})})
        for point in points:
            place = folder / str(point["steps"]) if point["steps"] else EMBEDDED
            point |= {name: round(value, 4) for name, value in numbers_of(place, asked).items()}
    updates = config.objective.updates_per_rollout
    return [{"system": system, "seed": seed, "optimizer_steps": point["steps"] * updates, **point} for point in points]


def numbers_of(weights: Path, config: Config) -> dict[str, float]:
    """What the weights in a folder are worth, in our policy, whichever trainer wrote them."""
    policy = load_policy(config.model, config.rollout, engine=config.engine)
    if weights != EMBEDDED:
        from safetensors.torch import load_file

        policy.model.load_state_dict(load_file(weights / "model.safetensors"), strict=False)
    return evaluate(policy, config, METRICS)[0]


def minutes_to(rows: Sequence[Mapping[str, Any]], gain: float = GAIN) -> float | None:
    """Minutes until a curve is ``gain`` above its start, between two of its points on a line; None if it never is.

    >>> minutes_to([{"AP": 0.1, "seconds": 0}, {"AP": 0.2, "seconds": 60}, {"AP": 0.3, "seconds": 120}])
    1.5
    """
    wanted = rows[0]["AP"] + gain
    for before, after in pairwise(rows):
        if after["AP"] >= wanted:
            share = (wanted - before["AP"]) / (after["AP"] - before["AP"])
            return round((before["seconds"] + share * (after["seconds"] - before["seconds"])) / 60, 2)
    return None


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each system: minutes to the gain for each seed, seconds a step, and AP at the end."""
    found = {}
    for system in dict.fromkeys(row["system"] for row in rows):
        curves = [[row for row in rows if (row["system"], row["seed"]) == (system, seed)]
                  for seed in dict.fromkeys(row["seed"] for row in rows if row["system"] == system)]  # fmt: skip
        found[system] = {
            "minutes_to_gain": [minutes_to(curve) for curve in curves],
            "seconds_per_step": round(float(np.mean([c[-1]["seconds"] / c[-1]["steps"] for c in curves])), 2),
            "final_ap": round(float(np.mean([curve[-1]["AP"] for curve in curves])), 4),
        }
    return found


def draw(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """AP over optimiser steps and over minutes: a thin line per seed, a thick one for their mean."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "visual-rft", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for system in [name for name in SYSTEMS if any(row["system"] == name for row in rows)]:
            own = [row for row in rows if row["system"] == system]
            curves = [[row for row in own if row["seed"] == seed] for seed in dict.fromkeys(r["seed"] for r in own)]
            for axis, name, unit in ((left, "optimizer_steps", 1), (right, "seconds", 60)):
                across = [[row[name] / unit for row in curve] for curve in curves]
                up = [[row["AP"] for row in curve] for curve in curves]
                for x, y in zip(across, up, strict=True):
                    axis.plot(x, y, color=COLOURS[system], linewidth=0.6, alpha=0.5)
                axis.plot(np.mean(across, 0), np.mean(up, 0), color=COLOURS[system], linewidth=2, label=NAMES[system])
        left.set(xlabel="optimiser steps", ylabel="AP, held out", ylim=(0, None))
        right.set(xlabel="minutes on one core")
        right.legend(frameon=False)
        for axis in (left, right):
            axis.spines[["top", "right"]].set_visible(False)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Run the cells that have not been run, then write the result and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="rollouts, two optimiser steps each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=10, help="steps between two points of a curve")
    parser.add_argument("--pass_rows", type=int, default=32, help="rows of a forward pass of tuned TRL")
    parser.add_argument("--images", type=int, help="test scenes of each kind (default: all of the demo)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--cells", type=Path, default=Path("runs/learning"), help="where finished curves are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "learning.json")
    parser.add_argument("--picture", type=Path, help="SVG (default: docs/images/learning.svg, beside another --out)")
    parser.add_argument("--cell", nargs=2, metavar=("SYSTEM", "SEED"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cell:
        torch.set_num_threads(1)
        rows = run_cell(asked.cell[0], int(asked.cell[1]), asked.steps, asked.every, asked.pass_rows, asked.images)
        write_whole(asked.out, json.dumps(rows), make_folder=True)
        return
    settings = {"steps": asked.steps, "every": asked.every, "pass_rows": asked.pass_rows, "images": asked.images}
    key = {**settings, "base": weights_fingerprint("tiny")}
    found: list[dict[str, Any]] = []
    for seed in range(asked.seeds):
        turn = seed % len(asked.systems)
        for system in [*asked.systems[turn:], *asked.systems[:turn]]:
            found += cell_of(system, seed, settings, key, asked.cells)
    result = {
        "command": f"python benchmarks/learning.py --steps {asked.steps} --seeds {asked.seeds}", **key,
        **origin(threads=1), "summary": summary(found), "rows": found,
    }  # fmt: skip
    lines = ",\n".join("    " + json.dumps(row) for row in found)
    head = json.dumps({**result, "rows": []}, indent=2).removesuffix("[]\n}")
    write_whole(asked.out, f"{head}[\n{lines}\n  ]\n}}\n", make_folder=True)
    default = ROOT / "docs" / "images" / "learning.svg"
    picture = asked.picture or (default if asked.out.parent == ROOT / "benchmarks" / "results" else None)
    draw(found, picture or asked.out.with_suffix(".svg"))
    for system, numbers in result["summary"].items():
        print(f"{NAMES[system]}: {json.dumps(numbers)}")


def cell_of(system: str, seed: int, settings: Mapping[str, Any], key: Any, folder: Path) -> list[dict[str, Any]]:
    """The curve of a system and a seed: the one that is kept, or a new one from a process of its own."""
    file = folder / f"{system}-seed{seed}.json"
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return list(kept["rows"])
    flags = [word for name, value in settings.items() if value is not None for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "rows.json"
        command = [sys.executable, __file__, "--cell", system, str(seed), "--out", str(out), *flags]
        print(f"{system}, seed {seed}", file=sys.stderr, flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        rows: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    write_whole(file, json.dumps({"key": key, "rows": rows}), make_folder=True)
    return rows


if __name__ == "__main__":
    main()
