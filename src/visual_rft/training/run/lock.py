"""One process per run folder: a lock that names its holder.

Decision: a file made by a hard link, which is atomic on local and network disks alike (``flock`` is not everywhere).
It names host, process and start, and its time is refreshed while the holder lives. A lock is stale if its process is
gone from this host, or, on another host, if nobody has refreshed it for :data:`STALE_SECONDS`; a stale one is taken
over. A machine that sleeps longer than that while it shares the folder with another one loses its lock.

    with RunLock.take(Path("runs/demo")):
        ...
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from visual_rft.errors import RunFolderError

LOCK = "run.lock"
REFRESH_SECONDS = 20.0
STALE_SECONDS = 300.0
"""Fifteen refreshes: longer than a network disk stalls, shorter than a person waits."""


class RunLock:
    """A held lock; use :meth:`take`.

    Args:
        file: the lock's file.
        content: what was written into it.
    """

    def __init__(self, file: Path, content: bytes) -> None:
        self._file, self._content = file, content
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="run-lock", daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, folder: Path) -> RunLock:
        """Take the lock of a run folder.

        Raises:
            RunFolderError: if somebody else holds it, with who that is; or if the folder cannot be written.
        """
        file = folder / LOCK
        content = json.dumps(_holder()).encode()
        own = folder / f"{LOCK}.{uuid.uuid4().hex}"
        try:
            own.write_bytes(content)
            try:
                for _ in range(3):  # a stale lock, and one that was let go between two looks
                    with suppress(FileExistsError):
                        _link(own, file, content)
                        return cls(file, content)
                    _drop_if_stale(file, own)
            finally:
                own.unlink(missing_ok=True)
        except OSError as error:
            raise RunFolderError(f"{file}: cannot be written ({error.strerror})") from None
        raise RunFolderError(f"{file}: cannot be had; another process takes it at the same time, try again")

    def release(self) -> None:
        """Let go. A lock that somebody else has taken over since is left alone."""
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            if self._file.read_bytes() == self._content:
                self._file.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _refresh(self) -> None:
        while not self._ended.wait(REFRESH_SECONDS):
            with suppress(OSError):  # a disk that is away for a moment; the run itself will say so if it stays away
                os.utime(self._file)


def _link(own: Path, file: Path, content: bytes) -> None:
    """Give the lock its name, unless it has a holder.

    Raises:
        FileExistsError: if it has.
    """
    try:
        os.link(own, file)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links (FAT, some network disks): empty for a moment, but taken once
        with file.open("xb") as opened:
            opened.write(content)


def _holder() -> dict[str, Any]:
    own = psutil.Process()
    return {
        "host": socket.gethostname(),
        "pid": own.pid,
        "process_started": own.create_time(),
        "locked": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(sys.argv)[:500],
    }


def _drop_if_stale(file: Path, own: Path) -> None:
    """Remove a lock whose holder is gone.

    Raises:
        RunFolderError: if the holder is alive.
    """
    try:
        content = file.read_bytes()
        os.utime(own)
        age = own.stat().st_mtime - file.stat().st_mtime  # by the clock of the disk, not of two hosts
    except FileNotFoundError:
        return
    try:
        holder = json.loads(content)
        host, pid, started = str(holder["host"]), int(holder["pid"]), float(holder["process_started"])
    except (ValueError, KeyError, TypeError):
        host, pid, started, holder = "", 0, 0.0, {}
    alive = _is_running(pid, started) if host == socket.gethostname() else age < STALE_SECONDS
    if alive:
        raise RunFolderError(
            f"{file.parent}: is being written by process {pid or 'unknown'} on {host or 'an unknown host'} since "
            f"{holder.get('locked', 'an unknown time')}; wait for it or stop it (if it is surely gone, delete {file})"
        )
    aside = own.with_name(f"{own.name}.stale")
    with suppress(FileNotFoundError):
        file.rename(aside)
        if aside.read_bytes() != content:  # somebody else was quicker: this is a new lock, which goes back
            with suppress(FileExistsError):
                os.link(aside, file)
        aside.unlink()


def _is_running(pid: int, started: float) -> bool:
    """Whether this process is still there; another one may have its number by now."""
    try:
        process = psutil.Process(pid)
        # One that has ended and waits for its parent to ask how holds nothing any more.
        return abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
