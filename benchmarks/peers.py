"""TRL's ``GRPOTrainer`` as the peer of the step benchmark, driven one optimiser step at a time.

Decision: the trainer's own loop runs, unpatched; a callback waits at the start of each step until it is asked for one,
so systems can take turns. Timers sit around the trainer's methods in a subclass and change nothing inside them.

What is fixed by the workload for every setting: the same model files and type with SDPA, the same pictures handed
over in memory (no disk, no decoder), completions of exactly R tokens, temperature 1 without cuts, one reward function,
full fine-tuning, no vLLM; no logging, saving or evaluation. Apart from that:

    default   GRPOConfig as it comes (TRL 1.16: gradient checkpointing on, 8 rows per forward pass, accumulated)
    tuned     no gradient checkpointing, and the rows per forward pass that were fastest here
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from measure import PeakMemory
from trl import GRPOConfig, GRPOTrainer
from workload import Workload, load, reward

ROWS_OF_DEFAULT = 8
"""``per_device_train_batch_size`` of GRPOConfig in TRL 1.16."""


def _reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    return [reward(completion[0]["content"]) for completion in completions]


def dataset(work: Workload, processor: Any) -> Dataset:
    """The B questions; the pictures are handed over as they are in memory."""
    questions = work.questions(processor)

    def rows(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [questions[i] for i in batch["index"]]
        return {
            "prompt": [[{"role": "user", "content": question.text}] for question in chosen],
            "images": [[question.image] for question in chosen],
        }

    return Dataset.from_dict({"index": list(range(work.batch))}).with_transform(rows)


def settings(work: Workload, rows: int, *, checkpointing: bool | None, folder: str, **more: Any) -> GRPOConfig:
    """The trainer's settings.

    Args:
        work: the workload.
        rows: rows of one forward pass of the update; the B x G rows of a step are accumulated from them.
        checkpointing: gradient checkpointing; None leaves TRL's default.
        folder: where the trainer may write.
        more: fields of GRPOConfig.
    """
    rows = min(rows, work.rows)
    if work.rows % rows:
        raise ValueError(f"{work.rows} rows of a step cannot be accumulated from batches of {rows}")
    options = more if checkpointing is None else {"gradient_checkpointing": checkpointing, **more}
    return GRPOConfig(
        output_dir=folder,
        use_cpu=not torch.cuda.is_available(),
        bf16=work.dtype == "bfloat16",
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=work.rows // rows,
        num_generations=work.group,
        max_completion_length=work.completion,
        beta=work.beta,
        learning_rate=work.learning_rate,
        max_steps=100_000,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **options,
    )


class TimedTrainer(GRPOTrainer):
    """The trainer with timers around its methods.

    Attributes:
        seconds: seconds per stage since they were last cleared.
        memory: set while the memory of a step is measured; notes its parts in ``bytes``.
        bytes: peak of the rollout and its start, and the start of the update.
    """

    seconds: dict[str, float]
    memory: PeakMemory | None = None
    bytes: dict[str, int]

    @contextmanager
    def watch(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def _tokenize_prompts(self, *args: Any, **kwargs: Any) -> Any:
        with self.watch("images"):
            return super()._tokenize_prompts(*args, **kwargs)

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        with self.watch("generate"):
            return super()._generate(*args, **kwargs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        with self.watch("score"):
            return super()._calculate_rewards(*args, **kwargs)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        with self.watch("policy" if torch.is_grad_enabled() else "reference"):
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def _generate_and_score_completions(self, *args: Any, **kwargs: Any) -> Any:
        with self.watch("before_update"):
            output = super()._generate_and_score_completions(*args, **kwargs)
        completions, advantages = output["completion_ids"], output["advantages"]
        assert completions.shape[1] == self.max_completion_length, completions.shape
        assert bool(output["completion_mask"].all()), "a completion ended early"
        assert bool((advantages != 0).any()), "there is nothing to learn"
        self.prompt_tokens = int(output["prompt_ids"].shape[1])
        return output

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        if self.memory is not None and "update_base" not in self.bytes:
            self.bytes["rollout_peak"] = self.memory.base + self.memory.peak
            self.memory.start()
            self.bytes["update_base"] = self.memory.base
        return super().compute_loss(*args, **kwargs)


class _Turns(transformers.TrainerCallback):
    """Waits for an order before each step and answers after it."""

    def __init__(self, trainer: TimedTrainer, receive: Callable[[], str], send: Callable[[Any], None]) -> None:
        self.trainer, self.receive, self.send = trainer, receive, send
        self.start, self.base = 0.0, 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        order = self.receive()
        trainer = self.trainer
        if order == "stop":
            raise KeyboardInterrupt
        trainer.seconds, trainer.bytes = {}, {}
        trainer.memory = PeakMemory() if order == "memory" else None
        if trainer.memory is not None:
            trainer.memory.start()
            self.base = trainer.memory.base
        self.start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step, trainer = time.perf_counter() - self.start, self.trainer
        if trainer.memory is not None:
            peak = trainer.memory.peak
            highest = max(trainer.bytes["rollout_peak"], trainer.bytes["update_base"] + peak)
            self.send({"step": highest - self.base, "update": peak})
            return
        seconds = trainer.seconds
        reference, before = seconds.pop("reference", 0.0), seconds.pop("before_update")
        generate, score, images, policy = (seconds[k] for k in ("generate", "score", "images", "policy"))
        update = step - before + reference
        self.send(
            {
                "step": step,
                "rollout": generate + score,
                "update": update,
                "stage/images": images,
                "stage/sample": generate - images,
                "stage/score": score,
                "stage/images again": before - generate - score - reference,
                "stage/reference": reference,
                "stage/policy": policy,
                "stage/backward, optimizer": update - reference - policy,
            }
        )


def serve(
    work: Workload,
    folder: Path,
    rows: int,
    checkpointing: bool | None,
    receive: Callable[[], str],
    send: Callable[[Any], None],
    **more: Any,
) -> None:
    """Answer each order (``warm-up``, ``times`` or ``memory``) with the figures of one step, until ``stop``.

    ``more`` are fields of GRPOConfig.
    """
    transformers.utils.logging.set_verbosity_error()
    model, processor = load(folder, work.dtype)
    with tempfile.TemporaryDirectory() as output:
        config = settings(work, rows, checkpointing=checkpointing, folder=output, **more)
        trainer = TimedTrainer(
            model=model,
            reward_funcs=_reward,
            args=config,
            train_dataset=dataset(work, processor),
            processing_class=processor,
        )
        trainer.add_callback(_Turns(trainer, receive, send))
        send(
            {
                "gradient_checkpointing": config.gradient_checkpointing,
                "per_device_train_batch_size": config.per_device_train_batch_size,
                "gradient_accumulation_steps": config.gradient_accumulation_steps,
                "generation_batch_size": config.generation_batch_size,
                "loss_type": config.loss_type,
                "optim": str(config.optim),
            }
        )
        try:
            trainer.train()
        except KeyboardInterrupt:
            return
