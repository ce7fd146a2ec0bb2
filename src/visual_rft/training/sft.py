"""Supervised fine-tuning on the gold answers: the baseline, and how the embedded base was taught.

Decision: the same config, data, prefix and checkpoint as reinforcement; only the loss differs, the mean negative
log-probability of the gold completion's tokens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator

from visual_rft.config import Config
from visual_rft.data.sources import load_samples
from visual_rft.evaluation.detection import detection_metrics, evaluation_line, predict
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prefix import Inputs
from visual_rft.tasks import Sample, load_task
from visual_rft.training.batches import batch_indices, prefetch
from visual_rft.training.checkpoint import load_trainer, save_checkpoint
from visual_rft.training.metrics import Stopwatch
from visual_rft.training.objective import aggregate
from visual_rft.training.optimizer import make_optimizer
from visual_rft.training.setup import prepare_process, prompts_of
from visual_rft.training.tracking import RunFolder


def train_supervised(config: Config, *, resume: bool = False) -> dict[str, Any]:
    """Train a policy on gold answers.

    Args:
        config: the whole run; ``rollout.group_size`` and ``objective`` are not used.
        resume: continue the run in ``config.run.folder`` from its last checkpoint.

    Returns:
        What is written to ``summary.json``.

    Raises:
        VisualRFTError: if the config, data, model or run folder cannot be used.
    """
    prepare_process(config)
    task = load_task(**config.task.model_dump())
    samples = load_samples(config.data.train)
    held_out = load_samples(config.data.evaluation)
    folder = RunFolder.resume(config) if resume else RunFolder.create(config)
    checkpoint = folder.checkpoints()[-1] if resume and folder.checkpoints() else None

    policy = load_policy(config.model, config.rollout, checkpoint / "model" if checkpoint else None)
    accelerator = Accelerator(mixed_precision=config.model.mixed_precision, cpu=not torch.cuda.is_available())
    optimizer, schedule = make_optimizer(policy.model, config.optimizer, config.run.steps)
    policy.model, optimizer = accelerator.prepare(policy.model, optimizer)
    policy.to(accelerator.device)
    first_step = load_trainer(checkpoint, optimizer, schedule) if checkpoint else 0
    folder.drop_metrics_from(first_step)

    loop = config.run
    started = time.monotonic()
    evaluation: dict[str, Any] = {}

    def prepare(number: int) -> tuple[Sequence[Sample], Inputs]:
        """Batch ``number`` of the run, images opened and processed."""
        chosen = [samples[i] for i in batch_indices(number, len(samples), loop.prompts_per_batch, loop.seed)]
        return chosen, policy.prepare(prompts_of(task, policy, chosen))

    batches = prefetch(prepare, first_step * loop.accumulation, loop.steps * loop.accumulation)
    for step in range(first_step, loop.steps):
        watch, losses = Stopwatch(), []
        for _ in range(loop.accumulation):
            with watch("wait"):
                batch, inputs = next(batches)
            with watch("update"):
                prefix = policy.encode(inputs)
                gold = [task.gold(sample.truth, frame) for sample, frame in zip(batch, prefix.frames, strict=True)]
                completions = policy.completions_of(gold)
                loss = aggregate(-policy.logprobs(prefix, completions), completions.mask, "token_mean")
                accelerator.backward(loss / loop.accumulation)
                losses.append(loss.item())
        grad_norm = accelerator.clip_grad_norm_(policy.model.parameters(), config.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        metrics = {
            "step": step,
            "loss": sum(losses) / len(losses),
            "grad_norm": float(grad_norm),
            "learning_rate": schedule.get_last_lr()[0],
            "samples_per_second": loop.prompts_per_batch * loop.accumulation / watch.total,
            **{f"seconds/{name}": seconds for name, seconds in watch.seconds.items()},
        }
        folder.append_metrics(metrics)
        done = step + 1
        if done % 20 == 0 or done == loop.steps:
            print(
                f"step {done}/{loop.steps} | loss {metrics['loss']:.4f} | grad norm {metrics['grad_norm']:.2f} | "
                f"{metrics['samples_per_second']:.0f} samples/s",
                flush=True,
            )
        if done == loop.steps or (loop.evaluate_every and done % loop.evaluate_every == 0):
            evaluation = detection_metrics(predict(policy, task, held_out))
            folder.write_json(f"evaluation/step-{done:06d}.json", evaluation)
            print(f"evaluation after {done} steps | {evaluation_line(evaluation)}", flush=True)
        if done == loop.steps or (loop.checkpoint_every and done % loop.checkpoint_every == 0):
            checkpoint = save_checkpoint(folder, policy, optimizer, schedule, done)

    summary = {
        "evaluation": evaluation,
        "seconds": {"train": time.monotonic() - started},
        "steps": loop.steps,
        "checkpoint": str(checkpoint) if checkpoint else None,
    }
    folder.write_json("summary.json", summary)
    return summary
