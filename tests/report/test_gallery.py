"""Held-out answers for looking: kinds of mistake, the numbers that are drawn, and what fits into a page."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from visual_rft.report.held_out import gallery
from visual_rft.report.held_out.gallery import galleries_of
from visual_rft.report.held_out.measured import calibration, class_numbers, confusion, judged, precision_recall
from visual_rft.report.held_out.mistakes import match
from visual_rft.report.payload import embedded, payload
from visual_rft.report.questions import Pictures
from visual_rft.report.reading import read_run
from visual_rft.tasks import Sample, load_task
from visual_rft.tasks.samples import Prediction

TRUTH = [0, 0, 10, 10]


@pytest.mark.parametrize(
    ("truth", "boxes", "confidence", "others", "kinds", "missed"),
    [
        ([TRUTH], [TRUTH], [0.5], [], ["right"], []),
        ([TRUTH], [], [], [], [], [0]),
        ([TRUTH], [[0, 0, 10, 5]], [0.5], [], ["right"], []),  # an IoU of exactly 0.5
        ([TRUTH], [[0, 0, 10, 4.9]], [0.5], [], ["badly placed"], []),
        ([TRUTH], [[0, 0, 10, 0.9]], [0.5], [], ["false positive"], [0]),
        ([TRUTH], [TRUTH, TRUTH], [0.4, 0.9], [], ["duplicate", "right"], []),
        ([TRUTH], [[50, 50, 60, 60]], [0.5], [[50, 50, 60, 61]], ["other class"], [0]),
        ([], [TRUTH], [0.5], [], ["false positive"], []),
        ([TRUTH, [1, 0, 11, 10]], [TRUTH, TRUTH], [0.9, 0.8], [], ["right", "right"], []),
    ],
)  # fmt: skip
def test_kinds_of_mistake(truth, boxes, confidence, others, kinds, missed):
    found = match(truth, boxes, confidence, others)
    assert (found.kinds, found.missed) == (kinds, missed)


def row(name: str, category: str, truth: list, boxes: list | None, confidence: list | None = None, **more) -> dict:
    answer = None if boxes is None else {"boxes": boxes, "confidence": confidence or [0.5] * len(boxes)}
    completion = {"text": "words", "answer": answer, "failure": None if boxes is not None else "no answer block",
                  "total": 1.0, "rewards": {}, "notes": []}  # fmt: skip
    return {"id": f"{name}/{category}", "images": [f"small/{name}.png"], "image_size": [100, 100], "prompt": "p",
            "question": {"category": category}, "truth": {"boxes": truth, "image_size": [100, 100]},
            "completion": {**completion, **more}}  # fmt: skip


ROWS = [
    row("a", "cat", [[0, 0, 20, 20]], [[0, 0, 20, 20]], [0.9]),
    row("a", "dog", [[50, 50, 80, 80]], [[0, 0, 20, 21], [50, 50, 80, 79]], [0.8, 0.7]),
    row("b", "cat", [[10, 10, 40, 40], [60, 60, 90, 90]], [[12, 12, 40, 40]], [0.6]),
    row("b", "dog", [], None),
]


def test_average_precision_is_that_of_the_headline():
    """The same answers through the task's own metrics."""
    task = load_task("detection")
    predictions = []
    for one in ROWS:
        sample = Sample(one["id"], (picture_reference(one["images"][0]),), "detection", one["question"], one["truth"])
        answer = one["completion"]["answer"]
        rows = [{"Position": box, "Confidence": c} for box, c in zip(answer["boxes"], answer["confidence"], strict=True)
                ] if answer else []  # fmt: skip
        text = f"<think>x</think><answer>{rows}</answer>" if answer else ""
        predictions.append(Prediction(sample, text, task.score(text, {**one["truth"], "image_size": [1000, 1000]})))
    headline = task.metrics(predictions)
    numbers = class_numbers(judged(ROWS))
    assert {name: count for name, (_, count) in numbers.items()} == {"cat": 3, "dog": 1}
    assert sum(ap for ap, _ in numbers.values()) / 2 == pytest.approx(headline["AP"], abs=1e-6)


def picture_reference(key: str):
    from visual_rft.vision.images import RenderedImage

    return RenderedImage(key, lambda: Image.new("RGB", (100, 100)))


def test_mistakes_of_a_data_set():
    found = judged(ROWS)
    assert [dict(one.kinds) for one in found] == [{}, {"other class": 1}, {"missed": 1}, {"not readable": 1}]
    table = confusion(found)
    assert table["rows"] == ["cat", "dog", "(nothing)"]
    assert table["columns"] == ["cat", "dog", "(missed)"]
    assert table["counts"] == [[2, 1, 1], [0, 1, 0], [0, 0, 0]], "one cat was found as a dog, one was missed"


def test_precision_over_recall_and_calibration():
    """Confidences 0.9 right, 0.8 wrong, 0.7 right, 0.6 right; four true boxes."""
    points = dict(map(tuple, precision_recall(judged(ROWS))))
    assert (points[0.0], points[0.24], points[0.26], points[0.74], points[0.76]) == (1, 1, 0.75, 0.75, 0)
    assert [(round(c, 2), right, count) for c, right, count in calibration(judged(ROWS))] == [
        (0.6, 1, 1), (0.7, 1, 1), (0.8, 0, 1), (0.9, 1, 1)
    ]  # fmt: skip


def test_names_and_tasks_of_ones_own():
    def said(truth: dict, answer: object) -> dict:
        done = {"text": "", "answer": answer, "failure": None, "total": 0.0}
        return {"id": str(truth), "question": {}, "truth": truth, "completion": done}

    rows = [said({"label": "cat"}, "Cat"), said({"label": "cat"}, "dog"), said({"label": "dog"}, "cow"),
            said({"label": "dog"}, None)]  # fmt: skip
    found = judged(rows)
    assert [dict(one.kinds) for one in found] == [{}, {"wrong": 1}, {"wrong": 1}, {"wrong": 1}]
    assert class_numbers(found) == {"cat": (0.5, 2), "dog": (0.0, 2)}
    table = confusion(found)
    assert table["columns"] == ["cat", "dog", "(no answer)", "(another name)"]
    assert table["counts"] == [[1, 1, 0, 0], [0, 0, 1, 1]]
    counted = judged([said({"count": 3}, 3), said({"count": 3}, 4)])
    assert [dict(one.kinds) for one in counted] == [{}, {"wrong": 1}]
    assert class_numbers(counted) == {}
    assert confusion(counted) is None


def worded(task: str, truth: dict, text: str, **options) -> dict:
    """A line as a run keeps it: scored by its task."""
    score = load_task(task, **options).score(f"<think>x</think><answer>{text}</answer>", truth)
    done = {"text": text, "answer": score.answer, "failure": score.failure, "rewards": dict(score.parts)}
    kept = {name: value for name, value in truth.items() if name != "segmentation"}
    return {"id": text, "task": task, "question": {}, "truth": kept, "completion": done}


BOXED = {"boxes": [[10, 10, 50, 50], [60, 60, 90, 90]], "image_size": [100, 100]}
FLOWER = {"label": "red poppy", "synonyms": ["Papaver rhoeas"]}


@pytest.mark.parametrize(
    ("task", "truth", "right", "wrong", "options"),
    [
        ("classification", FLOWER, "The Red_Poppy.", "poppy", {}),
        ("classification", FLOWER, "papaver rhoeas", "papaver", {}),
        ("classification", FLOWER, "Papaver rhoeas.", "rose", {"weights": {"hierarchy": 1}}),
        ("counting", {"count": 3, "image_size": [9, 9]}, "3", "4", {}),
        ("counting", BOXED, "2", "3", {}),
        ("pointing", {"box": [10, 10, 50, 50], "image_size": [100, 100]}, "(200,300)", "(900,900)", {}),
        ("pointing", BOXED, "(200,300), (700,700)", "(200,300)", {"every": True}),
        ("vqa", {"choice": "B", "choices": ["a cup", "a plate"]}, "B", "A", {}),
        ("vqa", {"number": 12, "tolerance": 0.5, "unit": "cm"}, "11.8 cm", "11 cm", {}),
        ("vqa", {"answer": "a cup", "synonyms": ["mug"]}, "mug", "plate", {}),
        ("segmentation", {"segmentation": [[10, 10, 50, 10, 50, 50, 10, 50]], "image_size": [100, 100]},
         "{'Position': [100, 100, 500, 500], 'Points': [[300, 300]]}",
         "{'Position': [600, 600, 900, 900], 'Points': [[700, 700]]}", {}),
        ("segmentation", {"segmentation": None, "image_size": [100, 100]}, "No Objects",
         "{'Position': [600, 600, 900, 900], 'Points': [[700, 700]]}", {}),
    ],
)  # fmt: skip
def test_an_answer_that_the_run_rewarded_is_no_mistake(task, truth, right, wrong, options):
    found = judged([worded(task, truth, right, **options), worded(task, truth, wrong, **options)])
    assert [dict(one.kinds) for one in found] == [{}, {"wrong": 1}]
    table = confusion([*found, *judged([row("z", "z", [], [])])]) if task == "classification" else None
    assert table is None or table["counts"][0][0] == 1, "it is called by its own name"


def test_a_box_of_many_classes_is_right_under_its_own_label_only():
    truth = {"boxes": [[0, 0, 20, 20], [50, 50, 80, 80]], "labels": ["cat", "dog"], "categories": ["cat", "dog"]}
    said = {"boxes": [[50, 50, 80, 80], [0, 0, 20, 20]], "labels": ["Dog", "dog"], "confidence": [0.9, 0.8]}
    (one,) = judged([{**row("a", "", [], []), "truth": truth, "completion": {"answer": said, "failure": None}}])
    assert one.matched.kinds == ["right", "other class"]
    assert one.matched.missed == [0]


def test_confidences_are_not_rounded():
    """0.704 and 0.701 are 0.70 on the page, and rank all the same."""
    rows = [row("a", "cat", [[0, 0, 20, 20]], [[50, 50, 70, 70], [0, 0, 20, 20]], [0.701, 0.704])]
    assert judged(rows)[0].confidence == [0.701, 0.704]
    assert class_numbers(judged(rows)) == {"cat": (pytest.approx(1.0), 1)}


def run_with(folder: Path, evaluations: dict[int, list[dict]]) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    (folder / "small").mkdir()
    (folder / "config.yaml").write_text("run: {steps: 3}\n")
    for step, rows in evaluations.items():
        content = {"AP": 0.5, "n_questions": 4, "step": step, "examples": []}
        (folder / "evaluation" / f"step-{step:06d}.json").write_text(json.dumps(content))
        lines = "".join(json.dumps(one) + "\n" for one in rows)
        (folder / "evaluation" / f"step-{step:06d}.answers.jsonl").write_text(lines)
        for one in rows:
            Image.new("RGB", (100, 100)).save(folder / one["images"][0])
    return folder


def test_the_first_and_the_last_evaluation_are_shown(tmp_path):
    nothing = [{**one, "completion": {**one["completion"], "answer": {"boxes": [], "confidence": []}}} for one in ROWS]
    run = read_run(run_with(tmp_path / "run", {0: nothing, 2: nothing, 3: ROWS}))
    (shown,) = payload([run], embedded([run]))["runs"]
    found = shown["galleries"][0]
    assert found["steps"] == [0, 3]
    assert found["kinds"] == {"missed": [4, 1], "other class": [0, 1], "not readable": [1, 1]}
    assert [one["name"] for one in found["classes"]] == ["cat", "dog"], "the best first"
    assert [len(one["answers"]) for one in found["questions"]] == [2] * 4
    assert found["questions"][1]["sizes"] == ["small"]
    assert found["left_out"] is None


def test_what_does_not_fit_is_left_out_evenly_and_said(tmp_path, monkeypatch):
    rows = [row(f"{n:02d}", "cat", [[0, 0, 20, 20]], []) for n in range(40)]
    run = read_run(run_with(tmp_path / "run", {3: rows}))
    monkeypatch.setattr(gallery, "TEXT_BUDGET", 10 * 305)
    (found,) = galleries_of(run, 0, Pictures(lambda file: file.name), ["detection"])
    assert len(found["questions"]) == 10
    places = [int(one["id"][:2]) for one in found["questions"]]
    assert places == sorted(places)
    assert max(b - a for a, b in pairwise(places)) <= 8, "evenly"
    assert found["kinds"] == {"missed": [40]}, "the numbers are of all"
    assert "10 of the 40 with kept answers fit into this page" in found["left_out"]


def test_boxes_without_a_confidence_are_said_with_what_ranks_them(tmp_path):
    rows = [row("a", "cat", [[0, 0, 20, 20]], [[0, 0, 20, 20]], [1.0])]
    rows[0]["completion"]["answer"] |= {"unstated": [0], "token_scores": [0.8], "scores": [0.8]}
    run = read_run(run_with(tmp_path / "run", {3: rows}))
    (found,) = galleries_of(run, 0, Pictures(lambda file: file.name), ["detection"])
    assert found["left_out"].endswith("; 1 box without a confidence: 1 ranked by its tokens")
    assert found["questions"][0]["answers"][0]["labels"] == ["0.80"]


def test_a_run_without_kept_answers_has_no_gallery(tmp_path):
    run = read_run(run_with(tmp_path / "run", {}))
    assert galleries_of(run, 0, Pictures(lambda file: file.name), ["detection"]) == []


def test_a_torn_line_is_left_out_and_named(tmp_path):
    folder = run_with(tmp_path / "run", {3: ROWS})
    with (folder / "evaluation" / "step-000003.answers.jsonl").open("a") as file:
        file.write('{"id": "torn')
    run = read_run(folder)
    assert len(run.answers(3)) == 4
    assert "the last, is cut off" in run.problems[0]
