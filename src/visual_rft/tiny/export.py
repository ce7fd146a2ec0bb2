"""Ship a taught model: ``python -m visual_rft.tiny.export CHECKPOINT_MODEL`` writes the package's ``tiny/base``.

Decision: weights are stored in float16 (half the size in a history that keeps every copy), while the config says
float32, so that plain ``from_pretrained`` computes in float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transformers import AutoModelForImageTextToText, AutoProcessor

from visual_rft.policy.loading import EMBEDDED


def export(source: Path, target: Path = EMBEDDED) -> None:
    """Write the model of ``source`` to ``target``."""
    AutoModelForImageTextToText.from_pretrained(source).half().save_pretrained(target)
    AutoProcessor.from_pretrained(source).save_pretrained(target)
    file = target / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = "float32"
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    export(Path(sys.argv[1]))
