"""Visual reinforcement fine-tuning: the loop (arXiv 2503.01785; GRPO, arXiv 2402.03300).

Decision: our own loop over accelerate, because the group is the unit from the sampler to the loss: each image and
each prompt is encoded once, its G completions share that prefix, and they are never shuffled apart.

Worked example, three steps on your own COCO-format folder:

    from visual_rft import load_config, train
    summary = train(load_config(Path("examples/coco.yaml"), ["--run.steps", "3"]))
    summary["evaluation"]["AP"]
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
from visual_rft.policy.reference import Reference
from visual_rft.tasks import Sample, load_task
from visual_rft.training.advantages import group_advantages
from visual_rft.training.batches import batch_indices, prefetch
from visual_rft.training.checkpoint import load_trainer, save_checkpoint
from visual_rft.training.metrics import Stopwatch, step_metrics
from visual_rft.training.objective import grpo_loss
from visual_rft.training.optimizer import make_optimizer
from visual_rft.training.setup import prepare_process, prompts_of
from visual_rft.training.tracking import RunFolder, progress_line


def train(config: Config, *, resume: bool = False) -> dict[str, Any]:
    """Train a policy by reinforcement.

    Args:
        config: the whole run.
        resume: continue the run in ``config.run.folder`` from its last checkpoint.

    Returns:
        What is written to ``summary.json``: the last evaluation, seconds and where the model is.

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
    optimizer, schedule = make_optimizer(
        policy.model, config.optimizer, config.run.steps * config.objective.updates_per_rollout
    )
    policy.model, optimizer = accelerator.prepare(policy.model, optimizer)
    policy.to(accelerator.device)
    first_step = load_trainer(checkpoint, optimizer, schedule) if checkpoint else 0
    folder.drop_metrics_from(first_step)
    reference = (
        Reference.at_start(policy, config.model, config.rollout, checkpoint) if config.objective.beta > 0 else None
    )

    loop, objective = config.run, config.objective
    started = time.monotonic()
    evaluation: dict[str, Any] = {}

    def prepare(number: int) -> tuple[Sequence[Sample], Inputs]:
        """Batch ``number`` of the run, images opened and processed."""
        chosen = [samples[i] for i in batch_indices(number, len(samples), loop.prompts_per_batch, loop.seed)]
        return chosen, policy.prepare(prompts_of(task, policy, chosen))

    batches = prefetch(prepare, first_step * loop.accumulation, loop.steps * loop.accumulation)
    for step in range(first_step, loop.steps):
        generator = torch.Generator(accelerator.device).manual_seed(loop.seed * 1_000_003 + step)
        watch, parts = Stopwatch(), []
        for micro in range(loop.accumulation):
            with watch("wait"):
                batch, inputs = next(batches)
            with watch("encode"):
                prefix = policy.encode(inputs)  # vision tower once per image, prompt once
            with watch("sample"):
                completions = policy.sample(prefix, config.rollout.group_size, generator)
            with watch("score"):
                scores = [
                    [task.score(text, sample.truth, frame) for text in group]
                    for sample, frame, group in zip(batch, prefix.frames, completions.text, strict=True)
                ]
                rewards = torch.tensor([[s.total for s in group] for group in scores], device=accelerator.device)
                advantages = group_advantages(rewards)
            with watch("reference"):
                reference_logprobs = reference.logprobs(inputs, completions) if reference else None
            with watch("update"):
                for update in range(objective.updates_per_rollout):
                    if update > 0:
                        prefix = policy.encode(inputs)  # the weights have changed
                    loss, stats = grpo_loss(
                        policy.logprobs(prefix, completions),
                        completions.logprobs,
                        reference_logprobs,
                        advantages,
                        completions.mask,
                        beta=objective.beta,
                        clip_low=objective.clip_low,
                        clip_high=objective.clip_high,
                        aggregation=objective.aggregation,
                    )
                    accelerator.backward(loss / loop.accumulation)
                    if micro == loop.accumulation - 1:
                        grad_norm = accelerator.clip_grad_norm_(
                            policy.model.parameters(), config.optimizer.max_grad_norm
                        )
                        optimizer.step()
                        optimizer.zero_grad()
                        schedule.step()
            parts.append((rewards, scores, completions, loss.item(), stats))
            if loop.rollouts_every and step % loop.rollouts_every == 0:
                texts = [prompt.text for prompt in inputs.prompts]
                folder.write_rollouts(
                    step, batch, texts, completions.text, scores, advantages.tolist(), append=micro > 0
                )
        metrics = step_metrics(step, parts, float(grad_norm), schedule.get_last_lr()[0], watch)
        folder.append_metrics(metrics)
        print(progress_line(metrics, loop.steps), flush=True)

        done = step + 1
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
