"""The user's own rewards: what they raise, return, change or never finish is named, and stays theirs."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from visual_rft.config.sections import TaskConfig
from visual_rft.errors import ConfigError
from visual_rft.tasks import load_task, task_of
from visual_rft.tasks.time_limit import OutOfTimeError, within

TRUTH = {"boxes": [[10, 10, 50, 50], [60, 60, 90, 90]], "image_size": [100, 100]}
GOOD = "<think>a</think><answer>[{'Position': [100, 100, 500, 500], 'Confidence': 1}]</answer>"
CODE = """
import sys, time
import numpy as np
def leaves(completion, truth, answer): sys.exit(0)
def interrupts(completion, truth, answer): raise KeyboardInterrupt
def divides(completion, truth, answer): return 1 / 0
def huge(completion, truth, answer): return 1e308
def longer(completion, truth, answer): return 10 ** 400
def text(completion, truth, answer): return "1" * 1000
def nothing(completion, truth, answer): return float("nan")
def several(completion, truth, answer): return np.zeros(2)
def flag(completion, truth, answer): return True
def single(completion, truth, answer): return np.float32(0.5)
def numpy_flag(completion, truth, answer): return np.bool_(True)
def integer(completion, truth, answer): return np.int64(2)
def zero_dimensional(completion, truth, answer): return np.array(0.25)
def sleeps(completion, truth, answer): time.sleep(60)
def turns(completion, truth, answer):
    while True:
        pass
def takes(completion, truth, answer):
    while truth["boxes"]:
        truth["boxes"].pop()[0] = 7
    if answer:
        answer["boxes"].clear()
    return 0
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own.py"
    file.write_text(CODE)
    return file


def score(own: Path, name: str, **options):
    return load_task("detection", weights={f"{own}:{name}": 1, "iou": 1}, **options).score(GOOD, TRUTH)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("leaves", r"raised SystemExit: 0 \(own\.py, line 4\)"),
        ("divides", r"raised ZeroDivisionError: division by zero \(own\.py, line 6\)"),
        ("huge", r"returned 1e\+308; return a finite number of at most 1e\+09"),
        ("longer", r"returned 10000000+; "),
        ("text", r"returned '1111+; return"),
        ("nothing", "returned nan; "),
        ("several", r"returned array\(\[0\., 0\.\]\); "),
    ],
)
def test_what_a_reward_does_wrong_is_one_line_that_names_it(own, name, message):
    with pytest.raises(ConfigError, match=rf"^task\.weights: reward '.*own\.py:{name}' {message}") as raised:
        score(own, name)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_an_interrupt_that_nobody_sent_is_an_error_of_the_reward(own):
    """In a run Ctrl-C is a note; at other times it is an exception that must go on."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with pytest.raises(ConfigError, match="interrupts' raised KeyboardInterrupt"):
            score(own, "interrupts")
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts without it
        with pytest.raises(KeyboardInterrupt):
            score(own, "interrupts")
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("flag", 1.0), ("single", 0.5), ("numpy_flag", 1.0), ("integer", 2.0), ("zero_dimensional", 0.25)],
)
def test_numbers_of_any_type_are_numbers(own, name, value):
    got = score(own, name).parts[name]
    assert type(got) is float
    assert got == value


def test_a_weight_that_no_variance_can_hold_is_refused(own):
    with pytest.raises(ConfigError, match=r"task\.weights\.iou: 1e\+30 is more than 1e\+09"):
        load_task("detection", weights={"iou": 1e30})


def test_a_reward_cannot_change_the_truth_or_the_answer(own):
    before = {"boxes": [list(box) for box in TRUTH["boxes"]], "image_size": [100, 100]}
    found = score(own, "takes")
    assert before == TRUTH
    assert len(found.answer["boxes"]) == 1
    assert found.parts["iou"] == score(own, "flag").parts["iou"] > 0


@pytest.mark.parametrize("name", ["sleeps", "turns"])
@pytest.mark.parametrize("in_main", [True, False])
def test_a_reward_that_hangs_is_named(own, name, in_main):
    found = []

    def run() -> None:
        with pytest.raises(
            ConfigError, match=rf"own\.py:{name}' took more than 0\.2 seconds; make it quicker"
        ) as error:
            score(own, name, reward_seconds=0.2)
        found.append(error)

    started = time.monotonic()
    if in_main:
        run()
    elif name == "turns":  # a wait of the system ends at a signal only, and signals reach the main thread only
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        return
    assert found
    assert time.monotonic() - started < 10


def test_an_interruption_that_is_caught_comes_again():
    caught = []

    def stubborn() -> None:
        while True:
            try:
                time.sleep(60)
            except BaseException:
                caught.append(time.monotonic())
                if len(caught) == 2:
                    raise

    with pytest.raises(OutOfTimeError):
        within(0.1, stubborn)
    assert len(caught) == 2


def test_the_timer_of_somebody_else_goes_on():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        assert within(5.0, lambda: 3) == 3
        time.sleep(0.5)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "9"])
def test_a_limit_that_is_none_is_refused(seconds):
    with pytest.raises(ConfigError, match=r"task\.options\.reward_seconds"):
        load_task("detection", reward_seconds=seconds)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:", r"cannot be imported: raised SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", r"cannot be imported: raised SystemExit: 3 \(own\.py, line 1\)"),
        ("open('/no/such/file')", r"cannot be imported: raised FileNotFoundError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(tmp_path, code, message):
    file = tmp_path / "own.py"
    file.write_text(code)
    with pytest.raises(ConfigError, match=message):
        load_task("detection", weights={f"{file}:f": 1})


@pytest.mark.parametrize("option", ["name", "think", "weights", "style", "template", "notation", "scores", "schedules"])
def test_what_is_said_beside_the_options_is_no_option(option):
    section = TaskConfig.model_validate({"name": "detection", "options": {option: "x"}})
    with pytest.raises(ConfigError, match=f"task.options: '{option}' is no option of a task"):
        task_of(section)
