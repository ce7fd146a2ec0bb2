"""What the page knows: runs as plain values, small enough for a file.

Decision: whole steps are shown or left out, chosen by halving (first, last, middle, quarters, ...) until the budget for
text or pictures is used up, so that a run of any length stays a page that opens at once; what was left out is said on
the page. Boxes stay in pixels of the original image; the page scales them.

>>> by_halving(5)
[0, 4, 2, 1, 3]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from visual_rft.config.config import parse_config
from visual_rft.errors import ConfigError
from visual_rft.report.health import HealthWatch
from visual_rft.report.held_out.gallery import galleries_of
from visual_rft.report.history import history_of
from visual_rft.report.pictures import data_uri
from visual_rft.report.questions import Pictures, answer_of, example_of, question_of, short
from visual_rft.report.reading import Row, Run, differences, step_number
from visual_rft.report.series import Curve, curves_of
from visual_rft.terminal.units import duration

TEXT_BUDGET = 12_000_000
"""Characters of rollouts in a page, all runs together."""
PICTURE_BUDGET = 14_000_000
"""Characters of pictures in a page."""
MIN_STEPS = 8
"""So many steps always fit: of a step that is larger than its share the first questions are shown."""
MAX_EVALUATIONS = 40
"""Evaluations of a run that are shown with their examples."""
MAX_WARNINGS = 8
"""Warnings of a run that are shown, the newest."""
MAX_SIDE_PIXELS = ((100, 768), (400, 512), (1_600, 320))
"""Pictures of a page, at most, and the longer side in pixels at which they are then embedded; more are 224."""


def embedded(runs: Sequence[Run]) -> Pictures:
    """Pictures as data URIs, the smaller the more there are."""
    count = sum(1 for run in runs for base in ("images", "rollouts/images") for _ in (run.path / base).glob("*.*"))
    side = next((side for most, side in MAX_SIDE_PIXELS if count <= most), 224)
    return Pictures(lambda file: data_uri(file, side))


def payload(
    runs: Sequence[Run],
    pictures: Pictures,
    groups_of: Callable[[Run, int], list[Row]] | None = None,
    text_budget: int = TEXT_BUDGET,
) -> dict[str, Any]:
    """Everything the page shows, JSON-able.

    Args:
        runs: the runs in the order of their colours.
        pictures: collection of the page's pictures, embedded or served; filled on the way.
        groups_of: function that reads the rollouts of one step; default from the folder.
        text_budget: greatest number of characters of rollouts, all runs together.
    """
    groups_of = groups_of or Run.rollouts
    parts = [_RunPart(run, number, pictures) for number, run in enumerate(runs)]
    shown = [part.overview() for part in parts]
    waiting = sum(bool(run.rollout_steps) for run in runs)
    for run, part, one in zip(runs, parts, shown, strict=True):
        # What is left is shared by the runs that have rollouts and are still to come.
        share = max(1, waiting)
        budget = _Budget(text_budget // share, max(0, PICTURE_BUDGET - pictures.used) // share)
        chosen, cut = part.fitting_steps(groups_of, budget)
        text_budget -= sum(_size(group) for groups in chosen.values() for group in groups)
        waiting -= bool(run.rollout_steps)
        one["rollouts"] = {str(step_number({"step": step})): chosen[step] for step in sorted(chosen)}
        one["left_out"] = _left_out(run, len(chosen), cut)
        one["galleries"] = galleries_of(run, part.number, pictures, one["tasks"])
        one["problems"] = list(run.problems)
    return {"runs": shown, "images": pictures.images, "differences": differences(runs)}


class _Budget(NamedTuple):
    """What may be added to the page: characters of rollouts, and of pictures."""

    text: int
    pictures: int

    def share(self, parts: int) -> _Budget:
        return _Budget(self.text // parts, self.pictures // parts)


@dataclass(frozen=True)
class _RunPart:
    """The part of the page that shows one run, with the number by which its pictures are told from other runs'."""

    run: Run
    number: int
    pictures: Pictures

    def overview(self) -> dict[str, Any]:
        """Everything but the rollouts."""
        run = self.run
        section, tasks = run.config.get("task"), tasks_of(run)
        last = max(map(step_number, run.metrics), default=0)
        evaluations = [run.evaluations[i] for i in sorted(by_halving(len(run.evaluations))[:MAX_EVALUATIONS])]
        return {
            "name": run.name,
            "folder": str(run.path),
            "kind": run.kind,
            "task": " + ".join(tasks),
            "tasks": tasks,
            "weights": (section if isinstance(section, Mapping) else {}).get("weights"),
            "steps": run.steps,
            "done": last,
            "finished": run.summary is not None,
            "facts": _facts(run),
            "config": yaml.safe_dump(dict(run.config), sort_keys=False),
            "curves": [_curve(curve) for curve in curves_of(run)],
            "evaluations": [
                {
                    "step": row["step"],
                    "examples": [example_of(run, self.number, self.pictures, e) for e in row.get("examples", [])],
                }
                for row in evaluations
            ],
            "warnings": _warnings(run),
            "history": history_of(run),
            "leakage": list(run.leakage),
        }

    def fitting_steps(
        self, groups_of: Callable[[Run, int], list[Row]], budget: _Budget
    ) -> tuple[dict[int, list[dict[str, Any]]], int]:
        """The steps that fit, by halving, and how many questions of theirs did not; one step always fits."""
        chosen: dict[int, list[dict[str, Any]]] = {}
        text = cut = 0
        before = self.pictures.used
        steps = self.run.rollout_steps
        per_step = budget.share(min(MIN_STEPS, max(1, len(steps))))
        for place in by_halving(len(steps)):
            rows = groups_of(self.run, steps[place])
            groups = self._fitting_groups(rows, per_step)
            size = sum(map(_size, groups))
            if chosen and (text + size > budget.text or self.pictures.used - before > budget.pictures):
                break
            if groups:
                chosen[steps[place]] = groups
                text += size
                cut += len(rows) - len(groups)
        return chosen, cut

    def _fitting_groups(self, rows: Sequence[Row], budget: _Budget) -> list[dict[str, Any]]:
        """The first questions of a step that fit, at least one."""
        groups: list[dict[str, Any]] = []
        text, before = 0, self.pictures.used
        for row in rows:
            group = {
                **question_of(self.run, self.number, self.pictures, row),
                "answers": [answer_of(completion) for completion in row["completions"] if isinstance(completion, dict)],
            }
            text += _size(group)
            if groups and (text > budget.text or self.pictures.used - before > budget.pictures):
                break
            groups.append(group)
        return groups


def tasks_of(run: Run) -> list[str]:
    """What the tasks of a run are called, those of training first."""
    data = run.config.get("data") or {}
    sources = [source for part in ("train", "evaluation") for source in data.get(part) or ()]
    own = [source.get("task") if isinstance(source, Mapping) else None for source in sources]
    sections = [task or run.config.get("task") for task in own] or [run.config.get("task")]
    found = [section if isinstance(section, Mapping) else {} for section in sections]
    called = (one.get("label") or str(one.get("name", "detection")).rpartition(":")[2] for one in found)
    return list(dict.fromkeys(map(str, called)))


def _curve(curve: Curve) -> dict[str, Any]:
    values = [short(value) for value in curve.values]
    return {"name": curve.name, "label": curve.label, "of": curve.of, "steps": curve.steps, "values": values}


def _warnings(run: Run) -> list[str]:
    """What looked wrong on the way, the newest last."""
    try:
        config = parse_config(dict(run.config), str(run.path))
    except ConfigError:  # of another version of this package; the advice then names its defaults
        config = None
    watch = HealthWatch(config)
    told = [f"{run.name}, step {step_number(row)}: {text}" for row in run.metrics for text in watch.new(row)]
    return told[-MAX_WARNINGS:]


def _facts(run: Run) -> list[list[str]]:
    """What a run was made with, as pairs of name and value."""
    environment, config = run.environment, run.config
    git = environment.get("git")
    packages = environment.get("packages")
    command = environment.get("command")
    summary = run.summary or {}
    seconds = (summary.get("seconds") or {}).get("total")
    best = summary.get("best")
    facts = {
        "model": (config.get("model") or {}).get("path"),
        "seed": (config.get("run") or {}).get("seed"),
        "device": environment.get("device"),
        "started": environment.get("started"),
        "commit": git["commit"][:12] + (" and changes" if git.get("changed") else "") if git else None,
        "versions": ", ".join(f"{k} {v}" for k, v in packages.items()) if packages else None,
        "command": " ".join(map(str, command)) if command else None,
        "time": duration(seconds) if isinstance(seconds, (int, float)) else None,
        "best": f"{best.get('metric')} {best.get('value')} after {best.get('step')} steps" if best else None,
        "ended": summary.get("ended"),
    }
    return [[name, str(value)] for name, value in facts.items() if value is not None]


def by_halving(size: int) -> list[int]:
    """All places, so that any beginning of the list is spread over the whole."""
    if size <= 2:
        return list(range(size))
    order, waiting = [0, size - 1], deque([(0, size - 1)])
    while waiting:
        low, high = waiting.popleft()
        middle = (low + high) // 2
        if low < middle < high:
            order.append(middle)
            waiting += [(low, middle), (middle, high)]
    return order


def _left_out(run: Run, steps: int, cut: int) -> str | None:
    """What the page does not show of a run."""
    said = []
    if steps < len(run.rollout_steps):
        said.append(f"{steps} of the {len(run.rollout_steps)} steps with rollouts are here, evenly spread")
    if cut:
        said.append(f"{cut} questions of these steps are left out")
    if len(run.evaluations) > MAX_EVALUATIONS:
        said.append(f"{MAX_EVALUATIONS} of the {len(run.evaluations)} evaluations show their examples")
    return f"{run.name}: {'; '.join(said)}. All of it is in {run.path}." if said else None


def _size(group: Mapping[str, Any]) -> int:
    """Characters of a group in the page, roughly: texts, and 300 for the numbers of an answer."""
    return len(group["prompt"]) + 300 + sum(len(answer["text"]) + 300 for answer in group["answers"])
