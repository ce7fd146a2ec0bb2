"""Chat templates that end a prompt with an opened ``<think>``: completions count as the text with the tag."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from visual_rft.cli.main import main
from visual_rft.config.sections import ModelConfig, RolloutConfig
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import Classification
from visual_rft.tasks.parsing.completion import has_tag_format

TRUTH = {"label": "cat"}
ENDINGS = {
    "opened": ("<think>", "<think>"),
    "opened with a line break": ("<think>\n", "<think>\n"),
    "not opened": ("", ""),
    "closed again": ("<think>\n\n</think>\n\n", ""),
}


def folder(model: Path, place: Path, ending: str) -> Path:
    """A copy of a model whose chat template ends with ``ending``."""
    shutil.copytree(model, place)
    template = place / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if add_generation_prompt %}" + ending + "{% endif %}")
    return place


@pytest.fixture(params=ENDINGS)
def opened(request, tmp_path, model_folders):
    """A policy, and the tag that its template opens."""
    ending, tag = ENDINGS[request.param]
    path = folder(model_folders["qwen3_vl"], tmp_path / "model", ending)
    return load_policy(ModelConfig(path=str(path)), RolloutConfig(max_new_tokens=4)), tag


def test_a_completion_holds_the_tag_that_the_template_opened(opened):
    policy, tag = opened
    assert policy.reasoning.tag == tag
    said = "one cat</think><answer>cat</answer>" if tag else "<think>one cat</think><answer>cat</answer>"
    (text,) = policy.reasoning.whole([said])
    assert Classification().score(text, TRUTH).total == 2.0
    prefix = policy.encode([Prompt("a", "Name it.", ())])
    completions = policy.sample(prefix, 2, Draws(0))
    assert all(text.startswith(tag) for text in completions.text[0])


@pytest.mark.parametrize("think", [True, False])
def test_what_is_trained_is_what_would_be_sampled(opened, think):
    """Prompt and trained text together are a completion in the right format, with and without reasoning."""
    policy, tag = opened
    task = Classification(think=think)
    completions = policy.completions_of([task.gold(TRUTH)])
    (text,) = policy.decode(completions.ids[:, 0], completions.mask[:, 0])
    assert text.startswith(tag)
    assert text.count("<think>") == (1 if think or tag else 0)
    assert task.score(text, TRUTH).total == 2.0


@pytest.mark.parametrize("think", [True, False])
def test_check_scores_through_the_template(tmp_path, model_folders, capsys, think):
    path = folder(model_folders["qwen3_vl"], tmp_path / "model", "<think>\n")
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({
        "model": {"path": str(path)}, "task": {"name": "classification", "think": think},
        "rollout": {"max_new_tokens": 200}, "data": {"train": [{"source": "flowers", "count": 4}]},
    }))  # fmt: skip
    assert main(["check", str(config), "--sheet", str(tmp_path / "s.png"), "--samples", "2"]) == 0
    out = capsys.readouterr().out
    assert "no violation" in out
    assert "gold 2.00" in out


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<answer>x</answer>", True),
        ("<think>\n</think><answer>x</answer>", True),
        ("<think></think>\n\n<answer>x</answer>", True),
        ("<think>a</think><answer>x</answer>", False),
        ("<think></think><think></think><answer>x</answer>", False),
        ("</think><answer>x</answer>", False),
    ],
)
def test_without_reasoning_an_empty_block_may_stand_before(text, right):
    assert has_tag_format(text, think=False) is right
