"""Does a run fit on its card? Asked before the weights are loaded; where it does not, what would make it.

Decision: the estimate of ``--dry-run``, with everything computed again that can be, is compared with the card, because
a 7B that cannot fit would otherwise load, evaluate its base for an hour and die in its first update. The remedies are
tried in the order of what they change about the run: first what changes nothing that is learned, then what changes
the optimiser's numbers, last what trains less; each is estimated like the run itself, and the first three that fit are
said.

    problem = does_not_fit(config, policy, longest, supervised=False)      # None, or one line
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from visual_rft.config.config import Config, parse_config
from visual_rft.errors import ConfigError, DataError
from visual_rft.inspection.look import likely_longest, size_of_image, spread
from visual_rft.parallel.meetings import by_first
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.loading import load_policy
from visual_rft.policy.memory.budget import card_bytes
from visual_rft.policy.memory.footprint import Footprint
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import Sample, Tasks
from visual_rft.tasks.spaces import MAX_QUESTIONS_LOOKED_AT
from visual_rft.terminal.units import byte_size

SMALLEST_LIMIT_BYTES = 1.0
"""A limit, in bytes, under which everything is recomputed and one completion runs at a time."""
REMEDIES_SAID = 3
_MASTERS = {"model.dtype": "bfloat16", "model.autocast": "no"}
_ADAPTER = {"model.lora.rank": 64, "model.dtype": "bfloat16", "model.autocast": "bfloat16"}
REMEDIES: tuple[dict[str, Any], ...] = (
    {"rollout.prompts_at_once": 4},
    {"rollout.prompts_at_once": 1},
    _MASTERS,
    {"optimizer.name": "adamw_8bit"},
    {"objective.beta": 0},
    {"model.freeze_vision": True, **_MASTERS},
    {"objective.beta": 0, **_MASTERS},
    _ADAPTER,
    {**_ADAPTER, "rollout.prompts_at_once": 4},
    {**_ADAPTER, "model.quantization": "nf4"},
    {**_ADAPTER, "model.lora.rank": 16, "model.quantization": "nf4", "rollout.prompts_at_once": 1},
)
"""Fields that are set to take less memory, those that change least about a run first."""


def least_footprint(config: Config, policy: Policy, longest: Inputs, *, supervised: bool = False) -> Footprint:
    """The least memory that a run can take: everything recomputed that can be."""
    return Footprint.of(config, policy, longest, SMALLEST_LIMIT_BYTES, supervised=supervised)


def does_not_fit(config: Config, policy: Policy, longest: Inputs, *, supervised: bool = False) -> str | None:
    """Why a run cannot fit on its card, and three remedies with their estimate each; None where it can, or there is no
    card to compare with.

    Args:
        config: the whole run.
        policy: its model, with or without its weights.
        longest: its longest prompt.
        supervised: whether the run is one of ``visual-rft sft``.
    """
    card = card_bytes(config)
    if card is None:
        return None
    needed = least_footprint(config, policy, longest, supervised=supervised).total
    if needed <= card:
        return None
    tried = sorted(_tried(config, longest, supervised), key=lambda remedy: remedy[1] > card)  # stable: fitting first
    fitting = [remedy for remedy in tried if remedy[1] <= card]
    said = (fitting or sorted(tried, key=lambda remedy: remedy[1]))[:REMEDIES_SAID]
    remedies = "; ".join(f"{flags} ({byte_size(size)})" for flags, size in said)
    hope = "remedies" if fitting else "nothing that is known makes it fit; the nearest"
    return (
        f"memory: the run takes {byte_size(needed)} or more, and the card has {byte_size(card)}; {hope}: {remedies} "
        "(engine.card_gib says otherwise what the card has)"
    )


def gathering_chosen(config: Config, task: Tasks, samples: Sequence[Sample], *, supervised: bool) -> Config:
    """The config with ``parallel.gather`` decided where it is ``auto``: ``step``, unless that does not
    fit on the card and ``layer`` takes less. As given where there are no shards, or no card to compare with.

    Args:
        config: the whole run.
        task: writes the prompts.
        samples: training questions.
        supervised: whether the run is one of ``visual-rft sft``.
    """
    card = card_bytes(config)
    if config.parallel.strategy != "fsdp" or config.parallel.gather != "auto" or card is None:
        return config
    if config.model.quantization != "none":  # nothing to cut but an adapter
        return config
    policy = load_policy(config.model, config.rollout, engine=config.engine, empty=True)
    longest = _longest(policy, task, samples)
    ways = [
        config.model_copy(update={"parallel": config.parallel.model_copy(update={"gather": gather})})
        for gather in ("step", "layer")
    ]
    if longest is None:
        return ways[0]
    step, layer = (least_footprint(way, policy, longest, supervised=supervised).total for way in ways)
    # The same in all processes, whatever their cards have.
    return ways[by_first(lambda: int(step > card and layer < step), "how weights are gathered")]


def refuse_what_cannot_fit(config: Config, task: Tasks, samples: Sequence[Sample], *, supervised: bool) -> None:
    """Compare the run with its card, by the prompts that are likely to be the longest; without a card, nothing is done.

    Args:
        config: the whole run.
        task: writes the prompts.
        samples: training questions.
        supervised: whether the run is one of ``visual-rft sft``.

    Raises:
        ConfigError: if it cannot fit, with remedies.
    """
    if card_bytes(config) is None:
        return
    policy = load_policy(config.model, config.rollout, engine=config.engine, empty=True)
    longest = _longest(policy, task, samples)
    problem = None if longest is None else does_not_fit(config, policy, longest, supervised=supervised)
    if problem is not None:
        raise ConfigError(problem)


def _longest(policy: Policy, task: Tasks, samples: Sequence[Sample]) -> Inputs | None:
    """The longest prompt of those that are likely to be it; None where none can be read."""
    looked = [samples[i] for i in spread(len(samples), MAX_QUESTIONS_LOOKED_AT)]
    prompts = []
    for sample in likely_longest(policy, task, looked, [size_of_image(sample) for sample in looked]):
        with suppress(DataError):  # said where it is met, or left out
            prompts.append(policy.prepare([Prompt.of(task, sample, policy.space)]))
    return max(prompts, key=lambda inputs: inputs.lengths, default=None)


def _tried(config: Config, longest: Inputs, supervised: bool) -> Iterator[tuple[str, float]]:
    """Flags of each remedy that changes this run, and bytes of the run with it."""
    for remedy in REMEDIES:
        values = config.model_dump(mode="json", exclude_unset=True)
        changed = {path: value for path, value in remedy.items() if _set(values, path.split("."), value)}
        if not changed:
            continue
        try:
            other = parse_config(values, "remedy")
        except ConfigError:  # does not go with the rest of the config
            continue
        policy = load_policy(other.model, other.rollout, engine=other.engine, empty=True)
        size = least_footprint(other, policy, longest, supervised=supervised).total
        yield " ".join(f"--{path} {value}" for path, value in changed.items()), size


def _set(values: dict[str, Any], path: list[str], value: Any) -> bool:
    """Set a field; returns whether that changes it."""
    for name in path[:-1]:
        values[name] = values.get(name) or {}
        values = values[name]
    changed = bool(values.get(path[-1]) != value)
    values[path[-1]] = value
    return changed
