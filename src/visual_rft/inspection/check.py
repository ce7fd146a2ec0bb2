"""Look at a run before it costs anything: ``visual-rft check CONFIG``.

Decision: everything a training step would do short of computing is done on real questions: images are opened and
processed, boxes go to the model's space and back, the gold answer is scored (it must be full) and so are wrong ones
(each must be less). An IoU reward that stays at zero is then found in seconds instead of after a night. The model's
weights are not loaded. Several processes divide the questions; what they find is put together in their order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from visual_rft.config.config import Config
from visual_rft.data.annotated import images_of
from visual_rft.data.leakage import find_leakage
from visual_rft.data.sources import load_samples
from visual_rft.data.tiled import size_for
from visual_rft.errors import DataError, PromptTooLongError, printable
from visual_rft.inspection.alike import check_alike
from visual_rft.inspection.dry_run import memory_lines
from visual_rft.inspection.fitting import does_not_fit
from visual_rft.inspection.look import TokenCounts, look_at_data, spread
from visual_rft.parallel.meetings import by_first, gather
from visual_rft.parallel.processes import here
from visual_rft.policy.inputs import OpenedReasoning
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt, tasks_for
from visual_rft.tasks import Sample, Task, Tasks
from visual_rft.tasks.parsing.completion import Parsed
from visual_rft.tasks.pictures import with_truth
from visual_rft.tasks.truth import frame_of
from visual_rft.terminal.notes import warn
from visual_rft.vision.boxes import as_box, iou
from visual_rft.vision.coordinates import Frame
from visual_rft.vision.drawing import TRUTH, contact_sheet, draw_marks, save_picture

MAX_PICTURES = 12
"""Questions drawn on the contact sheet."""
MAX_VIOLATIONS_PRINTED = 10
"""Violations printed one by one; the rest are counted."""
MIN_ROUND_TRIP_IOU = 0.5
"""IoU of a true box with itself after rounding to the model's units; below, a perfect answer counts as a miss."""


def check_run(config: Config, samples: int, sheet: Path) -> bool:
    """Check a run and print what was found.

    Args:
        config: the whole run.
        samples: number of training questions to check, spread over the data.
        sheet: file for the picture of the first questions with their truth drawn.

    Returns:
        Whether no violation was found.

    Raises:
        VisualRFTError: if the config, data set or model cannot be used at all.
    """
    # The questions and the model without its weights.
    here().wait_at_most(config.parallel.timeout)
    task = tasks_for(config)
    questions = load_samples(config.data.train, task)
    check_alike(config, questions)
    policy = load_policy(config.model, config.rollout, empty=True)
    chosen = [questions[i] for i in spread(len(questions), samples)]
    print(
        f"{len(questions)} training questions, {len(chosen)} checked; task {task.name}, boxes in {policy.space.value}"
    )

    # Each chosen question: its image, prompt, gold answer and wrong answers.
    looks, tokens = _look_at_all(config, task, policy, chosen)
    violations = [text for look in looks for text in look.violations]
    totals: dict[str, list[float]] = defaultdict(list)
    for look in looks:
        for name, total in look.totals.items():
            totals[name].append(total)
    round_trips = [value for look in looks for value in look.ious]
    pictures = [look.picture for look in looks if look.picture is not None][:MAX_PICTURES]

    # What they say together: units, rewards, tokens, memory.
    if round_trips:
        print(f"coordinates: IoU after rounding to the model's units: least {min(round_trips):.3f}, "
              f"mean {sum(round_trips) / len(round_trips):.3f}")  # fmt: skip
    print(
        "rewards, mean total:  " + "  ".join(f"{printable(name)} {sum(v) / len(v):.2f}" for name, v in totals.items())
    )
    print("\n".join(tokens.lines()))
    if tokens.longest is not None:
        print("\n".join(memory_lines(config, policy, tokens.longest)))
        problem = does_not_fit(config, policy, tokens.longest)
        violations += [] if problem is None else [problem]

    violations += by_first(lambda: _look_at_whole(config, task, policy, questions), "a look at the data as a whole")

    # The contact sheet, and the verdict.
    if pictures:
        by_first(lambda: save_picture(contact_sheet(pictures, columns=4), sheet, "contact sheet"), "the contact sheet")
        print(f"contact sheet with the truth drawn: {sheet}")
    for violation in violations[:MAX_VIOLATIONS_PRINTED]:
        print(f"VIOLATION {printable(violation)}")
    if len(violations) > MAX_VIOLATIONS_PRINTED:
        print(f"... and {len(violations) - MAX_VIOLATIONS_PRINTED} more")
    print(f"{len(violations)} violation{'s' * (len(violations) > 1)}" if violations else "no violation")
    return not violations


class Look(NamedTuple):
    """What was found about one question, by the process that looked at it.

    Attributes:
        violations: one text for each.
        totals: total reward of the gold answer and of each wrong one, by name.
        ious: IoU of each true box with itself after rounding to the model's units.
        picture: with the truth drawn; None where there are enough.
    """

    violations: list[str]
    totals: Mapping[str, float]
    ious: Sequence[float]
    picture: Image.Image | None


def _look_at_all(
    config: Config, tasks: Tasks, policy: Policy, chosen: Sequence[Sample]
) -> tuple[list[Look], TokenCounts]:
    """What all processes find about the chosen questions, each about its share, in the order of the questions."""
    looks: list[Look] = []
    tokens = TokenCounts(policy)
    for place in here().share(len(chosen)):
        drawn = sum(look.picture is not None for look in looks)
        looks.append(_look_at(config, tasks, policy, chosen[place], tokens, draw=drawn < MAX_PICTURES))
    told = gather((looks, tokens.counts, tokens.longest), "what was found about the questions")
    whole = TokenCounts(policy)
    for _, counts, longest in told:
        whole.join(counts, longest)
    return [look for part, _, _ in told for look in part], whole


def _look_at(config: Config, tasks: Tasks, policy: Policy, sample: Sample, tokens: TokenCounts, draw: bool) -> Look:
    try:
        inputs = policy.prepare([Prompt.of(tasks, sample, policy.space)])
        frame = frame_of(sample.truth, inputs.frames[0])
        checked = _check_answers(tasks.of(sample), sample, frame, policy.reasoning)
    except (DataError, PromptTooLongError) as error:
        return Look([f"{sample.id}: {error}"], {}, (), None)
    violations = [f"{sample.id}: {text}" for text in checked.faults]
    answer, limit = tokens.add(inputs, checked.gold), config.rollout.max_new_tokens
    if answer > limit:
        violations.append(
            f"{sample.id}: the gold answer has {answer} tokens, but rollout.max_new_tokens is {limit}: a right answer "
            f"would be cut off{_tiles_instead(sample, answer, limit)}"
        )
    picture = _drawn(tasks.of(sample), sample, checked.gold, frame) if draw else None
    totals = {"/".join([*tasks.labels([sample]), name]): total for name, total in checked.totals.items()}
    return Look(violations, totals, checked.ious, picture)


def _look_at_whole(config: Config, tasks: Tasks, policy: Policy, questions: Sequence[Sample]) -> list[str]:
    """Violations of the data as a whole; what is less is printed."""
    violations: list[str] = []

    # Units of boxes, shrunk images, the longest prompts.
    try:
        warn(look_at_data(policy, tasks, questions))
    except (DataError, PromptTooLongError) as error:
        violations.append(str(error))

    # What is held out, where the config names it: is it?
    if "evaluation" in config.data.model_fields_set:
        try:
            leakage = find_leakage(questions, load_samples(config.data.evaluation, tasks))
        except DataError as error:
            violations.append(f"data.evaluation: {error}")
        else:
            if leakage.pairs:
                warn([leakage.line()])
            else:
                print(leakage.line())
    return violations


class Checked(NamedTuple):
    """What was found about one question.

    Attributes:
        gold: the gold answer as the model would write it.
        totals: total reward of the gold answer and of each wrong one, by name.
        ious: IoU of each true box with itself after rounding to the model's units.
        faults: one text for each thing that is wrong with the rewards.
    """

    gold: str
    totals: dict[str, float]
    ious: list[float]
    faults: list[str]


def _tiles_instead(sample: Sample, tokens: int, limit: int) -> str:
    """What tiles would do for a picture whose answer has more ``tokens`` than the ``limit``; empty if nothing."""
    boxes = sample.truth.get("boxes")
    if not boxes or not sample.truth.get("image_size"):
        return ""
    most = limit * len(boxes) // tokens
    size = size_for(images_of([sample]), most) if most else None
    if size is None:
        return ""
    return (
        f"; of its {len(boxes)} boxes about {most} fit, and tiles of {size} pixels hold no more: "
        f"tiles: {{size: {size}}} in the source, and evaluate --tiles {size}"
    )


def _check_answers(task: Task, sample: Sample, frame: Frame | None, reasoning: OpenedReasoning) -> Checked:
    def sampled(text: str) -> str:
        """The text as it would come out of the model, through its chat template."""
        return reasoning.whole(reasoning.told([text]))[0]

    gold = task.gold(sample.truth, frame)
    best = task.score(sampled(gold), sample.truth, frame).total
    totals = {"gold": best}
    faults = []
    # What is lost by rounding to the model's units is the units' fault: full marks are asked on the rounded truth.
    rounded, ious = _rounded(sample.truth, frame)
    if (worst := min(ious, default=1.0)) < MIN_ROUND_TRIP_IOU:
        faults.append(f"a true box keeps only IoU {worst:.2f} after rounding to the model's units; enlarge the image")
    full = task.score(sampled(gold), rounded, frame)
    if full.failure:
        faults.append(f"the gold answer cannot be read ({full.failure}): {gold[:120]}")
    elif short := task.not_full(full):
        faults.append("the gold answer is not full: " + ", ".join(f"{k} {v:.3f}" for k, v in short.items()))
    for name, completion in task.wrong(sample.truth, frame).items():
        totals[name] = task.score(sampled(completion), sample.truth, frame).total
        if totals[name] >= best:
            faults.append(f"the wrong answer '{name}' scores {totals[name]:.3f}, the gold one {best:.3f}")
    return Checked(gold, totals, ious, faults)


def _rounded(truth: Mapping[str, Any], frame: Frame | None) -> tuple[dict[str, Any], list[float]]:
    """The truth with its boxes moved to where the model's units can be, and the IoU of each box with itself before."""
    rounded, ious = dict(truth), []
    if frame is not None:
        for key in ("boxes", "box"):
            if key in truth:
                before = [as_box(list(box)) for box in (truth[key] if key == "boxes" else [truth[key]])]
                after = [frame.to_pixels(frame.from_pixels(box)) for box in before]
                ious += [iou(a, b) for a, b in zip(before, after, strict=True)]
                rounded[key] = [list(box) for box in after] if key == "boxes" else list(after[0])
    return rounded, ious


def _drawn(task: Task, sample: Sample, gold: str, frame: Frame | None) -> Image.Image:
    parsed = task.parse(gold, sample.truth, frame)
    marks = task.marks(sample.question, parsed.value) if isinstance(parsed, Parsed) else []
    return draw_marks(sample.images[0].load(), with_truth(marks, sample.truth), TRUTH, least_side=384)
