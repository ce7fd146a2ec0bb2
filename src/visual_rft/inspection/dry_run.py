"""What a run will be, without running it: ``visual-rft train CONFIG --dry-run``.

Decision: the model's shape is enough. It is built without weights, so this answers on a laptop what a 7B run will need;
real questions go through the real processor, and nothing is written.
"""

from __future__ import annotations

from pathlib import Path

from visual_rft.config.config import Config, dump_config
from visual_rft.data.sources import load_samples
from visual_rft.inspection.fitting import does_not_fit, gathering_chosen, least_footprint
from visual_rft.inspection.look import (
    TokenCounts,
    likely_longest,
    look_at_data,
    memory_text,
    size_of_image,
    spread,
)
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.loading import load_policy
from visual_rft.policy.memory.footprint import Footprint, activation_limit, count_parameters, most_held
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt, tasks_for
from visual_rft.terminal.notes import warn
from visual_rft.terminal.units import byte_size

SHARED_AS: dict[str, dict[str, str]] = {
    "replicated": {"strategy": "replicated"},
    "fsdp, gather step": {"strategy": "fsdp", "gather": "step"},
    "fsdp, gather layer": {"strategy": "fsdp", "gather": "layer"},
}
"""Ways in which processes share a run, and their fields of ``parallel``."""
MAX_QUESTIONS_PREPARED = 50
"""Questions that go through the processor, beside those that are likely to be the longest."""


def dry_run(config: Config, *, supervised: bool = False) -> None:
    """Print the resolved config, parameters, tokens, steps and memory of a run.

    Args:
        config: the whole run.
        supervised: whether the run is one of ``visual-rft sft``.

    Raises:
        VisualRFTError: if the config, data or model cannot be used, or a prompt does not fit the model's context.
    """
    task = tasks_for(config)
    print("# resolved config")
    print(dump_config(config))
    samples = load_samples(config.data.train, task)
    config = gathering_chosen(config, task, samples, supervised=supervised)
    held_out = load_samples(config.data.evaluation, task)
    policy = load_policy(config.model, config.rollout, engine=config.engine, empty=True)
    print("\n".join(parameter_lines(config, policy)))
    print(f"data: {len(samples):,} training questions, {len(held_out):,} held out; task {task.name}, boxes in "
          f"{policy.space.value}, {policy.engine_summary}")  # fmt: skip
    warnings = look_at_data(policy, task, samples)
    tokens = TokenCounts(policy)
    chosen = [samples[i] for i in spread(len(samples), MAX_QUESTIONS_PREPARED)]
    for sample in [*chosen, *likely_longest(policy, task, chosen, [size_of_image(s) for s in chosen])]:
        inputs = policy.prepare([Prompt.of(task, sample, policy.space)])
        tokens.add(inputs, task.of(sample).gold(sample.truth, inputs.frames[0]))
    print("\n".join([*tokens.lines(), *step_lines(config, len(samples), supervised)]))
    assert tokens.longest is not None
    print("\n".join(memory_lines(config, policy, tokens.longest, supervised)))
    print("\n".join(process_lines(config, policy, supervised)))
    if Path(config.run.folder).exists():
        warnings.append(f"run.folder: {config.run.folder} exists already; name another with --run.folder")
    problem = does_not_fit(config, policy, tokens.longest, supervised=supervised)
    warn([*warnings, *([] if problem is None else [problem])])
    print("nothing was trained or written")


def parameter_lines(config: Config, policy: Policy) -> list[str]:
    """How many parameters there are and how many learn, whole and by part."""
    lines = []
    for name, count in count_parameters(policy).items():
        what = f"model: {config.model.path} ({policy.model_config.model_type})" if name == "model" else f"  {name}"
        lines.append(f"{what}: {count.total:,} parameters, {count.trainable:,} trainable, {count.frozen:,} frozen")
    return lines


def step_lines(config: Config, questions: int, supervised: bool = False) -> list[str]:
    """From steps to prompts, epochs and completions."""
    run, rollout = config.run, config.rollout
    per_step = run.prompts_per_batch * run.accumulation
    prompts = run.steps * per_step
    batches = f"{run.accumulation} x {run.prompts_per_batch}"
    line = (
        f"steps: {run.steps:,} x {per_step} prompts ({batches}) = {prompts:,} prompts"
        f" = {prompts / questions:.1f} epochs of {questions:,} questions; one epoch is {questions / per_step:.1f} steps"
    )
    if supervised:
        return [line]
    updates, warm = config.objective.updates_per_rollout, config.objective.warm_start
    groups = [rollout.at(step / run.steps).group_size for step in range(warm, run.steps)] or [rollout.group_size]
    sampled = sum(groups) * per_step if warm < run.steps else 0
    each = " to ".join(map(str, dict.fromkeys((groups[0], groups[-1]))))
    completions = f"completions: {each} per prompt = {sampled:,}, of at most {rollout.max_new_tokens} tokens"
    more = [f"up to {1 + rollout.extra:g} times as many (rollout.extra)"] if rollout.extra else []
    more += [f"{updates} updates on each"] if updates > 1 else []
    more += [f"none in the first {warm} steps, which learn gold answers"] if warm else []
    return [line, "; ".join([completions, *more])]


def process_lines(config: Config, policy: Policy, supervised: bool = False) -> list[str]:
    """What each process holds beside activations, by how the run is shared and number of processes."""
    lines = ["held by each of 1, 2, 4, 8 processes, gradients included, activations not:"]
    for name, changed in SHARED_AS.items():
        one = config.model_copy(update={"parallel": config.parallel.model_copy(update=changed)})
        sizes = [most_held(one, policy, supervised=supervised, processes=n) for n in (1, 2, 4, 8)]
        lines.append(f"  {name:18}  " + "  ".join(byte_size(size) for size in sizes))
    return lines


def memory_lines(config: Config, policy: Policy, longest: Inputs, supervised: bool = False) -> list[str]:
    """The memory of a step: with the limit that is known, or the most and the least it may take."""
    whole = Footprint.of(config, policy, longest, supervised=supervised)
    limit = activation_limit(config, whole.beside_activations)
    if limit is not None:
        bounded = Footprint.of(config, policy, longest, limit, supervised=supervised)
        return [f"memory, roughly: {memory_text(bounded.parts)}"]
    least = least_footprint(config, policy, longest, supervised=supervised)
    return [
        f"memory, roughly: {memory_text(whole.parts)} with nothing computed twice",
        f"memory, at least: {memory_text(least.parts)}; in between, a run takes what is free (engine.memory_gib)",
    ]
