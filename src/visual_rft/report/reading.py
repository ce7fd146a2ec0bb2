"""A run folder as plain values: whatever is there, of runs that finished, go on, or crashed.

Decision: reading never needs the process that wrote. Everything but ``config.yaml`` may be missing; a last line that
was torn by a crash is left out and named in ``Run.problems``, as is any file that is not what it should be: the folder
may come from a stranger, so sizes and nesting are bounded, and what is kept has the shape that docs/run-folder.md says.
Rollouts are read step by step when asked for, because a long run has more of them than fit into memory.

    run = read_run(Path("runs/demo"))
    run.metrics[-1]["reward"], run.evaluations[-1]["AP"]
    run.rollouts(run.rollout_steps[0])[0]["completions"][0]["text"]
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visual_rft.config.yaml_text import read_yaml
from visual_rft.errors import RunFolderError
from visual_rft.files import parse_json
from visual_rft.report.shapes import is_completion, is_example, is_question, leakage_of, numbers_of, shaped

Row = Mapping[str, Any]
"""One JSON object."""
MAX_BYTES = 500_000_000
"""A file of rows or numbers that is larger is left out and named; a step of 512 completions has two million."""
SECTIONS = ("model", "task", "data", "rollout", "objective", "engine", "optimizer", "run")
"""Of a config, each a mapping."""


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        path: the folder.
        name: name of the run beside others.
        config: ``config.yaml`` as plain values.
        environment: ``environment.json``, {} if missing.
        metrics: the lines of ``metrics.jsonl``, oldest first.
        evaluations: the files of ``evaluation/``, oldest first, each with its ``step``.
        rollout_steps: the steps that ``rollouts/`` holds, ascending.
        summary: ``summary.json``, None if the run has not finished.
        leakage: sentences of ``data.json`` on held-out images that are trained on too.
        problems: one sentence for each thing that could not be read.
    """

    path: Path
    name: str
    config: Row
    environment: Row
    metrics: tuple[Row, ...]
    evaluations: tuple[Row, ...]
    rollout_steps: tuple[int, ...]
    summary: Row | None
    leakage: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)

    def rollout_file(self, step: int) -> Path:
        """Where the completions of ``step`` are."""
        return self.path / "rollouts" / f"step-{step:06d}.jsonl"

    def rollouts(self, step: int) -> list[Row]:
        """The groups of one step, in the order in which they were sampled; problems are added to ``problems``."""
        rows, problem = read_lines(self.rollout_file(step))
        self.remember(problem)
        answered = [row for row in rows if isinstance(row.get("completions"), list)]
        if len(answered) < len(rows):
            self.remember(f"{self.rollout_file(step)}: {len(rows) - len(answered)} rows have no completions; left out")
        whole = [row for row in answered if is_question(row) and all(map(is_completion, row["completions"]))]
        if len(whole) < len(answered):
            self.remember(f"{self.rollout_file(step)}: {len(answered) - len(whole)} rows are no rollouts; left out")
        return whole

    def answers(self, step: int) -> list[Row]:
        """The answers that the evaluation after ``step`` steps kept, one line per held-out question; [] without any."""
        file = self.path / "evaluation" / f"step-{step:06d}.answers.jsonl"
        rows, problem = read_lines(file)
        self.remember(problem)
        whole = [row for row in rows if isinstance(row.get("completion"), dict) and is_example(row)]
        if len(whole) < len(rows):
            self.remember(f"{file}: {len(rows) - len(whole)} rows are no answers; left out")
        return whole

    def image(self, name: str) -> Path | None:
        """The file of a stored image by the name that rows give it; None if it is missing or outside the folder."""
        for base in (self.path, self.path / "rollouts"):
            file = base / name
            with suppress(OSError, ValueError):  # a name that no file can have
                if file.is_file() and file.resolve().is_relative_to(self.path.resolve()):
                    return file
        return None

    @property
    def kind(self) -> str:
        """``rft`` or ``sft``, from what its steps are measured by."""
        return "rft" if self.rollout_steps or any("reward" in row for row in self.metrics) else "sft"

    @property
    def steps(self) -> int:
        """Steps that were planned; 0 if the config does not say."""
        planned = (self.config.get("run") or {}).get("steps", 0)
        return planned if isinstance(planned, int) else 0

    def remember(self, problem: str | None) -> None:
        """Add what could not be read to ``problems``, once."""
        if problem and problem not in self.problems:
            self.problems.append(problem)


def step_number(row: Row) -> int:
    """The number of a step for people: the first is 1, and after step N, N steps are done.

    Files hold the steps that were done before it, so that what was sampled and what was evaluated with the same weights
    bear the same number; the console, the report, plots and trackers say this one.

    >>> step_number({"step": 0, "reward": 0.5})
    1
    """
    return int(row["step"]) + 1


def read_run(path: Path, name: str | None = None) -> Run:
    """Read a run folder.

    Args:
        path: the folder.
        name: name of the run beside others; default the folder's name.

    Raises:
        RunFolderError: if it is not a run folder (no readable ``config.yaml``).
    """
    problems: list[str] = []
    file = path / "config.yaml"
    if not file.is_file():
        raise RunFolderError(f"{path}: no run here (no config.yaml); name the folder that run.folder named")
    config = read_yaml(file, RunFolderError)
    if not isinstance(config, dict):
        raise RunFolderError(f"{file}: is not a mapping of sections, as a config is")
    config = shaped(config, file, problems, **dict.fromkeys(SECTIONS, dict))
    metrics, problem = read_lines(path / "metrics.jsonl")
    evaluations = []
    for place in sorted((path / "evaluation").glob("step-*.json")):
        content = _read_json(place, problems)
        step = _step_of(place)
        if content is not None and step is not None:
            content = shaped(content, place, problems, examples=list)
            examples = [row for row in content.get("examples", []) if is_example(row)]
            if len(examples) < len(content.get("examples", [])):
                problems.append(f"{place}: {len(content['examples']) - len(examples)} examples are none; left out")
            evaluations.append({**content, **({"examples": examples} if "examples" in content else {}), "step": step})
    steps = (_step_of(place) for place in (path / "rollouts").glob("step-*.jsonl"))
    environment = _read_json(path / "environment.json", problems) or {}
    environment = shaped(environment, path / "environment.json", problems, git=dict, packages=dict, command=list)
    if not isinstance(environment.get("git", {}).get("commit"), str):
        environment.pop("git", None)
    summary = _read_json(path / "summary.json", problems)
    if summary is not None:
        summary = shaped(summary, path / "summary.json", problems, seconds=dict, best=dict)
    return Run(
        path, name or path.resolve().name, config, environment,
        tuple(numbers_of(row) for row in metrics if type(row.get("step")) is int), tuple(evaluations),
        tuple(sorted(step for step in steps if step is not None)), summary,
        leakage_of(_read_json(path / "data.json", problems)), [*problems, *([problem] if problem else [])],
    )  # fmt: skip


def read_lines(file: Path) -> tuple[list[Row], str | None]:
    """The objects of a JSON Lines file, and what was wrong with it.

    A last line without its line break was torn by a crash while it was written: it is left out and named. So is any
    other line that is not a JSON object.

    Returns:
        The rows (none if the file is missing), and a sentence or None.
    """
    try:
        lines = _content(file).split(b"\n")
    except FileNotFoundError:
        return [], None
    except OSError as error:
        return [], f"{file}: cannot be read ({error.strerror})"
    except ValueError as error:
        return [], f"{file}: {error}; left out"
    rows: list[Row] = []
    broken = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken.append(number)
    problems = []
    if broken:
        problems.append(f"{'line' if len(broken) == 1 else 'lines'} {', '.join(map(str, broken[:5]))} not readable")
    if lines[-1]:
        problems.append(f"line {len(lines)}, the last, is cut off")
    return rows, f"{file}: {' and '.join(problems)}; left out" if problems else None


def finite(value: Any, name: str = "") -> tuple[Any, list[str]]:
    """``value`` with None for every number that is not finite, and the names of those.

    >>> finite({"kl": float("nan"), "length": [3.0, float("inf")]})
    ({'kl': None, 'length': [3.0, None]}, ['kl', 'length.1'])
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None, [name]
    if isinstance(value, (str, int, float)) or value is None:
        return value, []
    if isinstance(value, Mapping):
        pairs = {key: finite(inner, f"{name}.{key}" if name else str(key)) for key, inner in value.items()}
        return {key: clean for key, (clean, _) in pairs.items()}, [n for _, names in pairs.values() for n in names]
    if isinstance(value, (list, tuple)):
        items = [finite(inner, f"{name}.{i}" if name else str(i)) for i, inner in enumerate(value)]
        return [clean for clean, _ in items], [n for _, names in items for n in names]
    return value, []


def differences(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The config fields in which several runs differ: ``field`` and the ``values`` of each run."""
    flats = [_flat(run.config) for run in runs]
    names = {name: None for flat in flats for name in flat}
    return [
        {"field": name, "values": [flat.get(name, "") for flat in flats]}
        for name in names
        if len(runs) > 1 and name != "run.folder" and len({flat.get(name, "") for flat in flats}) > 1
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        inner = (_flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items())
    elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        inner = (_flat(v, f"{prefix}.{i}") for i, v in enumerate(value))
    else:
        return {prefix: str(value)}
    return {name: text for part in inner for name, text in part.items()}


def _read_json(file: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        content = parse_json(_content(file))
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror})")
        return None
    except json.JSONDecodeError:
        problems.append(f"{file}: not valid JSON; left out")
        return None
    except ValueError as error:
        problems.append(f"{file}: {error}; left out")
        return None
    if not isinstance(content, dict):
        problems.append(f"{file}: not a JSON object; left out")
        return None
    return content


def _step_of(file: Path) -> int | None:
    digits = file.stem.removeprefix("step-")
    return int(digits) if digits.isdigit() else None


def _content(file: Path) -> bytes:
    """The bytes of an ordinary file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is a pipe or device, or too large.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not an ordinary file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"has {status.st_size:,} bytes, more than {MAX_BYTES:,}")
    return file.read_bytes()
