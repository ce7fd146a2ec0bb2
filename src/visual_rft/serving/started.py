"""A server of our own on this machine: started for a command, waited for, and ended with whoever asked for it.

Decision: it listens on the loopback address alone, on a port that is free, and its words go to a file. It has a process
group of its own: Ctrl-C is the run's, which asks it once more for nothing and then ends it, with all its processes.

    with started(["vllm", "serve", "coins-model"], Path("runs/coins/server.log")) as url:
        Client([url])
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from visual_rft.errors import ConfigError, ServerError, printable

START_SECONDS = 900.0
"""Until a server counts as not starting: vLLM reads a model of 70 B from a network disk in some minutes."""
END_SECONDS = 30.0
"""Until one that was asked to end is made to."""


@contextmanager
def started(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, seconds: float = START_SECONDS
) -> Iterator[str]:
    """Inside, a server runs; gives its URL.

    Args:
        command: what starts it; ``--host`` and ``--port`` are added.
        log: file of its words, written anew.
        environment: variables besides those of this process.
        seconds: until it has to be ready.

    Raises:
        ConfigError: if there is no such command.
        ServerError: with its last words, if it ends or is not ready in time.
    """
    port = _free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as words:
        try:
            server = subprocess.Popen(  # noqa: S603 - the user's own command
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(f"the server's command {command[0]!r} cannot be run ({error.strerror})") from None
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, server, log, seconds)
        yield url
    finally:
        _end(server)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if server.poll() is not None:
            raise ServerError(f"the server ended with {server.returncode} before it was ready: {_last_words(log)}")
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        time.sleep(0.5)
    raise ServerError(f"the server was not ready within {seconds:g} s: {_last_words(log)}")


def _last_words(log: Path) -> str:
    """The last line that names an error, else the last line, and where the others are."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line]
    return printable(f"{(named or lines or ['it said nothing'])[-1].strip()} (all of it: {log})", limit=600)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then make all its processes."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with suppress(subprocess.TimeoutExpired):
            server.wait(END_SECONDS)
