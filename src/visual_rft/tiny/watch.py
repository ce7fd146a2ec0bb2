"""A curve of binding while it is learnt: which object the word for the place is about, on scenes never taught.

Decision: one forward pass, no generation, so that it costs two seconds. Only classes with one object, whose place no
other object shares, are asked for; so a word is right, or another object's, or nobody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.procedural.digits import Digits
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.tasks.truth import place_of
from visual_rft.tiny.bind import forward, make_batch
from visual_rft.tiny.questions import Question, Style
from visual_rft.tiny.scenes import to_patches
from visual_rft.tiny.tokens import Writer

SCENES = 100
"""Scenes of each source."""


class Watch:
    """Measures a model; called between steps."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._writer = model, Writer(tokenizer)
        self._held_out = {
            "shapes": _several(Shapes(10**4, seed=9003, max_objects=4, min_objects=2)),
            "digits": _several(Digits(10**4, "validation", seed=9004)),
        }

    def __call__(self) -> str:
        """The shares of right places and of other objects' places, in words."""
        return ", ".join(
            "{} right {:.2f} other {:.2f}".format(name, *self._shares(images))
            for name, images in self._held_out.items()
        )

    @torch.no_grad()
    def _shares(self, images: Sequence[AnnotatedImage]) -> tuple[float, float]:
        writer = self._writer
        places = torch.tensor(sorted(writer.places), device=self._model.device)
        right = other = count = 0
        for first in range(0, len(images), 50):
            chosen = images[first : first + 50]
            asked = [_distinct(image) for image in chosen]
            exchanges = [
                [writer.write(Question(image.ask(image.labels[i]), Style.THINK, (i,))).until_last_place(writer.places)
                 for i in row] for image, row in zip(chosen, asked, strict=True)]  # fmt: skip
            patches = [to_patches(np.asarray(image.image.load())) for image in chosen]
            batch = make_batch(chosen, patches, exchanges, writer, self._model)
            hidden, _, _ = forward(self._model, batch, helped=False)
            here = torch.isin(batch.packed.targets, places)
            logits = F.linear(hidden[here], self._model.model.language_model.embed_tokens.weight[places])
            said = [writer.text(int(token)) for token in places[logits.argmax(-1)]]
            for word, (image, i) in zip(
                said, ((image, i) for image, row in zip(chosen, asked, strict=True) for i in row), strict=True
            ):
                words = _places(image)
                right += word == words[i]
                other += word != words[i] and word in words
                count += 1
        return right / count, other / count


def _places(image: AnnotatedImage) -> list[str]:
    return [place_of(box, {"image_size": image.size}) for box in image.boxes]


def _distinct(image: AnnotatedImage) -> list[int]:
    """Objects that are alone in their class and in their place."""
    places = _places(image)
    return [i for i, label in enumerate(image.labels)
            if image.labels.count(label) == 1 and places.count(places[i]) == 1]  # fmt: skip


def _several(source: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
    """The first scenes with two classes at least and something to ask for."""
    found = []
    for image in source:
        if len(image.present) > 1 and _distinct(image):
            found.append(image)
        if len(found) == SCENES:
            break
    return found
