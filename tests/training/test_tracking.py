"""The run folder as docs/run-folder.md describes it, the console, and trackers."""

from __future__ import annotations

import io
import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from PIL import Image
from rich.console import Console
from support.runs import config

from visual_rft.config.config import Config
from visual_rft.errors import ConfigError, RunFolderError
from visual_rft.inspection.look import spread
from visual_rft.report.reading import read_run
from visual_rft.tasks import Sample, Score
from visual_rft.training import learner, session
from visual_rft.training.rft import train
from visual_rft.training.run import trackers
from visual_rft.training.run.console import RunConsole, progress_line
from visual_rft.training.run.environment import git_commit
from visual_rft.training.run.folder import RunFolder
from visual_rft.training.sft import train_supervised
from visual_rft.vision.images import RenderedImage

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def run_folder(model_folders, tmp_path_factory):
    """A run with everything in it."""
    folder = tmp_path_factory.mktemp("tracking") / "run"
    run = {"folder": str(folder), "steps": 2, "prompts_per_batch": 2, "evaluate_every": 1, "checkpoint_every": 1}
    train(config(folder, model_folders["qwen3_vl"], objective={"beta": 0.1}, run=run))
    return folder


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_folder_holds_what_its_page_says(run_folder):
    """Every file is named in docs/run-folder.md, and every name there is a file."""
    text = (DOCS / "run-folder.md").read_text()
    tree = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    named = {name.rstrip("/") for line in tree.splitlines() for name in line.split("  ")[0].split(", ")}
    there = {re.sub(r"step-\d{6}", "step-N", str(path.relative_to(run_folder).as_posix())).split("/")[0]
             for path in run_folder.rglob("*")}  # fmt: skip
    assert there == {name.split("/")[0] for name in named} - {"tensorboard", "wandb"}


def documented(heading: str) -> set[str]:
    """The field names in the table of a section of docs/run-folder.md."""
    text = (DOCS / "run-folder.md").read_text()
    section = re.search(rf"^#+ `{re.escape(heading)}`.*?\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]
    return set(re.findall(r"^\| `([^`]+)`", section, re.MULTILINE))


def test_every_field_is_documented(run_folder):
    environment = json.loads((run_folder / "environment.json").read_text())
    assert documented("environment.json") == {*environment, "resumed"}
    row = lines(run_folder / "rollouts" / "step-000000.jsonl")[0]
    completion = row["completions"][0]
    assert documented("rollouts/step-N.jsonl") == {*row, *(f"completions.{name}" for name in completion)}
    evaluation = json.loads((run_folder / "evaluation" / "step-000000.json").read_text())
    assert {"step", "examples"} <= evaluation.keys()
    assert evaluation["examples"][0].keys() == {*row, "completion"} - {"completions", "step"}
    metrics = lines(run_folder / "metrics.jsonl")[0]
    plain = {name for name in metrics if "/" not in name}
    assert documented("metrics.jsonl") == plain | {
        "reward/NAME",
        "seconds/NAME",
        "TASK/reward",
        "sft_loss",
    }  # beside gold answers
    summary = json.loads((run_folder / "summary.json").read_text())
    assert documented("summary.json") == set(summary)


def test_the_environment_says_what_made_it(run_folder):
    environment = json.loads((run_folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == version("torch")
    assert environment["seed"] == 0
    assert environment["device"]
    assert environment["command"]


def test_the_commit_is_that_of_the_package_and_of_nothing_else(tmp_path):
    package = tmp_path / "src" / "visual_rft"
    package.mkdir(parents=True)
    assert git_commit(package) is None

    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    assert git_commit(package) is None, "there is no commit yet"
    (package / "a.py").write_text("")
    git("add", ".")
    git("commit", "-qm", "x")
    commit = git("rev-parse", "HEAD").strip()
    assert git_commit(package) == {"commit": commit, "changed": False}
    (package / "a.py").write_text("1")
    assert git_commit(package) == {"commit": commit, "changed": True}
    elsewhere = tmp_path / ".venv" / "visual_rft"
    elsewhere.mkdir(parents=True)
    assert git_commit(elsewhere) is None, "a repository that holds a virtual environment is not the package's"


def test_rollouts_say_everything_about_an_answer(run_folder):
    row = lines(run_folder / "rollouts" / "step-000001.jsonl")[0]
    with Image.open(run_folder / row["images"][0]) as picture:
        assert list(picture.size) == row["image_size"] == row["truth"]["image_size"]
    assert "Find every" in row["prompt"]
    assert row["question"]["category"] in row["prompt"]
    for completion in row["completions"]:
        assert set(completion["rewards"]) == {"iou", "confidence", "format"}
        assert isinstance(completion["truncated"], bool)
        assert (completion["answer"] is None) == (completion["failure"] is not None)
        assert 1 <= completion["tokens"] <= 8


def test_each_picture_is_stored_once(run_folder):
    used = {name for file in (run_folder / "rollouts").glob("*.jsonl") for row in lines(file) for name in row["images"]}
    for file in (run_folder / "evaluation").glob("*.json"):
        used |= {name for row in json.loads(file.read_text())["examples"] for name in row["images"]}
    assert used == {f"images/{file.name}" for file in (run_folder / "images").iterdir()}
    assert len(used) <= 6 + 2, "six training pictures, two held out"


def test_the_same_questions_are_kept_at_every_evaluation(run_folder):
    evaluations = read_run(run_folder).evaluations
    assert [one["step"] for one in evaluations] == [0, 1, 2]
    kept = [[example["id"] for example in one["examples"]] for one in evaluations]
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == evaluations[0]["n_questions"] <= 8


def test_the_summary_says_before_and_after(run_folder):
    summary = json.loads((run_folder / "summary.json").read_text())
    first, last = (json.loads((run_folder / "evaluation" / f"step-00000{n}.json").read_text()) for n in (0, 2))
    for name in ("AP", "mean_iou", "n_images"):
        assert summary["base"][name] == first[name]
        assert summary["evaluation"][name] == last[name]
    assert "examples" not in summary["base"]
    assert (run_folder / "report.html").is_file()
    assert (run_folder / "plots" / "learning_curve.png").is_file()


def test_the_base_is_evaluated_or_not(model_folders, tmp_path):
    run = {"folder": str(tmp_path / "run"), "steps": 1, "evaluate_base": False, "evaluation_examples": 0}
    summary = train_supervised(config(tmp_path / "run", model_folders["qwen3_vl"], run=run))
    assert "base" not in summary
    evaluations = read_run(tmp_path / "run").evaluations
    assert [one["step"] for one in evaluations] == [1]
    assert evaluations[0]["examples"] == []
    assert not (tmp_path / "run" / "images").exists()


def test_evaluating_the_base_changes_no_step(model_folders, tmp_path):
    for name, base in (("with", True), ("without", False)):
        run = {"folder": str(tmp_path / name), "steps": 2, "evaluate_base": base}
        train(config(tmp_path / name, model_folders["qwen2_vl"], objective={"beta": 0.1}, run=run))
    one, other = (lines(tmp_path / name / "metrics.jsonl") for name in ("with", "without"))
    for name in ("loss", "reward", "length", "kl", "entropy_estimate", "grad_norm"):
        assert [row[name] for row in one] == [row[name] for row in other]


def test_examples_are_spread_over_all_sources():
    assert spread(200, 4) == [0, 50, 100, 150]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(5, 0) == []


def test_a_torn_line_is_named_and_the_run_goes_on(model_folders, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    run = {"folder": str(folder), "steps": 3, "checkpoint_every": 1, "prompts_per_batch": 2}
    whole = config(folder, model_folders["qwen2_vl"], run=run)
    real = learner.save_checkpoint

    def dies(*arguments):
        if arguments[-1] == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(learner, "save_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            train(whole)
    file = folder / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-30])
    capsys.readouterr()
    train(whole, resume=True)
    assert f"warning: {file}: line 2, the last, is cut off; left out" in capsys.readouterr().err
    assert [row["step"] for row in lines(file)] == [0, 1, 2]
    assert [len(lines(folder / "rollouts" / f"step-00000{n}.jsonl")) for n in range(3)] == [2, 2, 2]
    resumed = json.loads((folder / "environment.json").read_text())["resumed"]
    assert [one["after_steps"] for one in resumed] == [1]
    assert "base" in json.loads((folder / "summary.json").read_text())


def test_numbers_that_are_not_finite_are_null_and_named(tmp_path, capsys):
    RunFolder(tmp_path).append_metrics({"step": 4, "kl": float("inf"), "loss": 1.0})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 4, "kl": None, "loss": 1.0}]
    assert capsys.readouterr().err == "warning: step 4: not finite: kl\n"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "evaluation").write_text("")
    with pytest.raises(RunFolderError, match=r"a.json: cannot be written"):
        RunFolder(tmp_path).write_json("evaluation/a.json", {})
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(RunFolderError, match=r"metrics.jsonl: cannot be written"):
        RunFolder(tmp_path).append_metrics({"step": 0})


def test_a_large_picture_is_stored_as_a_smaller_jpeg(tmp_path):
    folder = RunFolder(tmp_path)
    large = RenderedImage("large", lambda: Image.new("RGB", (3000, 1500)))
    small = RenderedImage("small", lambda: Image.new("RGB", (300, 150), (1, 2, 3)))
    names = [folder._store_image(image) for image in (large, small, large)]
    assert names[0] == names[2]
    with Image.open(tmp_path / names[0]) as one, Image.open(tmp_path / names[1]) as other:
        assert (one.format, one.size) == ("JPEG", (1280, 640))
        assert (other.format, other.getpixel((0, 0))) == ("PNG", (1, 2, 3))


# The console

STEP = {"step": 4, "reward": 1.25, "reward_std": 0.5, "zero_std_share": 0.25, "reward/iou": 0.5,
        "reward/mine": None, "kl": 0.01, "length": 27.4, "truncated_share": 0.0,
        "tokens_per_second": 1200.0, "seconds/step": 1.5}  # fmt: skip


def test_a_pipe_gets_plain_lines():
    output = Console(file=io.StringIO(), force_terminal=False)
    console = RunConsole(10, output=output)
    console.say("a [bold]text[/bold]")
    console.step(STEP)
    console.close()
    assert output.file.getvalue() == (
        "a [bold]text[/bold]\nstep 5/10 | iou 0.50 mine - | total 1.25 ± 0.50 equal 25% | kl 0.0100 | "
        "length 27 cut 0% | 1200 tok/s | 1.5 s a step, about 8 s left\n"
    )


def test_a_log_gets_a_line_every_so_often_with_the_time_that_is_left():
    output, now = Console(file=io.StringIO(), force_terminal=False), [0.0]
    console = RunConsole(200, output=output, clock=lambda: now[0])
    for step in range(200):
        now[0] = 3.0 * step
        console.step({**STEP, "step": step})
    printed = output.file.getvalue().splitlines()
    steps = [int(line.split("/")[0].removeprefix("step ")) for line in printed]
    assert steps == [*range(1, 200, 4), 200], "the first, every ten seconds or a little more, and the last"
    assert printed[0].endswith(" | 1.5 s a step, about 5 min left")
    assert printed[1].endswith(" | 3.0 s a step, about 10 min left")
    assert printed[-1].endswith(" | 3.0 s a step")
    assert max(map(len, printed)) < 140


def test_a_terminal_gets_one_living_line_and_its_cursor_back():
    output = Console(file=io.StringIO(), force_terminal=True, width=160, highlight=False)
    console = RunConsole(10, first_step=3, output=output)
    for step in (3, 4):
        console.step({**STEP, "step": step})
    console.warn("step 5: [odd] words")
    console.close()
    text = output.file.getvalue()
    assert "step 5/10" in text
    assert "reward 1.25 ± 0.50" in text
    assert "warning:" in text
    assert "[odd] words" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor was hidden and is shown again"


def test_an_error_gives_the_terminal_back(model_folders, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(RunConsole, "close", lambda self: closed.append(True))
    monkeypatch.setattr(RunConsole, "step", lambda self, metrics: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(config(tmp_path / "run", model_folders["qwen2_vl"]))
    assert closed == [True]


def test_a_supervised_step_is_a_line_too():
    line = progress_line({"step": 0, "loss": 0.5, "grad_norm": None, "samples_per_second": 10.4}, 3)
    assert line == "step 1/3 | loss 0.5000 | grad norm - | 10 samples/s"


# Trackers


class FakeTracker(GeneralTracker):
    """Remembers what it was told."""

    name = "fake"
    requires_logging_directory = False

    def __init__(self):
        super().__init__()
        self.config, self.logged, self.pictures, self.finished = None, [], [], False

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **_):
        self.logged.append((step, values))

    def log_images(self, values, step=None, **_):
        self.pictures.append((step, values))

    def finish(self):
        self.finished = True


def test_a_tracker_gets_config_metrics_and_pictures(model_folders, tmp_path, monkeypatch):
    fake = FakeTracker()
    monkeypatch.setattr(session, "make_accelerator", lambda *_: Accelerator(cpu=True, log_with=[fake]))
    run = {"folder": str(tmp_path / "run"), "steps": 3, "prompts_per_batch": 2, "images_every": 2}
    train(config(tmp_path / "run", model_folders["qwen2_vl"], run=run))
    assert fake.config["rollout.group_size"] == 3
    assert fake.config["model.lora"] == "None"
    steps = [step for step, values in fake.logged if "reward" in values]
    assert steps == [1, 2, 3]
    assert [step for step, values in fake.logged if "evaluation/AP" in values] == [0, 3]
    assert all(isinstance(v, (int, float)) for _, values in fake.logged for v in values.values())
    assert [step for step, _ in fake.pictures] == [1, 3]
    (pictures,) = fake.pictures[0][1].values()
    assert [picture.shape for picture in pictures] == [(512, 512, 3)] * 2
    green = [(np.asarray(picture) == (40, 200, 90)).all(-1).any() for picture in pictures]
    assert all(green), "the truth is drawn"
    assert fake.finished


def test_tensorboard_gets_curves_and_pictures(model_folders, tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "run"
    run = {"folder": str(folder), "steps": 2, "prompts_per_batch": 2, "trackers": ["tensorboard"], "images_every": 1}
    train(config(folder, model_folders["qwen2_vl"], run=run))
    events = loader.EventAccumulator(str(folder / "tensorboard" / "visual-rft"), size_guidance={"images": 0})
    events.Reload()
    written = lines(folder / "metrics.jsonl")
    assert [event.step for event in events.Scalars("reward")] == [1, 2]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in written])
    assert events.Tags()["images"]


def test_a_tracker_that_is_not_installed_is_one_line_and_leaves_no_folder(model_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    run = {"folder": str(tmp_path / "run"), "trackers": ["trackio"]}
    with pytest.raises(ConfigError, match=r"^run.trackers: 'trackio' is not installed; run: pip install trackio$"):
        train(config(tmp_path / "run", model_folders["qwen2_vl"], run=run))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"run.trackers"):
        config(tmp_path / "run", "x", run={**run, "trackers": ["tensorbord"]})


def test_a_tracker_that_does_not_start_is_one_line_and_leaves_no_folder(model_folders, tmp_path, monkeypatch):
    class Stranger(FakeTracker):
        def start(self):
            raise ValueError("No API key configured.\nUse `login`.")

    monkeypatch.setattr(session, "make_accelerator", lambda *_: Accelerator(cpu=True, log_with=[Stranger()]))
    run = {"folder": str(tmp_path / "run"), "trackers": ["tensorboard"], "steps": 2, "checkpoint_every": 1}
    with pytest.raises(ConfigError, match=r"^run.trackers: .*ValueError: No API key configured. Use `login`.\)"):
        train(config(tmp_path / "run", model_folders["qwen2_vl"], run=run))
    assert not (tmp_path / "run").exists()


def test_classification_and_questions_without_a_picture_are_sent_too():
    fake = FakeTracker()
    accelerator = Accelerator(cpu=True, log_with=[fake])
    sent = trackers.Trackers(accelerator, Config())
    image = RenderedImage("a", lambda: Image.new("RGB", (90, 60)))
    samples = [
        Sample("a", (image,), "classification", {}, {"label": "cat"}),
        Sample("b", (), "x", {}, {"label": "dog"}),
    ]
    sent.pictures(7, samples, [[Score({}, 1.0, "cat"), Score({}, 0.0, None, "no answer")], [Score({}, 1.0, "dog")]])
    assert [(step, len(next(iter(values.values())))) for step, values in fake.pictures] == [(7, 1)]
