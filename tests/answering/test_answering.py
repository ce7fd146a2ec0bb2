"""Questions image by image: vision passes counted, batches, the journal."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image
from support.fake_policy import FakePolicy
from support.tiny_models import QWEN

from visual_rft.answering.answering import BATCH, Journal, answer
from visual_rft.answering.class_list import class_list_numbers, names_in, said_classes
from visual_rft.answering.local import LocalModel, _packed
from visual_rft.answering.predict import predict
from visual_rft.answering.questions import ImageQuestions
from visual_rft.config.sections import ModelConfig, RolloutConfig
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.errors import RunFolderError
from visual_rft.policy.loading import load_policy
from visual_rft.tasks import Detection, load_task
from visual_rft.tasks.samples import Sample
from visual_rft.vision.images import RenderedImage

NAMES = [f"thing {n}" for n in range(80)]


def asked_about(images: int, names=NAMES) -> list[ImageQuestions]:
    return [ImageQuestions(tuple(scene.ask(name) for name in names)) for scene in Shapes(images, seed=3)]


@pytest.fixture(params=QWEN)
def counting_policy(request, model_folders):
    """A tiny random policy and the number of images that went through its vision tower, call by call."""
    policy = load_policy(ModelConfig(path=str(model_folders[request.param])), RolloutConfig(max_new_tokens=4))
    seen: list[int] = []

    def count(_, inputs, keywords):
        seen.append(len(keywords["grid_thw"] if "grid_thw" in keywords else inputs[1]))

    policy.core.model.visual.register_forward_pre_hook(count, with_kwargs=True)
    return policy, seen


@pytest.mark.parametrize("batch", [BATCH, 30, 400])
def test_80_classes_cost_one_vision_pass_per_image(counting_policy, batch):
    policy, seen = counting_policy
    images = answer(LocalModel(policy), load_task("detection"), asked_about(3), batch)
    assert [len(row.answers) for row in images] == [80, 80, 80]
    assert sum(seen) == 3, "also where an image is split into batches, or shares one"
    answer(LocalModel(policy), load_task("detection"), asked_about(1, NAMES[:2]))
    assert sum(seen) == 4, "and nothing is kept when the weights may change again"


def test_two_stages_cost_one_vision_pass_per_image(counting_policy, monkeypatch):
    policy, seen = counting_policy
    monkeypatch.setattr("visual_rft.answering.answering.said_classes", lambda texts, names: set(names[:3]))
    questions = [replace(one, choose=True) for one in asked_about(3, NAMES[:9])]
    images = answer(LocalModel(policy), load_task("detection"), questions)
    assert [len(row.answers) for row in images] == [3, 3, 3]
    assert sum(seen) == 3


def test_asked_at_once_or_one_by_one_the_answers_are_the_same(model_folders):
    policy = load_policy(ModelConfig(path=str(model_folders["qwen3_vl"])), RolloutConfig(max_new_tokens=6))
    questions = asked_about(2, NAMES[:7])
    task = load_task("detection")
    at_once, one_by_one = (answer(LocalModel(policy), task, questions, batch) for batch in (96, 1))
    assert [[a.text for a in row.answers] for row in at_once] == [[a.text for a in row.answers] for row in one_by_one]
    assert [[a.frame for a in row.answers] for row in at_once] == [[a.frame for a in row.answers] for row in one_by_one]


@pytest.mark.parametrize(
    ("sizes", "batch", "expected"),
    [
        ([1, 1, 1], 2, [2, 1]),
        ([3, 3, 3], 7, [6, 3]),
        ([3, 5, 1], 6, [3, 6]),
        ([10, 2], 4, [4, 4, 4]),
        ([1, 10], 4, [1, 4, 4, 2]),
        ([0, 2, 0], 4, [2]),
        ([], 4, []),
    ],
)
def test_an_image_stays_in_one_batch_where_it_fits(sizes, batch, expected):
    chunks = list(_packed(sizes, batch))
    assert [len(chunk) for chunk in chunks] == expected
    assert [place for chunk in chunks for place in chunk] == [(g, k) for g, n in enumerate(sizes) for k in range(n)]


def test_predict_keeps_the_order_of_the_questions():
    """Two images in turn: asked image by image, returned as they came."""
    first, second = (scene.ask for scene in Shapes(2, seed=3))
    samples = [first("a"), second("a"), first("b"), second("b"), first("c")]
    policy = FakePolicy(lambda prompt: prompt.id)
    predictions = predict(LocalModel(policy), Detection(), samples)
    assert [p.completion for p in predictions] == [sample.id for sample in samples]
    assert [prompt.id.split("/")[1] for prompt in policy.batches[0]] == ["a", "b", "c", "a", "b"]


def interrupted(policy, task, questions, journal, after: int) -> None:
    done = 0

    def progress(images: int) -> None:
        nonlocal done
        done += images
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(LocalModel(policy), task, questions, 4, journal, progress)


def test_an_interrupted_evaluation_continues(tmp_path):
    questions = asked_about(5, NAMES[:3])
    file = tmp_path / "answers.jsonl"
    task = Detection()
    first = FakePolicy(lambda prompt: f"said about {prompt.id}")
    interrupted(first, task, questions, Journal(file), after=2)
    with file.open("a") as cut:
        cut.write('{"image": 2, "answers": [{"id": "shap')  # the line that was being written
    journal = Journal(file)
    assert sorted(journal.rows) == [0, 1]
    second = FakePolicy(lambda prompt: f"said about {prompt.id}")
    told = []
    images = answer(LocalModel(second), task, questions, 4, journal, told.append)
    assert told == [2, 1, 1, 1]
    asked = [prompt.id for batch in second.batches for prompt in batch]
    assert asked == [sample.id for one in questions[2:] for sample in one.samples]
    assert images == answer(LocalModel(first), task, questions)
    assert sorted(Journal(file).rows) == [0, 1, 2, 3, 4]
    third = FakePolicy(lambda _: "never asked")
    assert answer(LocalModel(third), task, questions, journal=Journal(file)) == images
    assert third.batches == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": 0, "answers": [], "class_lists": null}\n{"imag\n{"image": 1}\n', "line 2 is broken"),
        ("[]\n", "line 1 is broken"),
        ('{"image": 0}\n', "line 1 is broken"),
        ('{"image": 1e999, "answers": [], "class_lists": null}\n', "line 1 is broken"),
        ('{"image": 0, "answers": [7], "class_lists": null}\n', "line 1 is broken"),
        ('{"image": 0, "answers": [{"id": "x", "text": "", "frame": [1, 2]}], "class_lists": null}\n', "1 is broken"),
        ('{"image": 0, "answers": [{"id": "x", "text": 3, "frame": null}], "class_lists": null}\n', "1 is broken"),
        ("[" * 9999 + "]" * 9999 + "\n", "line 1 is broken"),
        (
            '{"image": 0, "answers": [{"id": "x", "text": "", "frame": null}], "class_lists": null}\n',
            "'x', which is not",
        ),
    ],
)
def test_a_broken_journal_is_named(tmp_path, text, message):
    file = tmp_path / "answers.jsonl"
    file.write_text(text)
    with pytest.raises(RunFolderError, match=message):
        answer(LocalModel(FakePolicy(lambda _: "")), Detection(), asked_about(1, NAMES[:1]), journal=Journal(file))


def test_two_stages_ask_what_was_said():
    questions = [ImageQuestions(one.samples, choose=True) for one in asked_about(2, ["cat", "hot dog", "dog"])]
    lists = {0: "<think>x</think><answer>Cat, hot dog and a unicorn</answer>", 1: "nothing to see"}
    number = {one.samples[0].images[0].key: n for n, one in enumerate(questions)}
    policy = FakePolicy(lambda p: lists[number[p.images[0].key]] if p.text.startswith("Which") else "no")
    images = answer(LocalModel(policy), Detection(), questions)
    assert [[a.sample.question["category"] for a in row.answers] for row in images] == [["cat", "hot dog"], []]
    assert [row.class_lists for row in images] == [[lists[0]], [lists[1]]]
    assert "cat, hot dog, dog? First say" in policy.batches[0][0].text
    assert len(policy.batches) == 2


def test_class_list_numbers_by_hand():
    """Image 1 holds a and b and is said to hold a and c; image 2 holds a, and its list cannot be read."""
    image = RenderedImage("i", lambda: Image.new("RGB", (100, 100)))

    def ask(name: str, there: bool) -> Sample:
        boxes = [[0, 0, 9, 9]] if there else []
        return Sample(name, (image,), "detection", {"category": name}, {"boxes": boxes, "image_size": [100, 100]})

    first = ImageQuestions((ask("a", True), ask("b", True), ask("c", False)), choose=True)
    second = ImageQuestions((ask("a", True), ask("b", False)), choose=True)
    replies = iter(["<think>x</think><answer>a, c</answer>", "hm", "no", "no"])
    images = answer(LocalModel(FakePolicy(lambda _: next(replies))), Detection(), [first, second])
    numbers = class_list_numbers([first, second], images)
    assert numbers.pop("recall") == pytest.approx(1 / 3)
    assert numbers == {"n_lists": 2, "parse_rate": 0.5, "failures": {"no answer tag": 1}, "precision": 0.5}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<answer>dog</answer>", {"dog"}),
        ("<answer>hot dog</answer>", {"hot dog"}),
        ("<answer>hot dog hot dog</answer>", {"hot dog"}),
        ("<answer>a Hot_Dog, dog</answer>", {"hot dog", "dog"}),
        ("<answer>['cat', 'dog']</answer>", {"cat", "dog"}),
        ("<answer>cats</answer>", set()),
        ("<answer>No Objects</answer>", set()),
        ("<think>dog</think><answer></answer>", set()),
        ("dog", set()),
    ],
)
def test_classes_are_read_by_whole_names(text, found):
    assert said_classes([text], ["dog", "hot dog", "cat"]) == found


def test_a_long_list_of_classes_is_asked_in_parts():
    questions = ImageQuestions(asked_about(1, [f"thing {n}" for n in range(205)])[0].samples, choose=True)
    policy = FakePolicy(lambda p: f"<think>x</think><answer>{p.text.split(': ')[1].split(',')[0]}</answer>")
    (row,) = answer(LocalModel(policy), Detection(), [questions])
    assert [a.sample.question["category"] for a in row.answers] == ["thing 0", "thing 100", "thing 200"]
    assert json.dumps(row.class_lists).count("answer") == 6


def test_names_of_one_word_and_more():
    assert names_in("teddy bear beside a bear", ["bear", "teddy bear"]) == ["teddy bear", "bear"]
    assert names_in("teddy bear", ["bear", "teddy bear"]) == ["teddy bear"]
