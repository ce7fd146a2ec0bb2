"""Which model fits on which card: the table of docs/models.md, from the code behind ``--dry-run``.

With VISUAL_RFT_WRITE_MODELS set (``make models``) the table is written, without it compared.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from support.published import SHAPES, save_shape

from visual_rft.config.config import load_config
from visual_rft.inspection.fitting import least_footprint
from visual_rft.policy.loading import load_policy
from visual_rft.policy.memory.budget import card_bytes
from visual_rft.policy.memory.footprint import count_parameters
from visual_rft.policy.prompt import Prompt
from visual_rft.vision.images import RenderedImage

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- cards: written by tests/inspection/test_models_that_fit.py -->", "<!-- end of cards -->"
CARDS_GIB = (24, 48, 80)
TUNINGS = {
    "full": ["--model.dtype", "bfloat16", "--model.autocast", "no", "--model.lora", "null"],
    "LoRA": ["--model.dtype", "bfloat16", "--model.autocast", "bfloat16", "--model.lora", "{rank: 64}"],
}
PARAMETERS = {  # billions, as the checkpoints' own pages say, but for an adapter
    "qwen2-vl-2b": 2.21, "qwen2-vl-7b": 8.29, "qwen2.5-vl-3b": 3.75, "qwen2.5-vl-7b": 8.29, "qwen3-vl-2b": 2.13,
    "qwen3-vl-4b": 4.44, "qwen3-vl-8b": 8.77,
}  # fmt: skip
PICTURE = RenderedImage("large", lambda: Image.new("RGB", (1000, 1000)))


def measured(name: str, tuning: str) -> str:
    """What ``make gpu`` found, if it was run with this model."""
    for file in sorted((ROOT / "benchmarks" / "results" / "gpu").glob("*.json")):
        result = json.loads(file.read_text())
        for part in result["parts"]:
            found = part.get("result", {})
            if (found.get("shape"), found.get("tuning"), "peak_gib" in found) == (name, tuning, True):
                ratio = found["peak_gib"] / found["estimated_gib"]
                return f"measured {ratio:.2f} of it on {result['machine']}"
    return "estimated"


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> dict[tuple[str, str], tuple[float, dict[int, bool], float]]:
    """Bytes that a run takes at least, the cards it fits on, and the parameters of the model."""
    rows = {}
    for name in SHAPES:
        folder = tmp_path_factory.mktemp(name)
        save_shape(name, folder)
        for tuning, flags in TUNINGS.items():
            config = load_config(f"{name}/few-shot-coco", ["--model.path", str(folder), *flags])
            policy = load_policy(config.model, config.rollout, engine=config.engine, empty=True)
            inputs = policy.prepare([Prompt("a", "Find every bus, and answer with a list of boxes. " * 4, (PICTURE,))])
            needed = least_footprint(config, policy, inputs).total
            cards = {}
            for gib in CARDS_GIB:
                engine = config.engine.model_copy(update={"card_gib": float(gib)})
                limit = card_bytes(config.model_copy(update={"engine": engine}))
                cards[gib] = limit is not None and needed <= limit
            rows[name, tuning] = (needed, cards, count_parameters(policy)["model"].total)
    return rows


def test_the_shapes_are_the_published_ones(table):
    for name, billions in PARAMETERS.items():
        assert table[name, "full"][2] / 1e9 == pytest.approx(billions, abs=0.01), name


def test_the_page_says_which_model_fits_on_which_card(table):
    lines = [
        "| model | trained | memory, at least | 24 GB | 48 GB | 80 GB | how that is known |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, tuning), (needed, cards, _) in table.items():
        cells = " | ".join("✓" if fits else "-" for fits in cards.values())
        lines.append(f"| `{name}` | {tuning} | {needed / 1e9:.0f} GB | {cells} | {measured(name, tuning)} |")
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    stands, after = rest.split(END)
    wanted = "\n\n" + "\n".join(lines) + "\n\n"
    if os.environ.get("VISUAL_RFT_WRITE_MODELS"):
        PAGE.write_text(before + BEGIN + wanted + END + after)
    else:
        assert stands == wanted, "make models writes the table anew"


def test_a_3b_trains_fully_on_80_gb(table):
    assert table["qwen2.5-vl-3b", "full"][1] == {24: False, 48: False, 80: True}
