"""Reading run folders and making the page: what is there is shown, what is broken is named, nothing runs."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from support.run_folders import HOSTILE, answer, group, make_run

from visual_rft.cli.main import main
from visual_rft.cli.verbs.report import names_of
from visual_rft.data.leakage import Leakage, Pair
from visual_rft.errors import ConfigError, RunFolderError
from visual_rft.report.artefacts import write_artefacts
from visual_rft.report.marks import Marks, of_answer, of_truth
from visual_rft.report.page import as_json, render, write_report
from visual_rft.report.payload import by_halving, embedded, payload
from visual_rft.report.pictures import COLOURS, annotated, before_after, data_uri
from visual_rft.report.reading import finite, read_lines, read_run
from visual_rft.report.series import METRIC_LABELS, curves_of, thinned
from visual_rft.report.titles import title_of
from visual_rft.report.view import server_of


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path / "run")


def embedded_data(html: str) -> dict:
    """What the page's script will read."""
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)[1])


def test_a_run_is_read(folder):
    run = read_run(folder)
    assert (run.name, run.kind, run.steps, run.rollout_steps) == ("run", "rft", 3, (0, 1, 2))
    assert [row["reward"] for row in run.metrics] == [1.0, 2.0, 3.0]
    assert [row["step"] for row in run.evaluations] == [0, 3]
    assert [row["id"] for row in run.rollouts(1)] == ["a-1", "b-1"]
    assert run.problems == []


def test_what_a_run_noted_of_leakage_is_in_the_page(folder):
    pairs = [Pair(f"{n}.png", f"{n}.png", True) for n in range(7)]
    (folder / "data.json").write_text(json.dumps({"leakage": Leakage(pairs, (40, 9), (40, 9), 0.1).as_json()}))
    run = read_run(folder)
    (shown,) = payload([run], embedded([run]))["runs"]
    assert shown["leakage"] == [
        "7 of 40 held-out images are training images or look like one: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more"
    ]
    (folder / "data.json").write_text(json.dumps({"leakage": Leakage([], (40, 9), (40, 9), 0.1).as_json()}))
    assert read_run(folder).leakage == ()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"no run here \(no config.yaml\)"):
        read_run(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(RunFolderError, match="not valid YAML"):
        read_run(tmp_path)
    (tmp_path / "config.yaml").write_text("- a")
    with pytest.raises(RunFolderError, match="not a mapping"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "rows", "problem"),
    [
        pytest.param(b'{"a": 1}\n{"a": 2}\n', 2, None, id="whole"),
        pytest.param(b'{"a": 1}\n{"a": ', 1, "line 2, the last, is cut off; left out", id="torn"),
        # Complete JSON without its line break may be the beginning of a longer number.
        pytest.param(b'{"a": 1}\n{"a": 2}', 1, "line 2, the last, is cut off; left out", id="no line break"),
        pytest.param(b'{"a": 1}\n\x00\x00\n{"a": 3}\n', 2, "line 2 not readable; left out", id="zeros"),
        pytest.param(b"[]\n7\n{}\n", 1, "lines 1, 2 not readable; left out", id="no objects"),
        pytest.param(b"", 0, None, id="empty"),
    ],
)
def test_lines_that_cannot_be_read_are_named(tmp_path, content, rows, problem):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(content)
    found, said = read_lines(file)
    assert len(found) == rows
    assert said == (f"{file}: {problem}" if problem else None)
    assert read_lines(tmp_path / "none") == ([], None)


def test_a_crashed_run_is_shown_as_far_as_it_came(folder):
    (folder / "summary.json").unlink()
    (folder / "evaluation" / "step-000003.json").write_text('{"AP": 0.')
    for name in ("metrics.jsonl", "rollouts/step-000002.jsonl"):
        file = folder / name
        file.write_bytes(file.read_bytes()[:-20])
    run = read_run(folder)
    shown = payload([run], embedded([run]))["runs"][0]
    assert shown["finished"] is False
    assert (shown["done"], shown["steps"]) == (2, 3)
    assert [len(shown["rollouts"][step]) for step in ("1", "2", "3")] == [2, 2, 1]
    assert len(shown["problems"]) == 3
    assert "not valid JSON" in shown["problems"][0]


def test_a_run_with_nothing_but_its_config_is_a_page(tmp_path):
    (tmp_path / "config.yaml").write_text("{}")
    assert write_report([read_run(tmp_path)], tmp_path / "report.html") > 10_000


def test_numbers_that_are_not_finite_are_named():
    nan, inf = float("nan"), float("inf")
    assert finite({"a": nan, "b": {"c": [1, inf]}, "d": "x", "e": True}) == (
        {"a": None, "b": {"c": [1, None]}, "d": "x", "e": True},
        ["a", "b.c.1"],
    )


@pytest.mark.parametrize(
    ("value", "marks"),
    [
        ({"boxes": [[1, 2, 3, 4]], "confidence": [0.5]}, Marks([[1, 2, 3, 4]], ["0.50"], None)),
        ({"boxes": [], "confidence": []}, Marks([], [], "No Objects")),
        ([1, 2, 3, 4], Marks([[1, 2, 3, 4]], [""], None)),
        ("red poppy", Marks([], [], "red poppy")),
        (None, Marks([], [], None)),
        (3, Marks([], [], "3")),
        ({"count": 3}, Marks([], [], '{"count": 3}')),
        ({"boxes": [[1, 2, "x", 4]]}, Marks([], [], '{"boxes": [[1, 2, "x", 4]]}')),
    ],
)  # fmt: skip
def test_answers_are_drawn_or_written(value, marks):
    assert of_answer(value) == marks


@pytest.mark.parametrize(
    ("truth", "marks"),
    [
        ({"boxes": [[1, 2, 3, 4]], "image_size": [9, 9]}, Marks([[1, 2, 3, 4]], [""], None)),
        ({"boxes": [], "image_size": [9, 9]}, Marks([], [], "No Objects")),
        ({"box": [1, 2, 3, 4], "image_size": [9, 9]}, Marks([[1, 2, 3, 4]], [""], None)),
        ({"label": "cat", "synonyms": ["puss"]}, Marks([], [], "cat")),
        ({"count": 3, "image_size": [9, 9]}, Marks([], [], "3")),
    ],
)
def test_truths_are_drawn_or_written(truth, marks):
    assert of_truth(truth) == marks


def test_the_page_is_one_file_that_asks_for_nothing(folder):
    write_report([read_run(folder)], folder / "report.html")
    html = (folder / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)[^"'>\s]""", html.split("<script", 1)[0])
    assert "default-src 'none'" in html
    assert html.count("data:image/png") == 1, "six groups and two examples share one picture"


def test_model_text_cannot_leave_its_place(folder):
    row = group(0, answers=[answer(HOSTILE, failure=HOSTILE, notes=[HOSTILE])])
    row["prompt"] = row["id"] = HOSTILE
    (folder / "rollouts" / "step-000000.jsonl").write_text(json.dumps(row) + "\n")
    html = render(payload([read_run(folder)], embedded([read_run(folder)])), 'a "quoted" <name>')
    assert html.count("</script>") == 2
    assert "<img" not in html
    assert "<title>a &quot;quoted&quot; &lt;name> · Visual-RFT</title>" in html
    shown = embedded_data(html)["runs"][0]["rollouts"]["1"][0]
    assert shown["answers"][0]["text"] == HOSTILE
    assert shown["prompt"] == HOSTILE


def test_scripts_never_write_markup():
    folder = Path(__file__).parent.parent.parent / "src" / "visual_rft" / "report" / "web"
    scripts = list(folder.glob("*.js"))
    assert scripts
    for script in scripts:
        markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
        assert not re.search(markup, script.read_text()), script


def test_answers_have_the_same_colours_in_the_page_and_in_pictures():
    style = (Path(__file__).parent.parent.parent / "src" / "visual_rft" / "report" / "web" / "page.css").read_text()
    assert dict(re.findall(r"--c(\d): (#\w{6})", style)) == {str(i): colour for i, colour in enumerate(COLOURS)}


def test_lone_surrogates_and_odd_numbers_do_not_break_the_json():
    text = as_json({"text": "\ud83d", "nan": float("nan"), "big": 1e400})
    assert json.loads(text.encode()) == {"text": "\ud83d", "nan": None, "big": None}


def test_boxes_stay_pixels_of_the_original(tmp_path, folder):
    """A stored picture may be smaller than the image was; boxes are not scaled with it."""
    row = group(0)
    row["image_size"] = [4000, 6000]
    row["completions"][0]["answer"]["boxes"] = [[100.25, 200.5, 3000.0, 5000.0]]
    (folder / "rollouts" / "step-000000.jsonl").write_text(json.dumps(row) + "\n")
    shown = payload([read_run(folder)], embedded([read_run(folder)]))["runs"][0]["rollouts"]["1"][0]
    assert shown["size"] == [4000, 6000]
    assert shown["answers"][0]["boxes"] == [[100.25, 200.5, 3000.0, 5000.0]]


def test_by_halving_is_a_permutation_whose_beginnings_are_spread():
    for size in range(40):
        assert sorted(by_halving(size)) == list(range(size))
    assert by_halving(9) == [0, 8, 4, 2, 6, 1, 3, 5, 7]


def test_what_does_not_fit_is_left_out_and_said(tmp_path):
    run = read_run(make_run(tmp_path / "run", steps=17, groups=1))
    whole = payload([run], embedded([run]))
    assert whole["runs"][0]["left_out"] is None
    part = payload([run], embedded([run]), text_budget=9_500)["runs"][0]
    assert sorted(map(int, part["rollouts"])) == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert part["left_out"] == (
        f"run: 9 of the 17 steps with rollouts are here, evenly spread. All of it is in {run.path}."
    )


def test_of_a_step_that_is_too_large_the_first_questions_are_shown(tmp_path):
    run = read_run(make_run(tmp_path / "run", steps=2, groups=8))
    part = payload([run], embedded([run]), text_budget=8_000)["runs"][0]
    assert {step: [row["id"] for row in rows] for step, rows in part["rollouts"].items()} == {
        str(step + 1): [f"{name}-{step}" for name in "abcd"] for step in (0, 1)
    }
    assert part["left_out"].startswith("run: 8 questions of these steps are left out.")


def test_many_evaluations_keep_the_examples_of_some(folder):
    one = (folder / "evaluation" / "step-000003.json").read_text()
    for step in range(4, 100):
        (folder / "evaluation" / f"step-{step:06d}.json").write_text(one)
    run = read_run(folder)
    shown = payload([run], embedded([run]))["runs"][0]
    steps = [evaluation["step"] for evaluation in shown["evaluations"]]
    assert (len(steps), steps[0], steps[-1]) == (40, 0, 99)
    assert len(next(c for c in shown["curves"] if c["name"] == "AP")["steps"]) == 98, "the curve has them all"
    assert "40 of the 98 evaluations show their examples" in shown["left_out"]


def test_what_looked_wrong_is_told(folder):
    rows = [{"step": n, "reward": 0.1, "zero_std_share": 1.0} for n in range(12)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read_run(folder)
    (warning,) = payload([run], embedded([run]))["runs"][0]["warnings"]
    assert warning.startswith("run, step 10: in 100% of the groups of the last 10 steps")


def test_a_long_completion_is_cut_and_says_so(folder):
    row = group(0, answers=[answer("x" * 5_000)])
    (folder / "rollouts" / "step-000000.jsonl").write_text(json.dumps(row) + "\n")
    shown = payload([read_run(folder)], embedded([read_run(folder)]))["runs"][0]["rollouts"]["1"][0]
    assert shown["answers"][0]["text"] == "x" * 4_000 + " … (1000 more characters)"


def test_a_large_picture_is_embedded_small(tmp_path):
    Image.effect_noise((1600, 1200), 60).convert("RGB").save(tmp_path / "a.jpg", quality=95)
    uri = data_uri(tmp_path / "a.jpg", 320)
    kind, _, content = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (320, 240)
    Image.new("RGB", (40, 60)).save(tmp_path / "b.png")
    small = data_uri(tmp_path / "b.png", 320)
    assert base64.b64decode(small.partition(",")[2]) == (tmp_path / "b.png").read_bytes()


def test_a_missing_or_broken_picture_leaves_the_rest(folder):
    (folder / "images" / "a.png").write_text("no picture")
    shown = payload([read_run(folder)], embedded([read_run(folder)]))
    assert shown["images"] == {}
    assert shown["runs"][0]["rollouts"]["1"][0]["images"] == []


def test_a_row_cannot_name_a_file_outside_the_run(folder, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    run = read_run(folder)
    assert run.image("images/a.png") is not None
    assert run.image("../secret.png") is None
    assert run.image(str(tmp_path / "secret.png")) is None


def test_curves_leave_counts_out_and_undefined_numbers_empty(folder):
    curves = {(curve.of, curve.name): curve for curve in curves_of(read_run(folder))}
    assert set(curves) == {("training", "reward"), ("training", "reward/iou"), ("evaluation", "AP")}
    assert curves["evaluation", "AP"].values == [0.1, 0.4]
    assert curves["training", "reward"].steps == [1, 2, 3]


def test_a_long_curve_is_averaged():
    steps, values = thinned(list(range(2_500)), [float(n) if n % 2 else None for n in range(2_500)])
    assert len(steps) == len(values) == 834
    assert (steps[0], values[0]) == (1.0, 1.0)
    assert (steps[-1], values[-1]) == (2499.0, 2499.0)


def test_runs_are_compared_by_what_differs(tmp_path):
    one = make_run(tmp_path / "one", config="run: {steps: 3, folder: a}\noptimizer: {learning_rate: 1.0}\n")
    two = make_run(tmp_path / "two", config="run: {steps: 3, folder: b}\noptimizer: {learning_rate: 2.0}\n")
    runs = [read_run(one), read_run(two)]
    (difference,) = payload(runs, embedded(runs))["differences"]
    assert difference == {"field": "optimizer.learning_rate", "values": ["1.0", "2.0"]}


def test_names_tell_runs_apart():
    assert names_of([Path("/a/x/demo"), Path("/b/x/demo")]) == ["a/x/demo", "b/x/demo"]
    with pytest.raises(ConfigError, match="named twice"):
        names_of([Path("runs"), Path("./runs")])


def test_before_and_after_is_a_picture(folder):
    sheet = before_after(read_run(folder))
    assert sheet.size == (256, 2 * (256 + 25)), "one question, two rows with a title each"
    (folder / "evaluation" / "step-000003.json").unlink()
    assert before_after(read_run(folder)) is None


def test_annotated_draws_each_answer_in_its_colour():
    black, truth = Image.new("RGB", (512, 512)), {"boxes": [[300, 300, 400, 400]]}
    picture = annotated(black, truth, [[50, 50, 100, 100], None, "cat"])
    assert picture.getpixel((75, 50)) == (0x3B, 0x82, 0xF6)
    assert picture.getpixel((350, 300)) == (40, 200, 90)
    assert picture.getpixel((75, 75)) == (0, 0, 0)


def test_what_goes_wrong_at_the_end_is_told_and_ends_nothing(folder, monkeypatch):
    from visual_rft.report import artefacts

    assert write_artefacts(folder) == []
    assert (folder / "plots" / "learning_curve.png").is_file()
    assert (folder / "plots" / "before_after.png").is_file()

    def broken(*_):
        raise ZeroDivisionError("x")

    monkeypatch.setattr(artefacts, "write_report", broken)
    (problem,) = write_artefacts(folder)
    assert problem == f"{folder}/report.html could not be written (ZeroDivisionError: x); the run is whole"


def test_the_command_makes_a_page(folder, capsys):
    assert main(["report", str(folder), "--out", str(folder / "page.html")]) == 0
    assert re.search(r"page.html: \d+ kB, \d+(\.\d)? s\n$", capsys.readouterr().out)
    assert len(embedded_data((folder / "page.html").read_text())["runs"][0]["rollouts"]) == 3
    assert main(["report", str(folder / "none")]) == 2
    assert main(["report", str(folder), "--out", str(folder / "none" / "a.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.fixture
def served(folder):
    server = server_of([folder], ["run"], 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def fetched(url: str, host: str | None = None) -> bytes:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=10) as answer_:
        return answer_.read()


def test_the_view_serves_the_page_its_data_and_its_pictures(served, folder):
    assert embedded_data(fetched(served).decode())["runs"][0]["done"] == 3
    data = json.loads(fetched(f"{served}/data.json"))
    (picture,) = data["images"].values()
    assert fetched(f"{served}/{picture}") == (folder / "images" / "a.png").read_bytes()
    assert json.loads(fetched(f"{served}/data.json?known={data['version']}")) == {"version": data["version"]}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, "reward": 9.0}) + "\n")
    fresh = json.loads(fetched(f"{served}/data.json?known={data['version']}"))
    assert fresh["runs"][0]["done"] == 4


def test_the_view_of_a_finished_run_is_not_called_live(served, folder):
    assert embedded_data(fetched(served).decode())["live"] is False
    (folder / "summary.json").unlink()
    assert embedded_data(fetched(served).decode())["live"] is True


@pytest.mark.parametrize("path", ["/picture/0/config.yaml", "/picture/..%2f..%2fetc%2fpasswd", "/config.yaml", "/x"])
def test_the_view_serves_nothing_else(served, path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetched(served + path)
    caught.value.close()
    assert caught.value.code == 404


def test_the_view_answers_to_this_machine_only(served):
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetched(served, host="elsewhere.example:80")
    caught.value.close()
    assert caught.value.code == 403


def test_a_port_that_is_taken_is_one_line(served, folder, capsys):
    port = served.rpartition(":")[2]
    assert main(["view", str(folder), "--port", port]) == 2
    assert f"--port {port}: cannot be used" in capsys.readouterr().err
    assert main(["view", str(folder), "--port", "99999"]) == 2


@pytest.mark.parametrize(
    ("question", "prompt", "title"),
    [
        ({"category": "red circle"}, "Find every red circle.", "red circle"),
        ({"expression": "the left one"}, "", "the left one"),
        ({"problem": "Which thing is gone?", "category": "object"}, "", "Which thing is gone?"),
        ({"image_count": 2, "query": "How many cups?"}, "", "How many cups?"),
        ({}, "Look. How many coins are there? Answer with a number.", "How many coins are there?"),
        ({}, "Describe the scene\nin one line", "Describe the scene"),
        ({}, "", ""),
        ({"question": "word " * 40}, "", "word " * 17 + "word …"),
    ],
)
def test_the_title_of_a_question(question, prompt, title):
    assert title_of(question, prompt) == title


def test_the_page_on_evaluation_names_every_label_with_its_names_in_files():
    page = (Path(__file__).parent.parent.parent / "docs" / "evaluation.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for name, label in METRIC_LABELS.items():
        assert any(label in row.split("|")[1] and f"`{name}`" in row.split("|")[2] for row in rows), name
