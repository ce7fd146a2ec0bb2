"""The watch by itself, with a store in memory: one that does not answer, and a process that was stopped meanwhile."""

from __future__ import annotations

import threading
import time

import pytest

from visual_rft.parallel import watch
from visual_rft.parallel.watch import Watch


class Store:
    """What the watch needs of a store; it answers nothing while ``silent``."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.answers = threading.Event()
        self.answers.set()

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def check(self, keys: list[str]) -> bool:
        self.answers.wait()
        return all(key in self.values for key in keys)

    def get(self, key: str) -> bytes:
        return self.values[key].encode()

    def compare_set(self, key: str, expected: str, value: str) -> bytes:
        self.answers.wait()
        return self.values.setdefault(key, value).encode()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes with which the process would have been ended; beats are short."""
    codes: list[int] = []
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(watch, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(Watch, "_end", lambda self, code: codes.append(code) or self._ended.set())
    return codes


def wait_until(happened) -> None:
    deadline = time.monotonic() + 60
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert happened()


def test_a_store_that_does_not_answer_ends_who_waits(monkeypatch, ended, capfd):
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 0.2)
    store = Store()
    one = Watch(store, rank=1, size=2)
    store.answers.clear()
    with one.meeting("the sum of the gradients"):
        wait_until(lambda: ended)
    assert ended == [2]
    line = "the launcher of this run, or its first process, does not answer any more, in the sum of the gradients"
    assert capfd.readouterr().err == f"visual-rft: {line}\n"
    store.answers.set()
    one.close()


def test_who_was_stopped_with_all_others_goes_on(monkeypatch, ended):
    store, real, jump = Store(), time.monotonic, [0.0]
    one = Watch(store, rank=1, size=2)
    one.patience = 60.0
    store.values["beat/0"] = '[0, 0, ""]'
    with one.meeting("the sum of the gradients"):
        wait_until(lambda: one._heard)
        monkeypatch.setattr(watch.time, "monotonic", lambda: real() + jump[0])
        jump[0] = 10_000.0  # of which nobody has seen anything
        looks = one._looks
        wait_until(lambda: one._looks > looks + 3)
    assert not ended
    assert one._clock < 60
    monkeypatch.undo()
    one.close()


def test_a_meeting_that_is_not_complete_names_who_is_missing(ended, capfd):
    store = Store()
    one = Watch(store, rank=0, size=3)
    store.values |= {"beat/1": '[0, 1, "the rewards"]', "beat/2": '[0, 0, ""]', "heard/1": "", "heard/2": ""}
    one.patience = 0.1
    with one.meeting("the rewards"):
        wait_until(lambda: ended)
    assert ended == [2]
    said = "visual-rft: the rewards: waited 0 s for process 2; if that one only is slow, raise parallel.timeout\n"
    assert capfd.readouterr().err == said
    one.close()
