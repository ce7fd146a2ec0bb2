"""Random ground truth and predictions with every special case of the COCO and LVIS rules."""

from __future__ import annotations

import numpy as np

CLASSES = (1, 2, 3, 5)


def random_set(seed: int, *, images: int = 8, crowded: float = 0.0, ties: bool = False, many: int = 0, lvis=False):
    """Ground truth and predictions: true boxes of every size, some images empty, some predictions far off.

    Args:
        seed: of everything.
        images: number of images.
        crowded: share of true boxes that are crowd regions.
        ties: give only three different scores.
        many: add this many stray predictions of one class to the first image (beyond the limit of 100).
        lvis: add what LVIS annotations have.
    """
    rng = np.random.default_rng(seed)
    rows = [{"id": 10 * (i + 1), "width": 640, "height": 480} for i in rng.permutation(images).tolist()]
    annotations, results = [], []

    def score() -> float:
        return float(rng.choice([0.3, 0.6, 0.9]) if ties else rng.random())

    for row in rows:
        for _ in range(rng.integers(0, 6) * int(rng.random() < 0.8)):
            size = float(np.exp(rng.uniform(np.log(4), np.log(300))))
            x, y, w, h = rng.uniform(0, 300), rng.uniform(0, 150), size, size * rng.uniform(0.5, 1.5)
            place = {"image_id": row["id"], "category_id": int(rng.choice(CLASSES[:3]))}
            crowd = int(rng.random() < crowded)
            area = w * h * rng.choice([1.0, 0.6])  # COCO's area is the mask's
            annotations.append({**place, "id": len(annotations) + 1, "bbox": [x, y, w, h], "area": area,
                                "iscrowd": crowd})  # fmt: skip
            for _ in range(rng.integers(0, 3 + 3 * crowd)):
                noise = rng.normal(0, 0.12 * size, 4)
                box = [x + noise[0], y + noise[1], abs(w + noise[2]), abs(h + noise[3])]
                category = place["category_id"] if rng.random() < 0.9 else int(rng.choice(CLASSES))
                results.append({**place, "category_id": category, "bbox": box, "score": score()})
    for _ in range(many):
        box = [*rng.uniform(0, 300, 2).tolist(), *rng.uniform(5, 200, 2).tolist()]
        results.append({"image_id": rows[0]["id"], "category_id": 1, "bbox": box, "score": score()})
    categories = [{"id": c, "name": f"class {c}"} for c in CLASSES]
    if lvis:
        for category, frequency in zip(categories, "rcfr", strict=True):
            category["frequency"] = frequency
        for row in rows:
            present = {a["category_id"] for a in annotations if a["image_id"] == row["id"]}
            absent = [c for c in CLASSES if c not in present]
            row["neg_category_ids"] = [c for c in absent if rng.random() < 0.5]
            row["not_exhaustive_category_ids"] = [c for c in sorted(present) if rng.random() < 0.3]
        for annotation in annotations:
            del annotation["iscrowd"]
    order = rng.permutation(len(results)).tolist()
    truth = {"images": rows, "annotations": annotations, "categories": categories}
    return truth, [results[i] for i in order]


SETS = [
    *({} for _ in range(12)),
    *({"crowded": 0.3} for _ in range(12)),
    *({"ties": True} for _ in range(12)),
    *({"ties": True, "crowded": 0.3, "images": 3} for _ in range(12)),
    *({"many": 150, "ties": bool(i % 2)} for i in range(8)),
    *({"images": 1} for _ in range(8)),
]


def lvis_set(seed: int):
    """A random LVIS set, some with equal scores and some beyond the limit of 300 predictions per image."""
    return random_set(seed, ties=seed % 2 == 1, many=400 if seed % 3 == 0 else 0, lvis=True)
