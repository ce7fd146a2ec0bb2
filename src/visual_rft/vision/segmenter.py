"""Masks from boxes and points by a promptable segmenter (the SAM family).

Decision: a stock transformers model that the user names makes the one mask it gives for a prompt; nothing is chosen or
repaired. What its vision tower says about a picture is kept, because a group of answers asks about the same one.
Torch is imported when a segmenter is loaded, so that tasks which may need one stay light.

    segmenter = load_segmenter("facebook/sam-vit-base")
    mask = segmenter.mask(picture, (10, 10, 50, 50), points=[(30, 20)], key="a.png")      # bool [height, width]
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import Any

from PIL import Image

from visual_rft.errors import ModelError
from visual_rft.vision.boxes import Box
from visual_rft.vision.masks import Mask

KEPT_PICTURES = 64
"""Pictures whose embeddings are kept: the prompts of a step; of SAM's, 4 MiB each."""


class Segmenter:
    """A segmenter that is prompted with a box, and points on the object.

    Args:
        model: a SAM model of transformers.
        processor: its processor.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor
        self._embeddings: OrderedDict[str, Any] = OrderedDict()

    @classmethod
    def load(cls, path: str) -> Segmenter:
        """From a folder or hub id, on the GPU if there is one.

        Raises:
            ModelError: if there is none or it is not promptable by boxes.
        """
        import torch
        from transformers import AutoModelForMaskGeneration, AutoProcessor

        try:
            found = cls(AutoModelForMaskGeneration.from_pretrained(path), AutoProcessor.from_pretrained(path))
        except (OSError, ValueError) as error:
            raise ModelError(f"segmenter: cannot load {path!r} ({' '.join(str(error).split())})") from None
        found.model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return found

    def mask(
        self, picture: Image.Image, box: Box, points: Sequence[Sequence[float]] = (), key: str | None = None
    ) -> Mask:
        """The mask ``[height, width]`` of what the prompt means.

        Args:
            picture: the RGB picture.
            box: around the object, in pixels.
            points: on the object, in pixels.
            key: names the picture, so that its embeddings are made once; None makes them anew.
        """
        import numpy as np
        import torch

        prompt: dict[str, Any] = {"input_boxes": [[list(box)]]}
        if points:
            prompt["input_points"] = [[[list(point) for point in points]]]
            prompt["input_labels"] = [[[1] * len(points)]]
        inputs = self.processor(images=picture, **prompt, return_tensors="pt").to(self.model.device)
        pixels = inputs.pop("pixel_values")
        sizes = [inputs[name] for name in ("original_sizes", "reshaped_input_sizes") if name in inputs]  # SAM has both
        asked = {name: inputs[name] for name in prompt}
        with torch.no_grad():
            embeddings = self._embedded(pixels, key)
            output = self.model(image_embeddings=embeddings, **asked, multimask_output=False)
        masks = self.processor.image_processor.post_process_masks(output.pred_masks.cpu(), *sizes)
        return np.asarray(masks[0].reshape(-1, *masks[0].shape[-2:])[0].numpy(), dtype=bool)

    def _embedded(self, pixels: Any, key: str | None) -> Any:
        if key is None:
            return self.model.get_image_embeddings(pixels)
        if key not in self._embeddings:
            self._embeddings[key] = self.model.get_image_embeddings(pixels)
            if len(self._embeddings) > KEPT_PICTURES:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(key)
        return self._embeddings[key]


@cache
def load_segmenter(path: str) -> Segmenter:
    """:meth:`Segmenter.load`, once for each path; errors as there."""
    return Segmenter.load(path)
