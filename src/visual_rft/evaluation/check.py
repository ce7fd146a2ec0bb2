"""Look at a run before it costs anything: ``visual-rft check CONFIG``.

Decision: everything a training step would do short of computing is done on real questions: images are opened and
processed, boxes go to the model's space and back, the gold answer is scored (it must be full) and so are wrong ones
(each must be less). An IoU reward that stays at zero is then found in seconds instead of after a night. The model's
weights are not loaded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from visual_rft.config import Config
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError
from visual_rft.policy.inputs import Inputs, Prompt
from visual_rft.policy.loading import load_policy
from visual_rft.policy.memory import size_of
from visual_rft.policy.policy import Policy
from visual_rft.tasks import Sample, Task, task_of
from visual_rft.tasks.answers import Parsed
from visual_rft.tasks.base import frame_of
from visual_rft.vision.boxes import as_box, iou
from visual_rft.vision.coordinates import Frame
from visual_rft.vision.drawing import TRUTH, contact_sheet, draw_marks

PICTURES = 12
"""Questions drawn on the contact sheet."""
NAMED = 10
"""Violations printed one by one; the rest are counted."""
LEAST_ROUND_TRIP = 0.5
"""IoU of a true box with itself after rounding to the model's units; below, a perfect answer counts as a miss."""


def check_run(config: Config, samples: int, sheet: Path) -> bool:
    """Check a run and print what was found.

    Args:
        config: the whole run.
        samples: training questions to check, spread over the data.
        sheet: where the picture of the first questions with their truth drawn goes.

    Returns:
        Whether no violation was found.

    Raises:
        VisualRFTError: if the config, data set or model cannot be used at all.
    """
    task = task_of(config.task)
    questions = load_samples(config.data.train, task)
    policy = load_policy(config.model, config.rollout, empty=True)
    count = min(samples, len(questions))
    chosen = [questions[i * len(questions) // count] for i in range(count)]
    print(f"{len(questions)} training questions, {count} checked; task {task.name}, boxes in {policy.space.value}")

    violations: list[str] = []
    lengths: dict[str, list[int]] = {"prompt": [], "image": [], "gold answer": []}
    totals: dict[str, list[float]] = defaultdict(list)
    round_trips: list[float] = []
    pictures: list[Image.Image] = []
    longest: Inputs | None = None
    for sample in chosen:
        try:
            inputs = policy.prepare([Prompt.of(task, sample, policy.space)])
            frame = frame_of(sample.truth, inputs.frames[0])
            gold, found = _check_answers(task, sample, frame, totals, round_trips)
        except DataError as error:
            violations.append(f"{sample.id}: {error}")
            continue
        violations += [f"{sample.id}: {text}" for text in found]
        ids = inputs.tensors["input_ids"]
        longest = inputs if longest is None or inputs.lengths > longest.lengths else longest
        lengths["prompt"].append(ids.shape[1])
        lengths["image"].append(int((ids == policy.config.image_token_id).sum()))
        lengths["gold answer"].append(policy.completions_of([gold]).ids.shape[-1])
        if lengths["gold answer"][-1] > config.rollout.max_new_tokens:
            violations.append(
                f"{sample.id}: the gold answer has {lengths['gold answer'][-1]} tokens, but rollout.max_new_tokens is "
                f"{config.rollout.max_new_tokens}: a right answer would be cut off"
            )
        if len(pictures) < PICTURES:
            pictures.append(_drawn(task, sample, gold, frame))

    if round_trips:
        print(f"coordinates: IoU after rounding to the model's units: least {min(round_trips):.3f}, "
              f"mean {sum(round_trips) / len(round_trips):.3f}")  # fmt: skip
    print("rewards, mean total:  " + "  ".join(f"{name} {sum(v) / len(v):.2f}" for name, v in totals.items()))
    for name, values in lengths.items():
        if values:
            print(f"tokens per {name}: {min(values)} to {max(values)}, mean {sum(values) / len(values):.0f}")
    if longest is not None:
        parts = memory_estimate(config, policy, longest)
        print(f"memory, roughly: {sum(parts.values()) / 2**30:.2f} GiB  ("
              + ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items()) + ")")  # fmt: skip
    if pictures:
        try:
            contact_sheet(pictures, columns=4).save(sheet)
        except (OSError, ValueError) as error:
            raise DataError(f"{sheet}: cannot write the contact sheet ({error})") from None
        print(f"contact sheet with the truth drawn: {sheet}")
    for violation in violations[:NAMED]:
        print(f"VIOLATION {violation}")
    if len(violations) > NAMED:
        print(f"... and {len(violations) - NAMED} more")
    print(f"{len(violations)} violations" if violations else "no violation")
    return not violations


def _check_answers(
    task: Task, sample: Sample, frame: Frame | None, totals: dict[str, list[float]], round_trips: list[float]
) -> tuple[str, list[str]]:
    """The gold answer, and what is wrong with the rewards of this question."""
    found = []
    gold = task.gold(sample.truth, frame)
    best = task.score(gold, sample.truth, frame)
    totals["gold"].append(best.total)
    # What is lost by rounding to the model's units is the units' fault: full marks are asked on the rounded truth.
    rounded = _rounded(sample.truth, frame, round_trips)
    if round_trips and round_trips[-1] < LEAST_ROUND_TRIP:
        found.append(
            f"a true box keeps only IoU {round_trips[-1]:.2f} after rounding to the model's units; enlarge the image"
        )
    full = task.score(gold, rounded, frame)
    if full.failure:
        found.append(f"the gold answer cannot be read ({full.failure}): {gold[:120]}")
    elif short := task.not_full(full):
        found.append("the gold answer is not full: " + ", ".join(f"{k} {v:.3f}" for k, v in short.items()))
    for name, completion in task.wrong(sample.truth, frame).items():
        total = task.score(completion, sample.truth, frame).total
        totals[name].append(total)
        if total >= best.total:
            found.append(f"the wrong answer '{name}' scores {total:.3f}, the gold one {best.total:.3f}")
    return gold, found


def _rounded(truth: Mapping[str, Any], frame: Frame | None, round_trips: list[float]) -> dict[str, Any]:
    """The truth with its boxes moved to where the model's units can be."""
    rounded = dict(truth)
    if frame is not None:
        for key in ("boxes", "box"):
            if key in truth:
                before = [as_box(list(box)) for box in (truth[key] if key == "boxes" else [truth[key]])]
                after = [frame.to_pixels(frame.from_pixels(box)) for box in before]
                round_trips += sorted((iou(a, b) for a, b in zip(before, after, strict=True)), reverse=True)
                rounded[key] = [list(box) for box in after] if key == "boxes" else list(after[0])
    return rounded


def _drawn(task: Task, sample: Sample, gold: str, frame: Frame | None) -> Image.Image:
    parsed = task.parse(gold, sample.truth, frame)
    marks = task.marks(sample.question, parsed.value) if isinstance(parsed, Parsed) else []
    return draw_marks(sample.images[0].load(), marks, TRUTH, least_side=384)


def memory_estimate(config: Config, policy: Policy, inputs: Inputs) -> dict[str, float]:
    """Bytes of one training step by part, roughly.

    Weights, gradients and AdamW's two averages are counted; activations are those of :func:`size_of` for a batch of
    prompts like this one with completions of full length, all at once. An update takes less where the activations do
    not fit, see ``policy/memory.py``.

    Args:
        config: the whole run.
        policy: the model, with or without its weights.
        inputs: the longest prompt.
    """
    parameters: Sequence[torch.nn.Parameter] = list(policy.model.parameters())
    element = getattr(torch, config.model.dtype).itemsize
    computed = 2 if config.model.autocast == "bfloat16" else element
    size = size_of(policy.config, inputs, computed)
    completions = config.run.prompts_per_batch * config.rollout.group_size
    copies = 2 if config.objective.beta > 0 and config.model.lora is None else 1
    share = config.engine.checkpoint_prompts or 0.0
    prompts = size.prompts + share * (size.prompts_checkpointed - size.prompts)
    token = size.token_checkpointed if config.engine.checkpoint_completions else size.token
    at_once = min(completions, config.engine.micro_batch or completions)
    return {
        "weights": float(sum(p.numel() for p in parameters) * element * copies),
        "gradients and optimiser": float(sum(p.numel() for p in parameters if p.requires_grad) * element * 3),
        "prompts": prompts * config.run.prompts_per_batch,
        "completions": token * at_once * config.rollout.max_new_tokens,
    }
