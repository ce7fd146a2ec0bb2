"""Make the embedded base from nothing: ``python -m visual_rft.tiny.train FOLDER``.

Decision: one command, six stages, each of which starts from what the one before left in FOLDER. A stage that is done is
not done again, and one that was interrupted goes on from its last checkpoint, so after any break the same command is
typed again. What each stage took is in ``FOLDER/record.json``. It runs on one processor core, or on the GPU if there is
one.

* ``build``: architecture, tokenizer, random weights (:mod:`visual_rft.tiny.build`)
* ``draw``: the scenes (:mod:`visual_rft.tiny.scenes`)
* ``see``: the vision tower alone (:mod:`visual_rft.tiny.see`)
* ``bind``: everything, exact answers (:mod:`visual_rft.tiny.bind`): the exact ancestor
* ``blur``: imprecise answers, so that reinforcement has something to sharpen (docs/tiny.md)
* ``export``: ``FOLDER/base`` in float16; with ``--ship`` also the package's own

``python -m visual_rft.tiny.measure FOLDER`` then tells what it has learnt.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from visual_rft.policy.stored.places import EMBEDDED
from visual_rft.tiny import build
from visual_rft.tiny.bind import Plan, bind
from visual_rft.tiny.export import export
from visual_rft.tiny.loop import device
from visual_rft.tiny.scenes import Scenes, draw
from visual_rft.tiny.see import Heads, see
from visual_rft.tiny.watch import Watch

SEED = 0
BIND = Plan("bind", steps=9000, rate=1.5e-3, flat=0.5, whole=(0.3, 0.75))
BLUR = Plan(
    "blur", steps=400, rate=5e-4, flat=0.0, whole=(1, 1), helped=False, imprecision=(1.0, 0.6), first_scene=500_000,
    least_weight=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How long the stages are.

    Attributes:
        scenes: of each source; None for those of :data:`visual_rft.tiny.scenes.SOURCES`.
        see: steps of 24 scenes.
        bind: steps of 16 scenes.
        blur: steps of 16 scenes.
    """

    scenes: Mapping[str, int] | None = None
    see: int = 8000
    bind: int = BIND.steps
    blur: int = BLUR.steps


class Chain:
    """The stages in a folder."""

    def __init__(self, folder: Path, sizes: Sizes | None = None, say: Callable[[str], None] | None = None) -> None:
        self.folder, self.sizes = folder, sizes or Sizes()
        self.say = say or partial(print, flush=True)

    def run(self, ship: bool = False) -> None:
        """Every stage that is not done; ``ship`` replaces the package's base by the result."""
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(1)  # on tensors this small a second thread costs more than it gives
        torch.set_flush_denormal(True)
        self._stage("build", self._build)
        self._stage("draw", self._draw)
        self._stage("see", self._see)
        self._stage("bind", partial(self._answer, replace(BIND, steps=self.sizes.bind), "see"))
        self._stage("blur", partial(self._answer, replace(BLUR, steps=self.sizes.blur), "bind"))
        for target in (self.folder / "base", *([EMBEDDED] if ship else [])):
            export(self.folder / "blur", target)
            self.say(f"export | {target}")

    def _stage(self, name: str, work: Callable[[], dict[str, float]]) -> None:
        file = self.folder / "record.json"
        record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if name in record:
            self.say(f"{name} | done before: {record[name]}")
            return
        torch.manual_seed(SEED)
        started, busy = time.monotonic(), time.process_time()
        took = work()
        spent = {"wall_seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - busy}
        record[name] = {key: round(value, 1) for key, value in {**spent, **took}.items()}
        file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        self.say(f"{name} | done: {record[name]}")

    def _build(self) -> dict[str, float]:
        build.build(self.folder / "build", SEED)
        return {}

    def _draw(self) -> dict[str, float]:
        return {"scenes": draw(self.folder / "scenes", self.sizes.scenes, say=self.say)}

    def _see(self) -> dict[str, float]:
        model, heads, _ = self._load("build")
        took = see(self.folder, model, heads, Scenes(self.folder / "scenes"), self.sizes.see, self.say)
        self._save("see", model, heads)
        return took

    def _answer(self, plan: Plan, source: str) -> dict[str, float]:
        model, heads, tokenizer = self._load(source)
        scenes, watch = Scenes(self.folder / "scenes"), Watch(model, tokenizer)
        took = bind(self.folder, model, heads, tokenizer, scenes, plan, self.say, watch)
        self._save(plan.name, model, heads)
        return took

    def _load(self, stage: str) -> tuple[Any, Heads, Any]:
        """The model that a stage left, the heads beside it (fresh ones after ``build``), and the tokenizer."""
        model: Any = AutoModelForImageTextToText.from_pretrained(self.folder / stage)
        heads = Heads(model.config.text_config.hidden_size)
        file = self.folder / stage / "heads.safetensors"
        if file.exists():
            heads.load_state_dict(load_file(file))
        processor: Any = AutoProcessor.from_pretrained(self.folder / "build")
        return model.to(device()), heads.to(device()), processor.tokenizer

    def _save(self, stage: str, model: Any, heads: Heads) -> None:
        """Write model, processor and heads whole or not at all; the stage's checkpoint is then of no more use."""
        unfinished, folder = self.folder / f"{stage}.writing", self.folder / stage
        model.save_pretrained(unfinished)
        AutoProcessor.from_pretrained(self.folder / "build").save_pretrained(unfinished)
        save_file(heads.state_dict(), unfinished / "heads.safetensors")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        (self.folder / f"{stage}.unfinished.safetensors").unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m visual_rft.tiny.train")
    parser.add_argument("folder", type=Path, help="where the stages leave their results; needs 5 GB")
    parser.add_argument("--ship", action="store_true", help="replace the package's own base by the result")
    asked = parser.parse_args()
    Chain(asked.folder).run(asked.ship)
