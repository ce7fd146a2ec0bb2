"""Markdown tables of a result file.

Decision: tables are made from the committed JSON and from nothing else; a page names the place of each by a pair of
comments, and a test holds that the page shows what the JSON says.

    <!-- evidence: few-shot-detection -->
    ... replaced ...
    <!-- /evidence -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from visual_rft.errors import ConfigError
from visual_rft.evidence.experiments.description import TUNING_SEED, WITH_RECIPES
from visual_rft.policy.stored.places import weights_fingerprint
from visual_rft.tasks import TASKS

NAMES = {
    "base": "base",
    "sft": "SFT, equal steps",
    "sft-time": "SFT, equal time",
    "sft-reasoning": "SFT, given reasoning",
    "sft-recipe": "SFT, best recipe",
    "rft": "RFT",
    "rft-recipe": "RFT, best recipe",
    "warm-rft": "SFT, then RFT",
}
"""How an arm is called, in the order of the columns."""
LABELS = {"top1_strict": "accuracy", "mean_iou": "mean IoU", "acc50": "Acc@0.5"}
"""How a metric is called in a table where its own name is not what the field calls it."""


def label(metric: str) -> str:
    """How a metric is called; that of one of several tasks with its name.

    >>> label("grounding/mean_iou"), label("AP")
    ('grounding: mean IoU', 'AP')
    """
    task, _, name = metric.rpartition("/")
    return f"{task}: {LABELS.get(name, name)}" if task else LABELS.get(name, name)


def markdown(result: Mapping[str, Any]) -> str:
    """All tables of a result."""
    mark = earlier_base(result)
    parts = [mark] if mark else []
    if len(TASKS.keys() & {metric.partition("/")[0] for metric in result["metrics"]}) > 1:
        return "\n\n".join([*parts, _several_tasks(result)])
    ablation = any(row["variant"] for row in result["means"])
    for domain in dict.fromkeys(row["domain"] for row in result["means"]):
        means = [row for row in result["means"] if row["domain"] == domain]
        differences = [row for row in result["differences"] if row["domain"] == domain]
        if "AP/written" in result["metrics"]:
            parts += [_ranks(domain, means), _budget(domain, means, result["metrics"][0])]
        elif ablation:
            parts += [_ablations(result, *panel) for panel in panels_of(domain, means, differences)]
            pooled = [row for row in result.get("over_shots", []) if row["domain"] == domain]
            parts += [_over_shots(domain, means[0]["variant"], pooled)] if pooled else []
        else:
            plain, recipes = _columns(means)
            parts += [_curve(domain, means, differences, metric, *plain) for metric in result["metrics"]]
            if recipes[0]:
                parts += [_curve(domain, means, differences, metric, *recipes) for metric in result["metrics"]]
            parts.append(_budget(domain, means, result["metrics"][0]))
    if result.get("curves"):
        parts.append(f"![What the training logs, over its steps](evidence/{result['experiment']}-curves.svg)")
    tuning = _tuning(result)
    return "\n\n".join([*parts, tuning] if tuning else parts)


def fill_page(page: str, tables: Mapping[str, str], where: str) -> str:
    """The page with the tables between its comments.

    Raises:
        ConfigError: if it has no place for a table.
    """
    for name, text in tables.items():
        place = re.compile(rf"(<!-- evidence: {re.escape(name)} -->\n).*?(<!-- /evidence -->)", re.DOTALL)
        if not place.search(page):
            raise ConfigError(f"{where}: has no '<!-- evidence: {name} -->' ... '<!-- /evidence -->' to fill")
        filled = f"\n{text}\n\n"
        page = place.sub(lambda found, filled=filled: found[1] + filled + found[2], page)  # type: ignore[misc]
    return page


def panels_of(domain: str, means: Sequence[Any], differences: Sequence[Any]) -> list[tuple[str, list[Any], list[Any]]]:
    """The variants of a domain by number of shots: a heading, and the means and differences under it."""
    shots = list(dict.fromkeys(row["shots"] for row in means if row["arm"] != "base"))
    return [
        (
            f"{domain}, {k}-shot" if len(shots) > 1 else domain,
            [row for row in means if row["shots"] == k or row["arm"] == "base"],
            [row for row in differences if row["shots"] == k],
        )
        for k in shots
    ]


def earlier_base(result: Mapping[str, Any]) -> str:
    """A line that says that a result is of other weights than today's embedded base; empty where it is of these."""
    base, today = result.get("base"), weights_fingerprint("tiny")
    if base == today:
        return ""
    return f"**Measured on an earlier base of the embedded model** (weights `{base}`; today's are `{today}`)."


Columns = tuple[list[str], list[tuple[str, str]]]
"""Arms, and the pairs of arms whose difference is shown."""


def _columns(means: Sequence[Any]) -> tuple[Columns, Columns]:
    """Those of the method's table, and those of the best recipes."""
    present = {row["arm"] for row in means}
    arms = [arm for arm in NAMES if arm in present]
    plain = [arm for arm in arms if arm not in WITH_RECIPES]
    recipes = [arm for arm in arms if arm in WITH_RECIPES]
    less = ["base", "sft-recipe", "sft-time", "sft"]
    return (
        (plain, [("rft", arm) for arm in plain if arm != "rft"]),
        (recipes, [(more, arm) for more in ("rft-recipe", "warm-rft") for arm in less if more in recipes]),
    )


def _curve(
    domain: str, means: Sequence[Any], differences: Sequence[Any], metric: str, arms: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> str:  # fmt: skip
    """One line per number of shots: the arms, and what one has more than another."""
    here = {(row["arm"], row["shots"]): row for row in means if row["metric"] == metric}
    shots = list(dict.fromkeys(k for arm, k in here if arm != "base")) or [None]
    more = {(row["arm"], row["minus"], row["shots"]): row for row in differences if row["metric"] == metric}
    pairs = [pair for pair in pairs if any(found[:2] == pair for found in more)]
    heading = [f"{label(metric)}, {domain}, {_seeds(list(here.values()))}"]
    heading += [NAMES[arm] for arm in arms] + [f"{NAMES[arm]} - {NAMES[minus]}" for arm, minus in pairs]
    lines = [_line(heading), "|---" * len(heading) + "|"]
    for k in shots:
        cells = ["all" if k is None else f"{k}-shot"]
        cells += [_value(here.get((arm, None if arm == "base" else k))) for arm in arms]
        cells += [_value(more.get((arm, minus, k)), signed=True) for arm, minus in pairs]
        lines.append(_line(cells))
    return "\n".join(lines)


def _ranks(domain: str, means: Sequence[Any]) -> str:
    """AP and calibration error of each arm, a column for each number that ranks the boxes."""
    kinds = list(dict.fromkeys(row["metric"].partition("/")[2] for row in means if row["metric"].startswith("AP/")))
    here = {(row["arm"], row["shots"], row["metric"]): row for row in means}
    heading = [f"{domain}, {_seeds(means)}", *kinds]
    lines = [_line(heading), "|---" * len(heading) + "|"]
    for number, said in (("AP", "AP"), ("ECE", "calibration error")):
        for arm, shots in dict.fromkeys((arm, shots) for arm, shots, _ in here):
            rows = [here.get((arm, shots, f"{number}/{kind}")) for kind in kinds]
            of = f", {shots}-shot" if shots else ""
            lines.append(
                _line(
                    [
                        f"{said}, {NAMES[arm]}{of}",
                        *(_value(r, signed="-" in k) for k, r in zip(kinds, rows, strict=True)),
                    ]
                )
            )
    return "\n".join(lines)


def _several_tasks(result: Mapping[str, Any]) -> str:
    """A line per run: what it was trained on, its number in each task, and the CPU time of its steps."""
    own = {(row["domain"], row["arm"], row["metric"]): row for row in result["means"]}
    heading = [f"trained on, {_seeds(result['means'])}", *map(label, result["metrics"]), "CPU s"]
    lines = [_line(heading), "|---" * len(heading) + "|"]
    first = result["means"][0]["domain"]
    for domain, arm in dict.fromkeys(key[:2] for key in own):
        if arm != "base" or domain == first:  # the base is one model, whatever the others are trained on
            rows = [own[domain, arm, metric] for metric in result["metrics"]]
            said = "nothing: base" if arm == "base" else f"{domain}, {NAMES[arm]}"
            lines.append(_line([said, *map(_value, rows), f"{rows[0]['cpu_seconds']:.0f}"]))
    return "\n".join(lines)


def _budget(domain: str, means: Sequence[Any], metric: str) -> str:
    """CPU seconds of the steps, mean over shots and seeds."""
    cost = {
        arm: [row["cpu_seconds"] for row in means if row["metric"] == metric and row["arm"] == arm] for arm in NAMES
    }
    said = [f"{NAMES[arm]} {sum(s) / len(s):.0f} s" for arm, s in cost.items() if s and arm != "base"]
    return f"CPU time of the steps of a run, {domain}, mean: {', '.join(said)}." if said else ""


def _ablations(result: Mapping[str, Any], domain: str, means: Sequence[Any], differences: Sequence[Any]) -> str:
    main = result["metrics"][0]
    first = means[0]["variant"]
    more = {row["variant"]: row for row in differences if row["metric"] == main and row["minus"] == "rft"}
    own = {(row["arm"], row["variant"], row["metric"]): row for row in means}
    heading = [f"{domain}, {means[0]['split']}, {_seeds(means)}", *map(label, result["metrics"])]
    heading += [f"change of {label(main)}", "CPU s"]
    lines = [_line(heading), "|---" * len(heading) + "|"]
    for arm, name in (("base", "base: "), ("rft", ""), ("sft", "SFT: ")):
        for variant in [v for a, v, metric in own if (a, metric) == (arm, main)]:
            said = f"**{variant}**" if variant == first else variant
            row = own[arm, variant, main]
            cells = [name + said, _value(row), *(f"{own[arm, variant, m]['value']:.3f}" for m in result["metrics"][1:])]
            change = more.get(variant) if arm == "rft" else None
            lines.append(_line([*cells, _value(change, signed=True), f"{row['cpu_seconds']:.0f}"]))
    return "\n".join(lines)


def _over_shots(domain: str, first: str, pooled: Sequence[Any]) -> str:
    """A line per change: what it has more over all numbers of shots."""
    metrics = list(dict.fromkeys(row["metric"] for row in pooled))
    here = {(row["variant"], row["metric"]): row for row in pooled}
    heading = [f"{domain}, all shots, {pooled[0]['runs']} runs each, beside {first}"]
    heading += [f"change of {label(metric)}" for metric in metrics]
    lines = [_line(heading), "|---" * len(heading) + "|"]
    for variant in dict.fromkeys(row["variant"] for row in pooled):
        lines.append(_line([variant, *(_value(here[variant, metric], signed=True) for metric in metrics)]))
    return "\n".join(lines)


def _tuning(result: Mapping[str, Any]) -> str:
    """Learning rates on validation, the best of each arm in bold."""
    main = result["metrics"][0]
    rows = [row for row in result["rows"] if row["seed"] == TUNING_SEED and row["metric"] == main]
    if not rows:
        return ""
    tries: dict[tuple[str, str, str], list[Any]] = {}
    for row in rows:
        what = row["variant"] or row.get("recipe", "")
        tries.setdefault((row["domain"], row["arm"], what), []).append(row)
    best_of = {
        (domain, arm): [row for (d, a, _), some in tries.items() if (d, a) == (domain, arm) for row in some]
        for domain, arm, _ in tries
    }
    most = max(map(len, tries.values()))
    lines = [_line([f"learning rates on validation, {label(main)}", *[""] * most]), "|---" * (most + 1) + "|"]
    for (domain, arm, variant), own in sorted(tries.items(), key=lambda item: _order(item[0], list(tries))):
        best = max(row["value"] for row in (best_of[domain, arm] if arm in WITH_RECIPES else own))
        said = [f"{row['learning_rate']:.2g}: {row['value']:.3f}" for row in own]
        said = [f"**{text}**" if row["value"] == best else text for row, text in zip(own, said, strict=True)]
        name = f"{domain}, {NAMES[arm]}{f', {variant}' if variant else ''}"
        lines.append(_line([name, *said, *[""] * (most - len(said))]))
    return "\n".join(lines)


def _order(key: tuple[str, str, str], keys: Sequence[tuple[str, str, str]]) -> tuple[int, int, int]:
    """Domains as they came, in each the arms as in :data:`NAMES`, of each the variants as they came."""
    domains = list(dict.fromkeys(domain for domain, _, _ in keys))
    return domains.index(key[0]), list(NAMES).index(key[1]), list(keys).index(key)


def _seeds(means: Sequence[Any]) -> str:
    """Of the runs: the base is looked at once."""
    seeds = max(row["seeds"] for row in means)
    return f"{seeds} {'seed' if seeds == 1 else 'seeds'}"


def _value(row: Mapping[str, Any] | None, signed: bool = False) -> str:
    if row is None:
        return ""
    form = "+.3f" if signed else ".3f"
    ends = "" if row["low"] is None else f" [{row['low']:{form}}, {row['high']:{form}}]"
    return f"{row['value']:{form}}{ends}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
