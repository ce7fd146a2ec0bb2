"""``visual-rft evaluate`` as it is used from outside: files, one model, several models."""

from __future__ import annotations

import copy
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.box_sets import lvis_set, random_set

from visual_rft.answering.local import LocalModel
from visual_rft.cli.main import main
from visual_rft.tasks.metrics.coco import LVIS_NAMES, average_precision, box_precision

ROOT = Path(__file__).parent.parent.parent
KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def write(folder: Path, truth, results) -> list[str]:
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "pred.json").write_text(json.dumps(results))
    return [
        "evaluate",
        "detection",
        "--json",
        "--annotations",
        str(folder / "gt.json"),
        "--predictions",
        str(folder / "pred.json"),
    ]


def test_the_contract_of_evaluate_detection(tmp_path):
    """In a process of its own: JSON alone on standard output, messages on standard error, no torch."""
    truth, results = random_set(3, crowded=0.2)
    for annotation in truth["annotations"]:
        del annotation["area"]
    code = (
        "import sys; from visual_rft.cli.main import main; "
        "rc = main(sys.argv[1:]); sys.exit(rc or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, *write(tmp_path, truth, results)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers = json.loads(done.stdout)
    assert list(numbers) == KEYS
    assert numbers == average_precision(truth, results)
    assert all(-1 <= value <= 1 for value in numbers.values())
    assert "annotations have no area" in done.stderr


def test_no_predictions_and_undefined_numbers(tmp_path, capsys):
    truth, _ = random_set(0)
    small = [{**a, "bbox": [5, 5, 10, 10], "area": 100} for a in truth["annotations"]]
    assert main(write(tmp_path, {**truth, "annotations": small}, [])) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["AP"] == numbers["APs"] == numbers["AR100"] == 0
    assert numbers["APm"] == numbers["APl"] == numbers["ARl"] == -1


def test_lvis_rules(tmp_path, capsys):
    truth, results = lvis_set(4)
    assert main([*write(tmp_path, truth, results), "--rules", "lvis"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert tuple(numbers) == LVIS_NAMES
    assert numbers == box_precision(truth, results, "lvis").numbers
    assert main(write(tmp_path, truth, results)) == 0
    assert "looks like LVIS; --rules lvis" in capsys.readouterr().err


def test_report(tmp_path, capsys):
    truth, results = random_set(5)
    report = tmp_path / "new" / "report.json"
    assert main([*write(tmp_path, truth, results), "--report", str(report)]) == 0
    numbers = json.loads(capsys.readouterr().out)
    content = json.loads(report.read_text())
    assert {key: content[key] for key in KEYS} == numbers
    assert set(content["per_class"]) == {"class 1", "class 2", "class 3", "class 5"}
    low, high = content["intervals"]["AP"]
    assert low < numbers["AP"] < high


def test_predictions_of_unknown_classes_are_left_out_and_said(tmp_path, capsys):
    truth, results = random_set(6)
    strange = [{**results[0], "category_id": 77}] * 3
    assert main(write(tmp_path, truth, [*strange, *results])) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == average_precision(truth, results)
    assert "3 predictions left out: the annotations list no category 77" in captured.err


def changed(**fields):
    return lambda row: row.update(fields)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("predictions", changed(image_id=12345), "row 2: image_id 12345 is not among the annotated images"),
        ("predictions", changed(bbox=[1, 2, float("nan"), 4]), "row 2: bbox [1, 2, nan, 4] is not four finite numbers"),
        ("predictions", changed(bbox=[1, 2, -3, 4]), "row 2: bbox [1, 2, -3, 4] has a negative size"),
        ("predictions", changed(bbox=[1, 2, 3]), "row 2: bbox [1, 2, 3] is not four finite numbers"),
        ("predictions", changed(score=float("inf")), "row 2: score inf is not a finite number"),
        ("predictions", changed(score="0.9"), "row 2: score '0.9' is not a finite number"),
        ("predictions", lambda row: row.pop("score"), "row 2: score None is not a finite number"),
        ("predictions", lambda row: row.pop("category_id"), "row 2: has no 'category_id'"),
        ("annotations", changed(image_id=12345), "annotations[2]: image_id 12345 is not among the annotated images"),
        ("annotations", changed(category_id=4), "annotations[2]: category_id 4 is not in 'categories'"),
        ("annotations", changed(bbox="x"), "annotations[2]: bbox 'x' is not four finite numbers"),
        ("annotations", changed(area=None), "annotations[2]: area None is not a number"),
        ("annotations", changed(id=1), "annotations[2]: id 1 is used twice"),
        ("annotations", changed(id=1.5), "annotations[2]: id 1.5 is not a whole number or a text"),
        ("images", changed(id="a"), "images: some ids are numbers and some texts"),
        ("categories", changed(id=1), "categories[2]: id 1 is used twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path, capsys, part, change, message):
    truth, results = copy.deepcopy(random_set(3))
    rows = {"predictions": results, **truth}[part]
    change(rows[2])
    assert main(write(tmp_path, truth, results)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert ("pred.json" if part == "predictions" else "gt.json") in captured.err


@pytest.mark.parametrize(
    ("annotations", "predictions", "message"),
    [
        ("{", "[]", "gt.json: not valid JSON"),
        ("[]", "[]", "gt.json: the top level is a list"),
        ('{"images": [], "annotations": []}', "[]", "gt.json: has no list 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "[]", "gt.json: lists no images"),
        ('{"images": [{"id": 1}], "annotations": [7], "categories": []}', "[]", "annotations[0]: id None"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "{}", "pred.json: the top level is a dict"),
        (
            '{"images": [{"id": 1}], "annotations": [], "categories": []}',
            "[5]",
            "pred.json: row 0: is 5, not an object",
        ),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "\xff", "pred.json: line 1: not UTF-8"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path, capsys, annotations, predictions, message):
    command = write(tmp_path, [], [])
    (tmp_path / "gt.json").write_text(annotations)
    (tmp_path / "pred.json").write_text(predictions, encoding="latin-1")
    assert main(command) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "evaluate needs a CONFIG.yaml"),
        (["detection"], "needs --annotations gt.json and --predictions pred.json"),
        (["detection", "--annotations", "no.json", "--predictions", "no.json"], "no.json: no such file"),
        (["detection", "--model", "tiny"], "--model: evaluate detection scores a file"),
        (
            ["detection", "--annotations", "a", "--predictions", "b", "--run.steps", "3"],
            "--run.steps: evaluate detection scores a file",
        ),
        (["CONFIG", "--predictions", "b"], "--predictions: only 'evaluate detection' scores a file"),
        (["CONFIG", "--batch", "0"], "--batch: 0 is not at least 1"),
        (["CONFIG", "--classes", "coin"], "--classes needs one of --protocol"),
        (["CONFIG", "--rules", "lvis"], "--rules lvis needs one of --protocol"),
        (["CONFIG", "--protocol", "all", "--classes", "con"], "there is no class 'con' in the data"),
        (["CONFIG", "--protocol", "all", "--task", "classification"], "only detection has protocols"),
        (["CONFIG", "--segmenter", "x"], "--segmenter: the task 'detection' has no masks"),
        (["CONFIG", "--segmenter", "x", "--protocol", "all"], "--segmenter: detection has no masks"),
        (["SHAPES", "--segmenter", "x", "--task", "grounding"], "has no true mask (truth.segmentation)"),
        (["CONFIG", "--folder", "USED"], "is not empty and holds no evaluation"),
        (["CONFIG", "--protocol", "all", "--classes", ""], "--classes: '' names nothing"),
        (["CONFIG", "--server-model", "x"], "--server-model is the name on a server; say which with --server URL"),
        (["CONFIG", "--model", "./none"], "'./none' is not a model folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path, coins, capsys, arguments, message):
    shapes = tmp_path / "shapes.yaml"
    shapes.write_text("data: {evaluation: [{source: shapes, count: 2}]}")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("years of work")
    names = {"CONFIG": str(coins), "SHAPES": str(shapes), "USED": str(tmp_path / "used")}
    assert main(["evaluate", *(names.get(word, word) for word in arguments)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.splitlines()[-1].startswith("visual-rft: ")
    assert captured.out == ""


@pytest.fixture
def coins(tmp_path, model_folders) -> Path:
    """A config that evaluates a tiny random model on a folder of six images."""
    runpy.run_path(str(ROOT / "examples" / "make_coco_folder.py"))["make_coco_folder"](tmp_path / "coins", images=6)
    values = {
        "model": {"path": str(model_folders["qwen3_vl"])},
        "data": {"evaluation": [{"source": "coco", "path": str(tmp_path / "coins")}]},
        "rollout": {"max_new_tokens": 4},
        "run": {"folder": str(tmp_path / "run")},
    }
    file = tmp_path / "coins.yaml"
    file.write_text(json.dumps(values))
    return file


@pytest.mark.parametrize("protocol", ["asked", "present", "all", "said"])
def test_every_protocol_is_named_in_table_and_files(tmp_path, coins, capsys, protocol):
    assert main(["evaluate", str(coins), "--protocol", protocol]) == 0
    printed = capsys.readouterr().out
    assert f"| protocol: {protocol}, 6 images" in printed
    assert ("| images with the lowest reward" in printed) == (protocol != "said"), "the model names no class to ask for"
    assert main(["evaluate", str(coins), "--protocol", protocol, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(KEYS) <= result.keys()
    assert result["protocol"] == protocol
    assert re.search(rf"\n\| AP +\| {result['AP']:.3f} ", printed)
    assert len(result["worst_images"]) <= 6
    rewards = [row["reward"] for row in result["worst_images"]]
    assert rewards == sorted(rewards)
    folder = Path(result["folder"])
    assert folder.parent == tmp_path / "run-evaluation"
    assert json.loads((folder / "result.json").read_text()) == result
    assert main(["evaluate", "detection", "--json", "--annotations", str(folder / "annotations.json"),
                 "--predictions", str(folder / "predictions.json")]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out) == {key: result[key] for key in KEYS}


def test_an_interrupted_evaluation_continues(coins, capsys, monkeypatch):
    command = ["evaluate", str(coins), "--json", "--protocol", "all", "--batch", "2"]
    asked = []
    ask = LocalModel.ask

    def stopping(model, groups, batch):
        nonlocal asked
        for number, pairs in enumerate(ask(model, groups, batch)):
            if len(asked) == 2:
                raise KeyboardInterrupt
            asked += [number] * bool(groups[number])
            yield pairs

    monkeypatch.setattr(LocalModel, "ask", stopping)
    assert main(command) == 130
    assert "interrupted; the same command continues" in capsys.readouterr().err
    monkeypatch.setattr(LocalModel, "ask", ask)
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "2 of 6 images were answered before" in captured.err
    whole = json.loads(captured.out)
    settings = json.loads((Path(whole["folder"]) / "settings.json").read_text())
    assert settings.keys() == {"model", "weights", "task", "protocol", "classes", "max_new_tokens", "data", "questions",
                               "versions"}, "a folder made before would not be found again"  # fmt: skip
    assert main([*command, "--folder", str(Path(whole["folder"]).parent / "again")]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {**again, "folder": ""} == {**whole, "folder": ""}


def test_a_folder_of_other_settings_is_refused(tmp_path, coins, capsys):
    folder = ["--folder", str(tmp_path / "mine")]
    assert main(["evaluate", str(coins), *folder]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(coins), *folder, "--rollout.max_new_tokens", "5"]) == 2
    assert "holds an evaluation with another 'max_new_tokens'" in capsys.readouterr().err


def test_comparison_of_two_models(coins, model_folders, capsys):
    first, second = str(model_folders["qwen3_vl"]), str(model_folders["qwen2_vl"])
    models = ["--model", first, "--model", second, "--model", first]
    assert main(["evaluate", str(coins), *models]) == 0
    printed = capsys.readouterr().out
    assert main(["evaluate", str(coins), *models, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in result["models"]] == [first, second, first]
    (_, same) = result["differences"]
    assert same["minus"] == first
    assert same["mean_iou"] == {"difference": 0, "interval": [0, 0]}, "a model does not differ from itself"
    heads = [cell.strip() for cell in printed.splitlines()[0].strip("|").split("|")]
    assert heads == [
        "protocol: asked, 6 images", f"1: {first}", f"2: {second}", f"3: {first}", "2 - 1 (95 %)", "3 - 1 (95 %)"
    ]  # fmt: skip


def test_models_of_a_run_need_no_config(coins, tmp_path, model_folders, capsys):
    run = tmp_path / "some-run"
    run.mkdir()
    (run / "config.yaml").write_text(coins.read_text())
    (run / "checkpoints").symlink_to(model_folders["qwen3_vl"])
    assert main(["evaluate", "--json", "--model", str(run / "checkpoints")]) == 0
    assert json.loads(capsys.readouterr().out)["n_images"] == 6


def test_classification_leaves_a_confusion_picture(tmp_path, model_folders, capsys):
    values = {
        "model": {"path": str(model_folders["qwen3_vl"])},
        "task": {"name": "classification"},
        "data": {"evaluation": [{"source": "flowers", "count": 4}]},
        "rollout": {"max_new_tokens": 4},
        "run": {"folder": str(tmp_path / "run")},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(values))
    assert main(["evaluate", str(tmp_path / "c.yaml"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"top1_strict", "top1_lenient", "mean_class_accuracy"} <= result["intervals"].keys()
    with Image.open(Path(result["folder"]) / "confusion.png") as picture:
        assert picture.size > (300, 100)


def test_a_task_of_ones_own_is_evaluated(tmp_path, model_folders, capsys):
    values = {
        "model": {"path": str(model_folders["qwen3_vl"])},
        "task": {"name": f"{ROOT / 'examples' / 'counting.py'}:Counting"},
        "data": {"evaluation": [{"source": "shapes", "count": 3}]},
        "rollout": {"max_new_tokens": 4},
        "run": {"folder": str(tmp_path / "run")},
    }
    (tmp_path / "own.yaml").write_text(json.dumps(values))
    assert main(["evaluate", str(tmp_path / "own.yaml"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["intervals"].keys() == {"accuracy", "mean_error"}


def test_a_task_of_ones_own_that_answers_boxes_is_measured_by_cocos_rules(coins, capsys):
    task = ["--task", f"{ROOT / 'tests' / 'support' / 'own_task.py'}:Finder"]
    for protocol in ("asked", "all"):
        assert main(["evaluate", str(coins), "--json", "--protocol", protocol, *task]) == 0
        result = json.loads(capsys.readouterr().out)
        assert set(KEYS) <= result.keys()
        assert result["rules"] == "coco"
        assert (Path(result["folder"]) / "predictions.json").exists()
    assert main(["evaluate", str(coins), "--protocol", "said", *task]) == 2
    error = capsys.readouterr().err
    assert "--protocol said: the task 'finder' has no classes_prompt that asks for the classes" in error
