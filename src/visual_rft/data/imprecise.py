"""Samples with deliberately imprecise labels: how the embedded base stays a *base*.

Decision: imprecision is systematic, as it is with annotators who draw boxes too large and take one species for
another. Noise that averages out would be unlearned by the greedy answer at once.

* Boxes grow about their centre by a random factor between 1 and ``1 + enlarged`` per axis, cut at the image edge, and
  detection's confidence is drawn between 0.05 and 0.95.
* A label that has a look-alike is replaced by it with probability ``mistaken``; the thought still says what is seen.

Never used for reinforcement or evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from visual_rft.data.lazy import LazySequence
from visual_rft.tasks.samples import Sample


class Imprecise(LazySequence[Sample]):
    """The same samples, imprecise.

    Args:
        samples: exact samples; ``truth["look_alike"]``, if there is one, is the label it is mistaken for.
        enlarged: largest enlargement of a box (0.45 is up to 45 %).
        mistaken: probability of a mistaken label.
        seed: of the noise.
    """

    def __init__(self, samples: Sequence[Sample], enlarged: float, mistaken: float, seed: int = 0) -> None:
        super().__init__(len(samples))
        self.samples, self.enlarged, self.mistaken, self.seed = samples, enlarged, mistaken, seed

    def item(self, index: int) -> Sample:
        sample = self.samples[index]
        rng = np.random.default_rng((self.seed, index, 1))
        truth = dict(sample.truth)
        if "boxes" in truth:
            truth["boxes"] = self._grown(truth["boxes"], truth["image_size"], rng)
            truth["confidence"] = rng.uniform(0.05, 0.95, len(truth["boxes"])).tolist()
        if "box" in truth:
            (truth["box"],) = self._grown([truth["box"]], truth["image_size"], rng)
        if truth.get("look_alike") and rng.random() < self.mistaken:
            truth["label"] = truth["look_alike"]
        return replace(sample, truth=truth)

    def _grown(self, values: Any, image_size: Sequence[float], rng: np.random.Generator) -> list[list[float]]:
        boxes = np.asarray(values, dtype=np.float64).reshape(-1, 4)
        width, height = image_size
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        half = (boxes[:, 2:] - boxes[:, :2]) / 2 * rng.uniform(1, 1 + self.enlarged, (len(boxes), 2))
        grown = np.concatenate([centre - half, centre + half], axis=1)
        result: list[list[float]] = np.clip(grown, 0, [width, height, width, height]).tolist()
        return result
