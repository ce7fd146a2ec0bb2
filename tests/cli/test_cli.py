"""The command line as a newcomer meets it: one clear line per mistake, exit code 2, no traceback."""

from __future__ import annotations

import argparse
import json
import re
import runpy
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from visual_rft.cli.arguments import OTHER_NAMES, split_fields
from visual_rft.cli.main import VERBS, main, make_parser
from visual_rft.config.describe import describe

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def coco_folder(tmp_path):
    """The folder that the example script makes."""
    module = runpy.run_path(str(ROOT / "examples" / "make_coco_folder.py"))
    module["make_coco_folder"](tmp_path / "coins", images=6, seed=0)
    return tmp_path / "coins"


def run_config(tmp_path: Path, model: Path, coco: Path, **run) -> Path:
    source = [{"source": "coco", "path": str(coco)}]
    values = {
        "model": {"path": str(model)},
        "data": {"train": source, "evaluation": source},
        "rollout": {"group_size": 2, "max_new_tokens": 6},
        "run": {"folder": str(tmp_path / "run"), "steps": 1, "prompts_per_batch": 2, **run},
    }
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(values))  # JSON is YAML
    return file


def test_a_coco_folder_trains_and_evaluates(tmp_path, coco_folder, model_folders, capsys, monkeypatch):
    file = run_config(tmp_path, model_folders["qwen3_vl"], coco_folder)
    assert main(["train", str(file)]) == 0
    out = capsys.readouterr().out
    assert "step 1/1 | iou" in out
    assert "evaluation after 1 steps | AP" in out
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000001" / "model"
    assert f"model     {checkpoint}" in out
    assert re.search(r"^held-out images +base +after RFT +change\nAP +\d\.\d{3} +\d\.\d{3} +[+-]\d\.\d{3}$", out, re.M)
    commands = [shlex.split(line)[1:] for line in out[out.index("next:") :].splitlines()[1:]]
    assert [words[0] for words in commands] == ["predict", "evaluate", "export"]
    monkeypatch.chdir(tmp_path)
    for words in commands:
        assert main(words) == 0, words  # they run as they stand
    capsys.readouterr()
    assert main(["evaluate", str(file), "--model.path", str(checkpoint), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n_images"] == 6
    assert {"AP", "AP50", "AP75", "mean_iou", "format_rate", "parse_rate"} <= result.keys()


def test_predict_writes_the_picture(tmp_path, model_folders, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (90, 70), (250, 250, 250)).save(tmp_path / "a.png")
    arguments = ["predict", str(tmp_path / "a.png"), "--ask", "red circle", "--model", str(model_folders["qwen3_vl"])]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["answer"] is None
    assert result["failure"] is not None  # a random model writes no answer, and is told so
    assert result["picture"] == "answers/a.answer.png"
    assert [file.name for file in tmp_path.glob("*")] in (["a.png", "answers"], ["answers", "a.png"])
    with Image.open(result["picture"]) as picture:
        assert picture.width >= 512


def broken(change):
    """A mistake in the annotations file."""

    def apply(folder: Path) -> None:
        file = folder / "annotations.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("flags", "damage", "message"),
    [
        pytest.param([], lambda f: next(f.glob("*.png")).unlink(), "no file", id="missing image"),
        pytest.param([], lambda f: (f / "annotations.json").write_text("{"), "not valid JSON", id="broken JSON"),
        pytest.param(
            [], broken(lambda c: c["annotations"][0].update(bbox=[90, 90, 500, 5])), "outside its", id="box outside"
        ),
        pytest.param(
            [], broken(lambda c: c["annotations"][0].update(bbox=[9, 9, -3, 5])), "has no area", id="x2 <= x1"
        ),
        pytest.param(["--rollout.group_sizes", "4"], None, "did you mean 'group_size'", id="unknown key"),
        pytest.param(["--rollout.group_size", "1"], None, "use at least 2", id="G = 1"),
        pytest.param(["--task.name", "detectoin"], None, "did you mean 'detection'", id="unknown task"),
        pytest.param(["--run.folder", "FILE/run"], None, "cannot make this run folder", id="no permission"),
        pytest.param(["--run.folder", "HERE"], None, "exists already", id="existing folder"),
        pytest.param(["--model.path", "./none"], None, "is not a model folder", id="no model"),
        pytest.param(["--task.weights", "{iuo: 1}"], None, "unknown reward 'iuo'", id="unknown reward"),
        pytest.param(["--task.weights.iou", "1"], None, "name them all at once", id="one weight of many"),
        pytest.param(["--task.options.tau", "1"], None, "has no option 'tau'", id="unknown option"),
    ],
)
def test_mistakes_are_one_line(tmp_path, coco_folder, model_folders, capsys, flags, damage, message):
    file = run_config(tmp_path, model_folders["qwen3_vl"], coco_folder)
    (tmp_path / "file").write_text("")
    flags = [f.replace("FILE", str(tmp_path / "file")).replace("HERE", str(tmp_path)) for f in flags]
    if damage:
        damage(coco_folder)
    assert main(["train", str(file), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("visual-rft: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "run").exists(), "a mistake leaves no run folder behind"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "none.png", "--ask", "cat"], "none.png: no such image file"),
        (["train", "none.yaml"], "none.yaml: cannot be read"),
        (["evaluate", "none.yaml"], "none.yaml: cannot be read"),
        (["sft", "none.yaml"], "none.yaml: cannot be read"),
    ],
)
def test_missing_files_are_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "'trian'; did you mean 'train'?"),
        ("data fewshot", "'fewshot'; did you mean 'few-shot'?"),
        ("evaluate --protcol all", "unknown flag '--protcol'; did you mean '--protocol'?"),
        ("evaluate run.yaml --protocol al", "unknown 'al'; did you mean 'all'?"),
        ("data few-shot --formt coco --out x", "unknown flag '--formt'; did you mean '--format'?"),
        ("score --no_think", "did you mean '--no-think'?"),
        ("train run.yaml --step 3", "did you mean '--run.steps'?"),
        ("sft run.yaml --learning-rate 1e-4", "did you mean '--optimizer.learning_rate'?"),
        ("train run.yaml --lr 1e-4", "unknown flag '--lr'; did you mean '--optimizer.learning_rate'?"),
        ("train run.yaml --num-generations=4", "did you mean '--rollout.group_size'?"),
        ("train run.yaml --resum", "did you mean '--resume'?"),
        ("demo --sede 1", "did you mean '--seed'?"),
        ("check run.yaml --xyzzy", "unknown flag '--xyzzy'; --help lists all"),
        ("check run.yaml other.yaml", "'other.yaml' is one too many"),
        ("predict a.png", "required: --ask"),
    ],
)
def test_wrong_usage_suggests_what_was_meant(line, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "usage: visual-rft" in error
    assert message in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run.step", "3"], "run.step: unknown key; did you mean 'steps'?"),
        (["--rnu.steps", "3"], "rnu: unknown key; did you mean 'run'?"),
        (["--data.train.0.cuont", "3"], "data.train.0.cuont: unknown key; did you mean 'count'?"),
        (["--model.lora.rnak=4"], "model.lora.rnak: unknown key; did you mean 'rank'?"),
        (["--run.steps"], "'--run.steps' has no value"),
        (["--task", "detectoin"], "did you mean 'detection'?"),
    ],
)
def test_wrong_fields_suggest_what_was_meant(flags, message, tmp_path, coco_folder, model_folders, capsys):
    file = run_config(tmp_path, model_folders["qwen3_vl"], coco_folder)
    assert main(["train", *flags, str(file)] if len(flags) == 2 else ["train", str(file), *flags]) == 2
    assert message in capsys.readouterr().err


def parsers(parser=None, name="visual-rft"):
    """Every parser by the words that lead to it."""
    parser = parser or make_parser()
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, made in action.choices.items():
                yield from parsers(made, f"{name} {verb}")


@pytest.mark.parametrize("name", [name for name, _ in parsers()])
def test_every_help_has_an_example_that_parses(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*name.split()[1:], "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    example = text[text.index("example: ") + len("example: ") :].strip()
    assert example.startswith(name if name != "visual-rft data" else "visual-rft data ")
    assert "\n" not in example
    words = shlex.split(example)[1:]
    if "--help" not in words:
        make_parser().parse_args(split_fields(words)[0])


def test_every_argument_is_explained():
    for name, parser in parsers():
        for action in parser._actions:
            assert action.help or action.choices, f"{name}: {action.option_strings or action.dest}"


def test_without_arguments_the_help_is_shown(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert {line.split()[0] for line in out.splitlines() if line.startswith("    ") and line[4] != " "} >= set(VERBS)


def test_a_reader_that_has_seen_enough():
    """``visual-rft train --fields | head -1`` ends without a traceback."""
    command = f'{sys.executable} -m visual_rft score --task classification --truth \'{{"label": "a"}}\' --completion x'
    script = f"({command} ; echo code $? >&2) | true"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in ended.stderr


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"visual-rft {version('visual-rft')}\n"


def test_what_other_trainers_call_a_field_is_a_field():
    for name in OTHER_NAMES.values():
        assert f"--{name} " in describe() or f"--{name}.rank " in describe(), name


def test_fields_are_listed(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--fields"])
    assert "--rollout.group_size (default: 8)" in capsys.readouterr().out


def test_the_script_that_makes_an_example_says_what_it_made(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "make_coco_folder.py"), "coins"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert re.match(r"coins: 40 images with \d+ boxes of 2 classes \(coin, button\)\n", ended.stdout)
    assert "  visual-rft init --data coins\n" in ended.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr == "coins: exists already; name a folder that does not\n"
