"""Masks of answered boxes beside the true ones, for grounding data that come with masks.

Decision: the answered box is the prompt and the one mask the segmenter gives for it is compared with the true mask, as
the published reasoning-grounding numbers are made. Without a segmenter only boxes are compared.
"""

from __future__ import annotations

from visual_rft.tasks.samples import Prediction
from visual_rft.vision.masks import true_mask
from visual_rft.vision.segmenter import Segmenter


def mask_areas(segmenter: Segmenter, prediction: Prediction) -> tuple[float, float]:
    """Intersection and union, in pixels, of the segmented answer and the true mask.

    The truth is ``segmentation`` as in COCO: polygons ``[[x1, y1, x2, y2, ...], ...]`` in pixels, or an RLE.

    Raises:
        DataError: if the sample has no mask.
    """
    sample = prediction.sample
    picture = sample.images[0].load()
    truth = true_mask(sample.truth.get("segmentation"), picture.size, f"sample {sample.id!r}")
    if prediction.score.answer is None:
        return 0.0, float(truth.sum())
    x1, y1, x2, y2 = prediction.score.answer
    found = segmenter.mask(picture, (x1, y1, x2, y2))
    return float((found & truth).sum()), float((found | truth).sum())
