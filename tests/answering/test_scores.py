"""By which number a box is ranked: log-probabilities by hand, by another way to find tokens, and asked for."""

from __future__ import annotations

import json
import math

import pytest
import torch

from visual_rft.answering.answering import Journal, answer
from visual_rft.answering.box_questions import asked_about_boxes, share_of_yes
from visual_rft.answering.local import LocalModel
from visual_rft.answering.predict import scored
from visual_rft.answering.questions import Answer, ImageAnswers, ImageQuestions
from visual_rft.answering.scores import NUMBER, number_logprobs, ranked, token_scores
from visual_rft.cli.main import main
from visual_rft.config.sections import ModelConfig, RolloutConfig, TaskConfig
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.errors import ConfigError
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import Detection, load_task, task_of
from visual_rft.vision.coordinates import Frame

FRAME = Frame((200, 100), (1000, 1000))
TWO = (
    "<think>5</think><answer>[{'Position': [100, 200, 300, 400], 'Confidence': 0.9}, "
    "{'Position': [500, 200, 700, 400], 'Confidence': 0.4}]</answer>"
)


@pytest.mark.parametrize(
    ("text", "pieces", "wanted"),
    [
        ("12 3", ["1", "2", "\u2581", "3"], [-3, -8]),
        ("12 3", ["12", "\u0120", "3"], [-1, -4]),
        ("0.95", ["0", ".", "9", "5"], [-15]),
        ("7", ["<0x0A>", "7"], [-2]),  # a byte token is a line feed, not a number
        ("12", ["1", "<0x20>", "2"], None),  # two numbers were written, one is read
        ("no", ["no"], []),
        ("1", [], None),
    ],
)
def test_number_logprobs_by_hand(text, pieces, wanted):
    logprobs = [-1.0, -2.0, -4.0, -8.0][: len(pieces)]
    assert number_logprobs(text, pieces, logprobs) == wanted


@pytest.mark.parametrize(
    ("text", "frame", "boxes", "wanted"),
    [
        pytest.param("<answer>[100, 200, 300, 400]</answer>", FRAME, [[20, 20, 60, 40]], [0], id="alone"),
        pytest.param(
            "<think>2</think><answer>[100, 200, 300, 400]</answer>", FRAME, [[20, 20, 60, 40]], [1], id="thought"
        ),
        pytest.param("<answer>[300, 400, 100, 200]</answer>", FRAME, [[20, 20, 60, 40]], [0], id="other corners first"),
        pytest.param("<answer>[900, 200, 1010, 400]</answer>", FRAME, [[180, 20, 200, 40]], [0], id="cut at the edge"),
        pytest.param("<answer>(100,200),(300,400)</answer>", FRAME, [[20, 20, 60, 40]], [0], id="corners"),
        pytest.param(
            "<answer>[1, 2, 3, 4], 0.5, [1, 2, 3, 4]</answer>", FRAME, [[0.2, 0.2, 0.6, 0.4]] * 2, [0, 5], id="twice"
        ),
        pytest.param("<answer>[1, 2, 3, 4]</answer>", FRAME, [[20, 20, 60, 40]], [None], id="another box"),
        pytest.param("<answer></answer>", FRAME, [[20, 20, 60, 40]], [None], id="no number"),
        pytest.param(
            "<answer><loc0512><loc0256><loc0768><loc0512></answer>",
            Frame((200, 100), (1024, 1024), tokens=True),
            [[50, 50, 100, 75]],
            [0],
            id="location tokens, y first",
        ),
    ],
)
def test_a_box_has_the_mean_of_its_own_numbers(text, frame, boxes, wanted):
    logprobs = [-(0.1 + n / 10) for n in range(len(NUMBER.findall(text)))]
    means = [-1.0 if n is None else math.exp(sum(logprobs[n : n + 4]) / 4) for n in wanted]
    assert token_scores(text, frame, logprobs, boxes) == pytest.approx(means)


def reading(text: str, choice: str, numbers=None, asked=None):
    sample = next(iter(Shapes(1, seed=0))).ask("red circle")
    given = Answer(sample, text, FRAME, numbers, asked)
    return ranked(Detection().score(text, {"boxes": [], "image_size": [200, 100]}, FRAME), choice, given)


def test_boxes_are_ranked_as_chosen():
    numbers = [0.0, *[-0.1] * 4, -9.0, *[-0.3] * 4, -9.0]
    assert reading(TWO, "written", numbers).answer["scores"] == [0.9, 0.4]
    assert reading(TWO, "tokens", numbers).answer["scores"] == pytest.approx([math.exp(-0.1), math.exp(-0.3)])
    assert reading(TWO, "asked", numbers, [0.2, 0.7]).answer["scores"] == [0.2, 0.7]
    assert reading(TWO, "tokens").answer["scores"] == [0.9, 0.4], "nothing is known of the tokens"
    assert reading("<answer>No Objects</answer>", "tokens", []).answer == {"boxes": [], "confidence": []}
    assert reading("unreadable", "tokens", []).answer is None


def test_a_box_without_a_confidence_has_that_of_its_tokens_and_says_so():
    text = (
        "<answer>[{'Position': [100, 200, 300, 400]}, {'Position': [500, 200, 700, 400], 'Confidence': 0.4}]</answer>"
    )
    found = reading(text, "written", [-0.2] * 9)
    assert found.answer["scores"] == pytest.approx([math.exp(-0.2), 0.4])
    assert "confidence taken from the tokens" in found.notes
    assert reading(text, "written").answer["scores"] == [1.0, 0.4]
    assert "confidence taken from the tokens" not in reading(TWO, "written", [-0.2] * 11).notes


@pytest.fixture(scope="module")
def tiny():
    return load_policy(ModelConfig(path="tiny"), RolloutConfig(max_new_tokens=96))


def test_numbers_of_the_embedded_model_are_those_of_its_tokens(tiny):
    """The tokens of a number found by the tokenizer's own offsets, their log-probabilities by scoring the text anew."""
    task = Detection()
    scene = next(iter(Shapes(1, seed=5)))
    sample = scene.ask(scene.labels[0])
    (image,) = answer(LocalModel(tiny), task, [ImageQuestions((sample,))])
    (given,) = image.answers
    prefix = tiny.encode([Prompt.of(task, sample, tiny.space)])
    with torch.no_grad():
        logprobs = tiny.logprobs(prefix, tiny.completions_of([given.text]))[0, 0].tolist()
    offsets = tiny.processor.tokenizer(given.text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    wanted = [
        sum(
            logprob
            for (start, end), logprob in zip(offsets, logprobs, strict=False)
            if start < m.end() and end > m.start()
        )
        for m in NUMBER.finditer(given.text)
    ]
    assert wanted, "the embedded model writes numbers"
    assert given.numbers == pytest.approx(wanted, abs=1e-4)
    (prediction,) = scored(load_task("detection", scores="tokens"), [given])
    assert all(0 < score <= 1 for score in prediction.score.answer["scores"])
    assert prediction.score.answer["scores"] == prediction.score.answer["token_scores"]


def test_boxes_in_the_familys_words_are_ranked_by_their_tokens_and_the_answer_says_so(tmp_path, capsys):
    """From the command line: no confidence is written, so the note is there and the numbers are probabilities."""
    scene = next(iter(Shapes(1, seed=5)))
    scene.image.load().save(tmp_path / "a.png")
    ask = ["predict", str(tmp_path / "a.png"), "--ask", scene.labels[0], "--out", str(tmp_path / "drawn.png"), "--json"]
    assert main([*ask, "--style", "native", "--no-think"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "<answer>" not in found["text"]
    answer = found["answer"]
    assert answer["unstated"] == list(range(len(answer["boxes"])))
    assert answer["boxes"]
    assert answer["scores"] == answer["token_scores"]
    assert all(0 < score <= 1 for score in answer["scores"])
    assert "confidence taken from the tokens" in found["notes"]


def test_an_evaluation_in_the_familys_words_says_what_ranks_its_boxes(tmp_path, capsys):
    source = {"source": "shapes", "count": 4, "seed": 5, "max_objects": 1}
    values = {"model": {"path": "tiny"}, "data": {"train": [source], "evaluation": [source]},
              "rollout": {"max_new_tokens": 60}, "run": {"folder": str(tmp_path / "run")}}  # fmt: skip
    (tmp_path / "run.yaml").write_text(json.dumps(values))
    flags = ["--task.style", "native", "--task.think", "false", "--folder", str(tmp_path / "found")]
    assert main(["evaluate", str(tmp_path / "run.yaml"), *flags]) == 0
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "found" / "result.json").read_text())
    boxes = result["unstated"]["boxes"]
    assert boxes == result["n_predicted"] > 0
    assert result["unstated"]["by_tokens"] == boxes
    assert f"{boxes} boxes without a confidence: {boxes} ranked by their tokens." in said
    assert set(result["scores"]) == {"tokens"}, "nothing is written that could rank"


def test_asked_is_the_share_of_yes(tiny):
    task = load_task("detection", scores="asked")
    scene = next(iter(Shapes(1, seed=5)))
    sample = scene.ask(scene.labels[0])
    (image,) = answer(LocalModel(tiny), task, [ImageQuestions((sample,))])
    (given,) = image.answers
    boxes = task.parse(given.text, sample.truth, given.frame).value["boxes"]
    assert len(given.asked) == len(boxes) > 0
    prompt = Prompt("x", task.box_prompt(sample.question, boxes[0], given.frame), sample.images)
    assert f"one {sample.question['category']}" in prompt.text
    with torch.no_grad():
        yes, no = (
            float(tiny.logprobs(tiny.encode([prompt]), tiny.completions_of([word])).sum()) for word in ("Yes", "No")
        )
    assert given.asked[0] == pytest.approx(math.exp(yes) / (math.exp(yes) + math.exp(no)), abs=1e-5)
    assert (
        asked_about_boxes(LocalModel(tiny).shares_of_yes, task, [given._replace(text="unreadable")], 4)[0].asked == []
    )


def test_the_share_of_yes_does_not_overflow():
    assert share_of_yes(-2000.0, 0.0) == pytest.approx(0)
    assert share_of_yes(0.0, -2000.0) == 1


def test_the_journal_keeps_numbers_shares_and_location_tokens(tmp_path):
    sample = next(iter(Shapes(1, seed=0))).ask("red circle")
    frame = Frame((200, 100), (1024, 1024), tokens=True)
    given = ImageAnswers([Answer(sample, "7", frame, [-0.5], [0.25])], None)
    Journal(tmp_path / "answers.jsonl").append(0, given)
    assert Journal(tmp_path / "answers.jsonl").answers(0, ImageQuestions((sample,))) == given


def test_scores_are_refused_where_nothing_is_ranked():
    with pytest.raises(
        ConfigError, match=r"task.scores: tokens ranks boxes by their confidence; classification has none"
    ):
        task_of(TaskConfig(name="classification", scores="tokens"))
    with pytest.raises(ConfigError, match=r"task.scores: 'best' is not one of written, tokens, asked"):
        load_task("detection", scores="best")
