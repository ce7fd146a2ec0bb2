"""What a run is: one frozen, validated description, from YAML and command-line flags.

Decision: pydantic with ``extra="forbid"``, so that a misspelt key is an error with its path and a suggestion instead
of a silent default; every field has a default, so a config file holds only what is special about a run. Flags are
merged into the file's values and validated with them, so a mistake gives the same single line wherever it was made.

>>> Config().rollout.group_size
8
>>> parse_config({"rollout": {"grop_size": 4}}, "run.yaml")
Traceback (most recent call last):
    ...
visual_rft.errors.ConfigError: run.yaml: rollout.grop_size: unknown key; did you mean 'group_size'?
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from visual_rft.config.compose import compose, merge
from visual_rft.config.explain import explain
from visual_rft.config.loop import LoopConfig
from visual_rft.config.objective import ObjectiveConfig
from visual_rft.config.optimizer import OptimizerConfig
from visual_rft.config.overrides import apply_flags
from visual_rft.config.parallel import ParallelConfig
from visual_rft.config.paths import completed, is_kept_by_a_run
from visual_rft.config.sections import EngineConfig, ModelConfig, RolloutConfig, Section, TaskConfig
from visual_rft.config.sources import DataConfig, SourceConfig
from visual_rft.config.yaml_text import read_yaml
from visual_rft.errors import ConfigError


class Config(Section):
    """A whole run: model, task, data, rollout, objective, engine, optimizer, parallel and loop."""

    model: ModelConfig = ModelConfig()
    task: TaskConfig = TaskConfig()
    data: DataConfig = DataConfig()
    rollout: RolloutConfig = RolloutConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    engine: EngineConfig = EngineConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    parallel: ParallelConfig = ParallelConfig()
    run: LoopConfig = LoopConfig()

    def with_model(self, **fields: Any) -> Config:
        """This run with another model, or the same one loaded in another way: fields of ``model``, not validated
        again."""
        return self.model_copy(update={"model": self.model.model_copy(update=fields)})

    @property
    def tasks(self) -> dict[str, TaskConfig]:
        """The tasks of the sources by what they are called, those of training first.

        Raises:
            ValueError: if two of them are called the same and differ.
        """
        found: dict[str, TaskConfig] = {}
        for part, sources in (("train", self.data.train), ("evaluation", self.data.evaluation)):
            for number, source in enumerate(sources):
                task = source.task or self.task
                known = found.setdefault(task.called, task)
                if known != task:
                    one, other = known.model_dump(), task.model_dump()
                    differ = ", ".join(name for name in one if one[name] != other[name])
                    raise ValueError(
                        f"data.{part}.{number}.task: two tasks are called {task.called!r} and differ in {differ}; give "
                        "one of them a label of its own (task.label)"
                    )
        return found

    def of_task(self, called: str) -> Config:
        """The run without what is not of one of its :attr:`tasks`; not validated again."""
        chosen = self.tasks[called]

        def its(sources: Sequence[SourceConfig]) -> tuple[SourceConfig, ...]:
            kept = (source for source in sources if (source.task or self.task).called == called)
            return tuple(source.model_copy(update={"task": None}) for source in kept)

        data = {"train": its(self.data.train), "evaluation": its(self.data.evaluation)}
        return self.model_copy(update={"task": chosen, "data": self.data.model_copy(update=data)})

    @model_validator(mode="after")
    def _tasks_have_names_of_their_own(self) -> Config:
        _ = self.tasks
        return self

    @model_validator(mode="after")
    def _one_batch_for_many_updates(self) -> Config:
        at_once = self.rollout.prompts_at_once
        if at_once is not None and at_once < self.run.prompts_per_step:
            if self.objective.updates_per_rollout > 1:
                raise ValueError(
                    "objective.updates_per_rollout above 1 needs the whole step in one rollout: leave "
                    "rollout.prompts_at_once out"
                )
            if self.objective.averages_tokens or self.objective.advantages in ("batch", "gdpo"):
                raise ValueError(
                    "an average over all tokens, or the spread of a batch, needs the whole step in one rollout: leave "
                    "rollout.prompts_at_once out"
                )
        if self.model.quantization != "none" and self.parallel.gather == "layer":
            raise ValueError(
                f"parallel.gather layer cuts plain weights, and quantization {self.model.quantization!r} leaves none; "
                "leave gather at step"
            )
        teaches = self.objective.warm_start or self.objective.ever("sft_weight") > 0
        if self.rollout.constrained and teaches:
            raise ValueError(
                "rollout.constrained allows only the form of the gold answer, and a gold answer with a longer thought "
                "would have probability 0; leave objective.warm_start and sft_weight at 0"
            )
        if self.rollout.engine != "own" and self.objective.needs_entropies:
            raise ValueError(
                "entropy_weight and top_entropy need the distribution of every token, which a server does not give; "
                "set rollout.engine own"
            )
        if self.rollout.hard_share and self.objective.advantages in ("batch", "gdpo"):
            raise ValueError(
                "rollout.hard_share compares two groups as one, and the spread of a batch wants groups of one size: "
                "take objective.advantages group, none, rloo or rank"
            )
        return self


def parse_config(values: Any, where: str) -> Config:
    """A validated config from plain values.

    Args:
        values: what YAML gave; None means an empty file, or a section with nothing below its name.
        where: names the origin in error messages.

    Raises:
        ConfigError: naming the path of the first bad key or value.
    """
    if not isinstance(values, Mapping | None):
        raise ConfigError(f"{where}: a config is a mapping of sections, this is a {type(values).__name__}")
    try:
        return Config.model_validate({name: value for name, value in (values or {}).items() if value is not None})
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, Config)}") from None


def load_config(
    source: Config | Mapping[str, Any] | Path | str,
    overrides: Sequence[str] = (),
    needs: Sequence[str] = (),
    **sections: Mapping[str, Any],
) -> Config:
    """Read a config file, or put together one that comes with the package, and change some of its fields.

    >>> load_config({"data": {"train": [{"source": "shapes"}]}}, run={"steps": 3}).run.steps
    3

    Args:
        source: a YAML file, or the name of a config of the package (``qwen2-vl-2b/few-shot-coco``); a file goes first.
            Its paths are relative to the file's folder (:mod:`visual_rft.config.paths`). Or sections as a dict, or a
            config; paths are then relative to the current folder.
        overrides: command-line flags, ``["--section.field", "value", ...]``, values in YAML; entries of lists by number
            (``--data.train.0.count 32``).
        needs: parts of ``data`` that must be named, ``train`` or ``evaluation``; where one is not, the default would
            be images that have nothing to do with the user's.
        sections: the same from Python, ``run={"steps": 10}``; a list replaces the list.

    Raises:
        ConfigError: if there is no such file or name, it is not YAML, the result is not a valid config, or it names no
            data.
    """
    values, where = _values(source)
    config = parse_config(values, where)  # a mistake in the file is reported as such, not as one of the flags
    if sections:
        values = copy.deepcopy(dict(values or {}))
        merge(values, sections)
        config = parse_config(values, "keywords")
    if overrides:
        values = apply_flags(values or {}, overrides, Config().model_dump(mode="json"))
        config = parse_config(values, "command line")
    named = (values or {}).get("data") or {}
    missing = [part for part in needs if part not in named] if named else [needs[0] if needs else "train"]
    if missing and not isinstance(source, Config):
        what = f"data.{missing[0]}" if named else "data"
        raise ConfigError(f"{where}: names no {what}; e.g. {_EXAMPLES[missing[0]]} (docs/data.md has every format)")
    return config


_EXAMPLES = {
    "train": "data: {train: [{source: yolo, path: DIR, split: train}], evaluation: [{source: yolo, path: DIR, "
    "split: val}]}",
    "evaluation": "data: {evaluation: [{source: yolo, path: DIR, split: val}]}",
}
"""What a config that names no data lacks, by the part that is missed."""


def _values(source: Config | Mapping[str, Any] | Path | str) -> tuple[Any, str]:
    """What a config says, its paths completed, and what it is called in messages."""
    if isinstance(source, Config):
        return source.model_dump(mode="json", exclude_unset=True), "config"
    if isinstance(source, Mapping):
        return source, "config"
    path = Path(source)
    if not os.path.exists(path) and (composed := compose(str(path))) is not None:
        return composed.values, str(path)
    values = read_yaml(path, ConfigError)
    parse_config(values, str(path))
    return values if not values or is_kept_by_a_run(path) else completed(values, path.parent), str(path)


def dump_config(config: Config) -> str:
    """The config as YAML that :func:`load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def differences(before: Config, now: Config) -> Iterator[tuple[str, Any, Any]]:
    """Every field that differs, with its value before and now.

    >>> list(differences(Config(), parse_config({"run": {"steps": 3}}, "run.yaml")))
    [('run.steps', 200, 3)]
    """
    pairs: list[tuple[str, Any, Any]] = [("", before.model_dump(mode="json"), now.model_dump(mode="json"))]
    while pairs:
        name, was, given = pairs.pop(0)
        if isinstance(was, dict) and isinstance(given, dict):
            pairs += [
                (f"{name}.{key}".lstrip("."), was.get(key), given.get(key)) for key in dict.fromkeys([*was, *given])
            ]
        elif was != given:
            yield name, was, given
