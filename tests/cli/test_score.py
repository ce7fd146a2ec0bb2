"""``visual-rft score`` as it is called from outside."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from visual_rft.cli.main import main

ROOT = Path(__file__).parent.parent.parent


def score(capsys, *arguments: str) -> dict:
    assert main(["score", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_score_detection(capsys):
    truth = json.dumps({"boxes": [[20, 10, 60, 30]], "image_size": [200, 100]})
    item = "[{{'Position': [{}, {}, {}, {}], 'Confidence': 0.8}}]"
    relative = "<think>x</think><answer>" + item.format(100, 100, 300, 300) + "</answer>"
    pixels = "<think>x</think><answer>" + item.format(20, 10, 60, 30) + "</answer>"
    result = score(capsys, "--task", "detection", "--truth", truth, "--completion", relative)
    assert result == {
        "iou": 1.0, "confidence": 0.8, "format": 1.0, "total": 2.8, "failure": None, "notes": [],
        "answer": {"boxes": [[20.0, 10.0, 60.0, 30.0]], "confidence": [0.8]},
    }  # fmt: skip
    in_pixels = score(capsys, "--task", "detection", "--truth", truth, "--completion", pixels,
                      "--coordinates", "pixels")  # fmt: skip
    assert in_pixels == result
    failed = score(capsys, "--task", "detection", "--truth", truth, "--completion", "none")
    assert failed == {"iou": 0, "confidence": 0, "format": 0, "total": 0, "answer": None,
                      "failure": "no answer tag", "notes": []}  # fmt: skip


def test_score_classification_grounding_and_a_task_of_ones_own(capsys, monkeypatch):
    text = "<think>x</think><answer>Cat</answer>"
    result = score(capsys, "--task", "classification", "--truth", '{"label": "cat"}', "--completion", text)
    assert (result["accuracy"], result["total"], result["answer"]) == (1, 2, "Cat")
    truth = '{"box": [10, 10, 50, 50], "image_size": [100, 100]}'
    text = "<answer>(100,100),(500,500)</answer>"
    result = score(capsys, "--task", "grounding", "--truth", truth, "--completion", text, "--no-think",
                   "--weights", '{"hit": 1, "format": 1}', "--options", '{"hit_threshold": 0.9}')  # fmt: skip
    assert (result["hit"], result["format"], result["answer"]) == (1, 1, [10, 10, 50, 50])
    monkeypatch.setattr("sys.stdin", io.StringIO("<answer>3</answer>"))
    counting = f"{ROOT / 'examples' / 'counting.py'}:Counting"
    result = score(capsys, "--task", counting, "--truth", '{"boxes": []}', "--completion", "-")
    assert (result["exact"], result["close"], result["answer"]) == (0, 0.25, 3)


BOX = '{"boxes": [[20, 10, 60, 30]], "image_size": [200, 100], "category": "cat"}'
STRICT = ["--task", "detection", "--truth", BOX, "--weights", '{"iou": 1, "format": 1, "strict_format": 1}']


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (
            ["native", "--notation", "bbox_2d"],
            '```json\n[\n\t{"bbox_2d": [100, 100, 300, 300], "label": "cat"}\n]\n```',
        ),
        (["native", "--notation", "ref_tags"], "<ref>cat</ref><box>[[100, 100, 300, 300]]</box>"),
        (
            ["native", "--notation", "box_tokens"],
            "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(100,100),(300,300)<|box_end|>",
        ),
        (["native", "--notation", "location_tokens"], "<loc0102><loc0102><loc0307><loc0307> cat"),
        (["native", "--notation", "lists"], "[[100, 100, 300, 300]]"),
        (["plain"], "<answer>[[100, 100, 300, 300]]</answer>"),
    ],
)
def test_score_takes_the_style(capsys, style, text):
    """Each answer is exact in its style, and is read but not exact in the method's."""
    result = score(capsys, *STRICT, "--no-think", "--completion", text, "--style", *style)
    assert (result["format"], result["strict_format"], result["notes"]) == (1, 1, [])
    assert result["iou"] == pytest.approx(1, abs=0.03), "1/1024 of an axis is 0.2 pixels of a box 20 high"
    assert score(capsys, *STRICT, "--no-think", "--completion", text)["strict_format"] == 0


def test_score_reads_location_tokens(capsys):
    text = "<think>x</think><answer><loc0102><loc0102><loc0307><loc0307></answer>"
    truth = ["--task", "grounding", "--truth", '{"box": [20, 10, 60, 30], "image_size": [200, 100]}']
    result = score(capsys, *truth, "--completion", text, "--coordinates", "tokens")
    assert result["answer"] == pytest.approx([19.9, 10, 60, 30], abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "detectoin", "--truth", "{}"], "did you mean 'detection'"),
        (["--task", "detection", "--truth", "{"], "--truth: not valid JSON"),
        (["--task", "detection", "--truth", "[]"], "--truth: a JSON object is needed"),
        (["--task", "detection", "--truth", "{}"], "truth.image_size: None is not"),
        (["--task", "grounding", "--truth", '{"image_size": [9, 9]}'], "truth.box: is missing"),
        (["--task", "classification", "--truth", '{"label": 5}'], "truth.label: 5 is not a name"),
        (["--task", "classification", "--truth", '{"label": "a"}', "--weights", "{a}"], "--weights: not valid JSON"),
        (["--task", "classification", "--truth", '{"label": "a"}', "--options", '{"x": 1}'], "has no option 'x'"),
        (["--task", "detection", "--truth", BOX, "--options", '{"think": false}'], "'think' is no option of a task"),
        (["--task", "detection", "--truth", BOX, "--options", '{"matching": ["a"]}'], "['a'] is not one of confidence"),
        (["--task", "detection", "--truth", BOX, "--options", '{"iou_threshold": true}'], "True is not in [0, 1]"),
        (["--task", "grounding", "--truth", "{}", "--options", '{"hit_threshold": true}'], "True is not in [0, 1]"),
        (["--task", "detection", "--truth", BOX, "--options", '{"length_window": 3}'], "3 is not [fewest, most] words"),
        (["--task", "vqa", "--truth", '{"number": 1, "unit": 5}'], "truth.unit: 5 is not a text"),
        (["--task", "vqa", "--truth", "[" * 9999], "--truth: not valid JSON (nested too deeply)"),
        (["--task", "none.py:Task", "--truth", "{}"], "there is no file none.py"),
        (["--task", "classification", "--truth", '{"label": "a"}', "--coordinates", "pixels"], "truth.image_size"),
        (["--task", "detection", "--truth", BOX, "--style", "native"], "task.style: native needs to know"),
        (["--task", "detection", "--truth", BOX, "--notation", "lists"], "--notation is that of --style native"),
        (
            [
                "--task",
                "detection",
                "--truth",
                BOX,
                "--style",
                "native",
                "--notation",
                "location_tokens",
                "--coordinates",
                "pixels",
            ],
            "--coordinates pixels: the notation location_tokens writes tokens",
        ),
        (
            ["--task", "detection", "--truth", BOX, "--style", "plain", "--weights", '{"confidence": 1}'],
            "the style 'plain' writes no confidence",
        ),
        (["--task", "vqa", "--truth", '{"answer": "a"}', "--style", "plain"], "vqa answers without boxes"),
    ],
)
def test_mistakes_in_score_are_one_line(capsys, arguments, message):
    assert main(["score", *arguments, "--completion", "<answer>a</answer>"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
