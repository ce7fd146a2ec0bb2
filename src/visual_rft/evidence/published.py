"""What a real run of each experiment is compared with: configs by name, and the numbers of arXiv 2503.01785.

Decision: the numbers stand in the package's configs, with the model and data they are of, and never beside numbers of
the embedded model in one table: only the same model on the same data can be compared.

>>> print(published("reasoning-grounding").splitlines()[0])
reasoning-grounding with a real model
"""

from __future__ import annotations

from visual_rft.config.compose import Published, compose

CONFIGS: dict[str, tuple[str, ...]] = {
    "few-shot-detection": ("few-shot-coco", "few-shot-lvis", "few-shot-mg"),
    "few-shot-classification": ("flowers102", "pets37", "fgvc-aircraft", "cars196"),
    "open-vocabulary": ("open-coco", "open-lvis"),
    "reasoning-grounding": ("lisa",),
    "ablations": (),
    "objectives-detection": (),
    "objectives-grounding": (),
    "objectives-classification": (),
}
"""The experiments of the configs behind each miniature; nothing is published of the others."""
MODELS = ("qwen2-vl-2b", "qwen2-vl-7b")
"""The models that the paper has numbers of."""


def published(name: str) -> str:
    """Commands and published numbers of one experiment, as text."""
    lines = [f"{name} with a real model"]
    for experiment in CONFIGS[name]:
        for model in MODELS:
            composed = compose(f"{model}/{experiment}")
            assert composed is not None
            if composed.published:
                lines += ["", f"  {composed.command()}", f"  needs {composed.needs}"]
                lines += [f"  published: {_row(row)}" for row in composed.published]
    if not CONFIGS[name]:
        lines.append("  nothing is published under this name")
    return "\n".join(lines)


def _row(row: Published) -> str:
    numbers = {"base": row.base, "SFT": row.sft, "RFT": row.rft}
    values = "  ".join(f"{name} {value:.1f}" for name, value in numbers.items() if value is not None)
    return f"{row.measure}{f', {row.setting}' if row.setting else ''}: {values}"
