"""Names of the configs that come with the package."""

MODELS = ("qwen2-vl-2b", "qwen2-vl-7b", "qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b")
EXPERIMENTS = (
    "few-shot-coco", "few-shot-lvis", "few-shot-mg", "flowers102", "pets37", "fgvc-aircraft", "cars196", "lisa",
    "open-coco", "open-lvis",
)  # fmt: skip
PAIRS = [f"{model}/{experiment}" for model in MODELS for experiment in EXPERIMENTS]
