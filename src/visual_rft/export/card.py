"""The model card: measured numbers with their protocol, the data, the exact command, limits, how to use it.

Decision: every number comes from a file of the run; where there is none, the card says that nothing was measured. What
only a person knows (licence, consent, intended use) is marked TO DO instead of guessed.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from visual_rft.config.config import Config
from visual_rft.config.sources import PROCEDURAL, SourceConfig
from visual_rft.policy.prompt import tasks_for
from visual_rft.serving.vllm_options import lora_rank
from visual_rft.tasks import Tasks
from visual_rft.vision.coordinates import CoordinateSpace

_RANKED = {
    "written": "the confidence that is written in the answer, and where none is by the probability of their tokens",
    "tokens": "the probability of the tokens of their coordinates (`task.scores: tokens`)",
    "asked": "a second question about each box (`task.scores: asked`)",
}
_UNITS = {
    CoordinateSpace.RELATIVE_1000: "0 to 1000 across each side of the image, whatever its size",
    CoordinateSpace.PROCESSED_PIXELS: "pixels of the image after the processor's resize",
    CoordinateSpace.PIXELS: "pixels of the image",
    CoordinateSpace.LOCATION_TOKENS: "location tokens, 1/1024 of each side of the image, y before x",
}


@dataclass(frozen=True)
class Facts:
    """What the card is written from.

    Attributes:
        config: the run.
        name: where the exported folder is.
        base: the model that was trained, as the config names it.
        base_folder: the same as a folder or hub id.
        adapter: whether only a LoRA adapter is exported.
        dtype: type of the exported weights, or in which an adapter was trained.
        space: units of the model's boxes.
        checkpoint: name of the checkpoint, ``step-N``.
        evaluation: the run's evaluation of this checkpoint; empty if there is none.
        base_evaluation: the same of the base.
        other_evaluations: results of ``visual-rft evaluate`` for this checkpoint and the base.
        environment: versions, device and command.
    """

    config: Config
    name: str
    base: str
    base_folder: str
    adapter: bool
    dtype: str
    space: CoordinateSpace
    checkpoint: str
    evaluation: Mapping[str, Any]
    base_evaluation: Mapping[str, Any]
    other_evaluations: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]


def model_card(facts: Facts) -> str:
    """The card as Markdown with the front matter that model hubs read."""
    task = tasks_for(facts.config)
    parts = [
        _front_matter(facts),
        f"# {facts.name.rstrip('/').split('/')[-1]}",
        _what(facts, task),
        f"## Measured\n\n{_measured(facts, task)}",
        f"## Data\n\n{_data(facts.config)}",
        f"## How it was trained\n\n{_training(facts)}",
        f"## Use\n\n{_use(facts, task)}",
        f"## Limits\n\n{_limits(facts)}",
        "## Licence\n\nTO DO: name the licence of these weights. It has to agree with that of the base model and of "
        "the training images.",
    ]
    return "\n\n".join(parts) + "\n"


def snippet(facts: Facts) -> str:
    """Python that asks the model with plain transformers (and peft, for an adapter)."""
    prompt = example_prompt(tasks_for(facts.config), facts.space)
    # Whoever copies this runs the model's own Python files, as the run did.
    trust = ", trust_remote_code=True" if facts.config.model.trust_remote_code else ""
    return f"""from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained({facts.name!r}{trust})
model = AutoModelForImageTextToText.from_pretrained({facts.name!r}{trust})
picture = Image.open("picture.png").convert("RGB")
text = {prompt!r}
content = [{{"type": "image", "image": picture}}, {{"type": "text", "text": text}}]
messages = [{{"role": "user", "content": content}}]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
ids = model.generate(**inputs, max_new_tokens={facts.config.rollout.max_new_tokens}, do_sample=False)
print(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def serve_command(facts: Facts) -> str:
    """How vLLM serves it: in the type of its weights, which vLLM would choose otherwise, and without a
    ``generation_config`` of the base, whose penalties were not there in training; an adapter on its base."""
    options = ["--dtype", facts.dtype, "--generation-config", "vllm", "--limit-mm-per-prompt", '{"image": 1}']
    if facts.config.model.trust_remote_code:
        options.append("--trust-remote-code")
    if not facts.adapter:
        return shlex.join(["vllm", "serve", facts.name, *options])
    assert facts.config.model.lora is not None
    rank = str(lora_rank(facts.config.model.lora.rank))
    lora = ["--enable-lora", "--max-lora-rank", rank, "--lora-modules", f"tuned={facts.name}"]
    if facts.config.model.lora.vision:
        lora.append("--enable-tower-connector-lora")  # without it vLLM leaves the tower's part out
    return shlex.join(["vllm", "serve", facts.base_folder, *lora, *options])


def example_prompt(task: Tasks, space: CoordinateSpace) -> str:
    """What the task (of several the first) shows beside an image, ``THING`` standing for what is asked for."""
    one = next(iter(task.each.values()))
    try:
        return one.worded(dict.fromkeys(("category", "subject", "expression", "question"), "THING"), space)
    except KeyError:  # a task of the user's own that needs to know more
        return "THE PROMPT OF YOUR TASK"


def _front_matter(facts: Facts) -> str:
    fields: dict[str, Any] = {
        "license": "other",
        "library_name": "peft" if facts.adapter else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["visual-rft", "grpo", facts.config.task.name.split(":")[-1]],
    }
    if facts.base_folder == facts.base:  # neither the embedded model nor a folder of somebody's disk
        fields["base_model"] = facts.base
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---"


def _what(facts: Facts, task: Tasks) -> str:
    what = "A LoRA adapter for" if facts.adapter else "Fine-tuned from"
    lora = facts.config.model.lora
    how = f"LoRA of rank {lora.rank}" if lora else "all weights"
    if facts.config.model.freeze_vision or (lora and not lora.vision):
        how += ", vision tower untouched"
    return (
        f"{what} `{facts.base}` ({how}) for the task *{task.name}*, checkpoint `{facts.checkpoint}`, with visual-rft. "
        f"Boxes are written in units of {_UNITS[facts.space]}."
    )


def _measured(facts: Facts, task: Tasks) -> str:
    if not facts.evaluation and not facts.other_evaluations:
        return f"Nothing: the run has no evaluation of `{facts.checkpoint}`."
    lines = []
    if facts.evaluation:
        names = [name for name in (*task.headline, "format_rate", "parse_rate") if name in facts.evaluation]
        trained_on = "; THESE WERE TRAINED ON, the numbers say nothing about others" if _shared(facts.config) else ""
        shown = [("base", facts.base_evaluation), ("this model", facts.evaluation)]
        columns = [(title, numbers) for title, numbers in shown if numbers]
        ranked = "".join(
            f" Boxes{f' of {called}' if len(task.each) > 1 else ''} are ranked by {_RANKED[one.scores]}."
            for called, one in task.each.items()
            if one.measured_as == "coco"
        )
        lines += [
            f"During the run, greedy, {facts.evaluation.get('n_questions', 'all')} questions about "
            f"{facts.evaluation.get('n_images', 'all')} images (`data.evaluation` below, asked as the config says"
            f"{trained_on}).{ranked}",
            "",
            f"| | {' | '.join(title for title, _ in columns)} |",
            "|---" * (len(columns) + 1) + "|",
            *(f"| {name} | {' | '.join(_number(numbers.get(name)) for _, numbers in columns)} |" for name in names),
        ]
    for result in facts.other_evaluations:
        names = [name for name in task.headline if name in result]
        lines += [
            "",
            f"`visual-rft evaluate`, model `{result['model']}`, protocol `{result['protocol']}`, "
            f"{result['n_images']} images, {result['n_questions']} questions:",
            "",
            "| | | 95 % interval over images |",
            "|---|---|---|",
            *(f"| {name} | {_number(result[name])} | {_interval(result, name)} |" for name in names),
            *_kinds(result.get("scores", {})),
        ]
    return "\n".join(lines).strip()


def _kinds(kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """AP and calibration by what ranks the boxes, where the evaluation knows more than one such number."""
    if len(kinds) < 2:
        return []
    rows = [f"| {kind} | {_number(row['AP'])} | {_number(row['ece'])} |" for kind, row in kinds.items()]
    return ["", "| boxes ranked by | AP | expected calibration error |", "|---|---|---|", *rows]


def _shared(config: Config) -> bool:
    """Whether a source of the evaluation is one of the training, too."""
    fields = ("source", "path", "annotations", "split", "seed")

    def sources(part: Sequence[SourceConfig]) -> set[tuple[Any, ...]]:
        return {tuple(getattr(s, name) for name in fields[: 5 if s.format in PROCEDURAL else 4]) for s in part}

    return bool(sources(config.data.train) & sources(config.data.evaluation))


def _number(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "-"
    return "undefined" if value == -1 else f"{value:.3f}"  # -1: no true box of that size


def _interval(result: Mapping[str, Any], name: str) -> str:
    ends = result.get("intervals", {}).get(name)
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-"


def _data(config: Config) -> str:
    rows = [f"* {use}: {_source(s)}" for use in ("train", "evaluation") for s in getattr(config.data, use)]
    return "\n".join([*rows, "", "TO DO: say what the images show, where they come from, and who labelled them."])


def _source(source: SourceConfig) -> str:
    said = source.model_dump(mode="json", exclude_defaults=True, exclude={"source"})
    return f"`{source.format}`" + (
        f" ({', '.join(f'{name}: {value}' for name, value in said.items())})" if said else ""
    )


def _training(facts: Facts) -> str:
    words = [str(word) for word in facts.environment.get("command", [])]
    command = shlex.join(["visual-rft", *words[1:]]) if words else "(not recorded)"
    versions = facts.environment.get("packages", {})
    told = ", ".join(f"{name} {number}" for name, number in versions.items())
    settings = yaml.safe_dump(facts.config.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    where = f"on {facts.environment['device']} " if "device" in facts.environment else ""
    return (
        f"    {command}\n\nRun {where}with {told or 'versions not recorded'}. What its config sets "
        f"(`visual_rft.yaml` has every field):\n\n```yaml\n{settings}```"
    )


def _use(facts: Facts, task: Tasks) -> str:
    prompt = example_prompt(task, facts.space)
    python, serve = snippet(facts), serve_command(facts)
    return (
        "It learned this prompt; another wording is another question (`THING` is what is asked for):\n\n"
        f"```text\n{prompt}\n```\n\n```python\n{python}```\n\n    {serve}\n    visual-rft predict picture.png "
        f"--ask THING --model {shlex.quote(facts.name)}\n\nThe serving command was not run by the export."
    )


def _limits(facts: Facts) -> str:
    lines = [
        "* The numbers above hold for images like those they were measured on, with this prompt and greedy decoding; "
        "nothing else was measured.",
        "* The numbers by which boxes are ranked are no calibrated probabilities, unless it says so above.",
        "* Whatever the base model cannot do, gets wrong or is biased about is likely to remain.",
    ]
    if facts.base == "tiny":
        lines.append("* The base is the small embedded model of visual-rft, which is for demonstration.")
    return "\n".join([*lines, "* TO DO: intended use, and uses that are out of scope."])
