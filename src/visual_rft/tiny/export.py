"""Ship a taught model: the last stage of :mod:`visual_rft.tiny.train`.

Decision: weights are stored in float16 (half the size in a history that keeps every copy), while the config says
float32, so that plain ``from_pretrained`` computes in float32.
"""

from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoModelForImageTextToText, AutoProcessor


def export(source: Path, target: Path) -> None:
    """Write the model of ``source`` to ``target``."""
    AutoModelForImageTextToText.from_pretrained(source).half().save_pretrained(target)
    AutoProcessor.from_pretrained(source).save_pretrained(target)
    file = target / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = "float32"
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
