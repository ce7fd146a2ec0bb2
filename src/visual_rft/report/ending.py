"""What a run says when it is over: before and after, where everything is, and the next three commands.

Decision: the last screen of a training is where a person decides what to do next, so it holds commands that run as they
stand: their picture and question are taken from the run's own held-out examples. Everything is read from the summary
and the run folder; ``visual-rft train``, ``sft`` and ``demo`` end alike.

>>> base, after = {"AP": 0.25, "n_images": 8, "n_questions": 9}, {"AP": 0.5, "n_images": 8, "n_questions": 9}
>>> print("\\n".join(before_and_after(["AP"], base, after, "after RFT")))
held-out images                 base  after RFT   change
AP                             0.250      0.500   +0.250
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visual_rft.files import json_or_nothing
from visual_rft.report.series import label_of
from visual_rft.terminal.units import duration

WIDTH = 27
"""Characters of the first column: "answers in the right format" is the longest label of a headline."""
_ASKED = ("category", "subject", "expression")
"""Fields of a question that ``predict --ask`` takes the place of."""


def ending(summary: Mapping[str, Any], folder: Path, headline: Sequence[str], kind: str) -> str:
    """The last lines of a run.

    Args:
        summary: as ``summary.json``.
        folder: of the run.
        headline: the task's own numbers, the most important first.
        kind: ``RFT`` or ``SFT``.
    """
    base, after = summary.get("base") or {}, summary.get("evaluation") or {}
    names = [name for name in (*headline, "format_rate", "parse_rate") if name in after]
    lines = ["", *before_and_after(names, base, after, f"after {kind}"), ""]
    seconds = summary.get("seconds") or {}
    if "n_images" in after and "total" in seconds:
        lines.append(
            f"{after['n_images']} images, {after['n_questions']} questions; {duration(seconds['total'])} in all, "
            f"{duration(seconds.get('evaluation', 0.0))} of it evaluation"
        )
    lines += [f"ended {summary['ended']}"] if "ended" in summary else []
    if best := summary.get("best"):
        lines.append(f"best      {label_of(best['metric'])} {best['value']:.3f} after {best['step']} steps: "
                     f"{best['checkpoint']}   (--checkpoint best)")  # fmt: skip
    for what, place, note in (
        ("report", "report.html", "what was answered, with boxes; opens in a browser"),
        ("pictures", "plots/before_after.png", "green: truth, red: answer; base above, trained below"),
        ("curves", "plots/learning_curve.png", ""),
        ("rollouts", "rollouts", ""),
        ("metrics", "metrics.jsonl", ""),
    ):
        if (folder / place).exists():
            lines.append(f"{what:<9} {folder / place}" + (f"   ({note})" if note else ""))
    lines.append(f"model     {summary.get('checkpoint')}/model")
    model = (summary.get("model") or {}).get("path", "tiny")
    lines += ["", "next:", *(f"  {command}" for command in next_commands(folder, str(model), summary.get("steps")))]
    return "\n".join(lines)


def before_and_after(names: Sequence[str], base: Mapping[str, Any], after: Mapping[str, Any], title: str) -> list[str]:
    """A table of numbers, 0..1 or in the task's own units; without a base only of what there is."""
    width = max([WIDTH, *(len(label_of(name)) for name in names)])
    if not base:
        rows = [f"{label_of(name):<{width}}{_number(after[name]):>11}" for name in names]
        return [f"{'held-out images':<{width}}{title:>11}", *rows]
    lines = [f"{'held-out images':<{width}}{'base':>9}{title:>11}{'change':>9}"]
    for name in names:
        was, now = base.get(name), after[name]
        known = isinstance(was, (int, float)) and isinstance(now, (int, float))
        change = f"{now - was:+.3f}" if known else "-"
        lines.append(f"{label_of(name):<{width}}{_number(was):>9}{_number(now):>11}{change:>9}")
    return lines


def next_commands(folder: Path, base: str, steps: Any) -> list[str]:
    """Three commands to go on with: ask the model, compare it with its base on the same questions, share it."""
    run = shlex.quote(str(folder))
    examples = json_or_nothing(folder / "evaluation" / f"step-{steps or 0:06d}.json").get("examples") or [{}]
    question, images = examples[0].get("question") or {}, examples[0].get("images") or []
    asked = next((str(question[key]) for key in _ASKED if key in question), None)
    image = shlex.quote(str(folder / images[0])) if images else "IMAGE"
    return [
        f"visual-rft predict {image} --ask {shlex.quote(asked or 'TEXT')} --model {run}",
        f"visual-rft evaluate --model {shlex.quote(base)} --model {run}",
        f"visual-rft export {run}",
    ]


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "-"
