"""Masks from boxes by a promptable segmenter (the SAM family), for grounding data that come with masks.

Decision: the answered box is the prompt and the one mask the segmenter gives for it is compared with the true mask, as
the published reasoning-grounding numbers are made. The segmenter is a stock transformers model that the user names;
without one only boxes are compared.

    segmenter = Segmenter.load("facebook/sam-vit-base")
    mask = segmenter.mask(picture, (10, 10, 50, 50))      # bool [height, width]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from visual_rft.errors import DataError, ModelError
from visual_rft.tasks.base import Prediction
from visual_rft.vision.boxes import Box

Mask = npt.NDArray[np.bool_]


class Segmenter:
    """A box-prompted segmenter.

    Args:
        model: a SAM model of transformers.
        processor: its processor.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor

    @classmethod
    def load(cls, path: str) -> Segmenter:
        """From a folder or hub id.

        Raises:
            ModelError: if there is none or it is not promptable by boxes.
        """
        from transformers import AutoModelForMaskGeneration, AutoProcessor

        try:
            return cls(AutoModelForMaskGeneration.from_pretrained(path), AutoProcessor.from_pretrained(path))
        except (OSError, ValueError) as error:
            raise ModelError(f"--segmenter: cannot load {path!r} ({' '.join(str(error).split())})") from None

    def to(self, device: torch.device) -> Segmenter:
        """This segmenter, its model moved to ``device``."""
        self.model.to(device)
        return self

    def mask(self, picture: Image.Image, box: Box) -> Mask:
        """The mask ``[height, width]`` of what the box (pixels) holds."""
        inputs = self.processor(images=picture, input_boxes=[[list(box)]], return_tensors="pt")
        with torch.no_grad():
            output = self.model(**inputs.to(self.model.device), multimask_output=False)
        sizes = [inputs[key] for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]  # SAM has both
        masks = self.processor.image_processor.post_process_masks(output.pred_masks.cpu(), *sizes)
        return np.asarray(masks[0].reshape(-1, *masks[0].shape[-2:])[0].numpy(), dtype=bool)


def mask_areas(segmenter: Segmenter, prediction: Prediction) -> tuple[float, float]:
    """Intersection and union, in pixels, of the segmented answer and the true mask.

    The truth is ``segmentation`` as in COCO: polygons ``[[x1, y1, x2, y2, ...], ...]`` in pixels, or an RLE.

    Raises:
        DataError: if the sample has no mask.
    """
    sample = prediction.sample
    picture = sample.images[0].load()
    truth = true_mask(sample.truth.get("segmentation"), picture.size, sample.id)
    if prediction.score.answer is None:
        return 0.0, float(truth.sum())
    x1, y1, x2, y2 = prediction.score.answer
    found = segmenter.mask(picture, (x1, y1, x2, y2))
    return float((found & truth).sum()), float((found | truth).sum())


def true_mask(segmentation: Any, size: tuple[int, int], name: str) -> Mask:
    """COCO's polygons or RLE as a mask ``[height, width]`` of an image of ``size`` (width, height).

    Raises:
        DataError: if it is neither; ``name`` is in the message.
    """
    from faster_coco_eval import mask as masks

    width, height = size
    try:
        if isinstance(segmentation, list) and segmentation:
            rle = masks.merge(masks.frPyObjects([[float(v) for v in row] for row in segmentation], height, width))
        elif isinstance(segmentation, dict):
            uncompressed = isinstance(segmentation.get("counts"), list)
            rle = masks.frPyObjects(segmentation, height, width) if uncompressed else segmentation
        else:
            raise ValueError("neither polygons nor an RLE")
        mask = np.asarray(masks.decode(rle), dtype=bool)
        if mask.shape != (height, width):
            raise ValueError(f"it is {mask.shape[1]} x {mask.shape[0]}, the image {width} x {height}")
        if not mask.any():
            raise ValueError("it is empty")
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise DataError(f"sample {name!r}: truth.segmentation cannot be read as a mask ({error})") from None
    return mask
