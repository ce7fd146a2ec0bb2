"""The report served on this machine while a run goes on.

Decision: the standard library's server on 127.0.0.1 only. The page asks every second whether anything changed and gets
the data anew if so; pictures are files of their own, named by the data and by nothing else. A request whose ``Host`` is
another name is refused, so that no web page can read a run through a name of its own that points here. Whatever goes
wrong with one request is its answer, and no other's.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from visual_rft.errors import ConfigError, VisualRFTError, printable
from visual_rft.report.page import as_json, render
from visual_rft.report.payload import payload
from visual_rft.report.questions import Pictures
from visual_rft.report.reading import Row, Run, read_run

TEXT_BUDGET = 4_000_000
"""Characters of rollouts; less than in a file, because they are sent again at every change."""
ADDRESS = "127.0.0.1"
OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)
"""The ``Host`` of a request that was typed here; ``127.0.0.1:x@elsewhere`` is another one."""
WAITING = 512
"""Connections that may wait to be taken; five, the library's own number, lets most of 200 at once fail."""
IDLE_SECONDS = 60
"""After which a connection that says nothing is closed, and its thread ends."""
KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}
"""Pictures by their ending; anything else could be a page with a script in it, and is sent as bytes."""


class LiveRuns:
    """Run folders that change, read again only where they did.

    Args:
        folders: folders of the runs.
        names: names of the runs.

    Raises:
        RunFolderError: if one is no run folder.
    """

    def __init__(self, folders: Sequence[Path], names: Sequence[str]) -> None:
        self.folders = list(zip(folders, names, strict=True))
        self._lock = Lock()
        self._rollouts: dict[Path, tuple[Any, list[Row]]] = {}
        self._made: tuple[str, dict[str, Any], dict[str, Path]] = ("", {}, {})
        self.current()

    def version(self) -> str:
        """Changes when a file of a run does."""
        seen = []
        for folder, _ in self.folders:
            for pattern in ("*.json*", "config.yaml", "rollouts/*.jsonl", "evaluation/*.json"):
                for file in sorted(folder.glob(pattern)):
                    seen.append((file.name, *_stamp(file)))
        return f"{hash(tuple(seen)) & 0xFFFFFFFFFFFF:x}"

    def current(self) -> tuple[str, dict[str, Any], dict[str, Path]]:
        """The version, what the page shows, and the picture files by key."""
        with self._lock:
            version = self.version()
            if version != self._made[0]:
                runs = [read_run(folder, name) for folder, name in self.folders]
                # Pictures are named here and sent by :class:`_Handler`; a change of a picture never happens.
                pictures = Pictures(lambda file: file.name)
                content = payload(runs, pictures, self._groups, TEXT_BUDGET)
                content["images"] = {key: f"picture/{quote(key)}" for key in pictures.images}
                # What has ended is a page like any other, and is not asked for again every second.
                live = any(run.summary is None for run in runs)
                self._made = (version, {**content, "live": live, "version": version}, pictures.files)
            return self._made

    def _groups(self, run: Run, step: int) -> list[Row]:
        file = run.rollout_file(step)
        stamp = _stamp(file)
        if file not in self._rollouts or self._rollouts[file][0] != stamp:
            self._rollouts[file] = (stamp, run.rollouts(step))
        return self._rollouts[file][1]


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:  # deleted since it was listed
        return 0, 0
    return status.st_size, status.st_mtime_ns


class _Handler(BaseHTTPRequestHandler):
    runs: LiveRuns
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """The page, its data, or a picture."""
        try:
            self._respond()
        except (OSError, VisualRFTError) as error:  # a run that is deleted or damaged while it is looked at
            self._answer(503, "text/plain; charset=utf-8", f"the run cannot be read now: {error}".encode())

    def do_HEAD(self) -> None:
        """What GET would say, without the body."""
        self.do_GET()

    def _respond(self) -> None:
        if len(self.headers.get_all("Host", [])) != 1 or not OWN_HOST.fullmatch(self.headers["Host"].strip()):
            self._answer(403, "text/plain", b"this page answers to 127.0.0.1 only")
            return
        try:
            place = urlsplit(self.path)
        except ValueError:
            self._answer(400, "text/plain", b"this is no address")
            return
        version, content, pictures = self.runs.current()
        key = unquote(place.path.removeprefix("/picture/"))
        if place.path == "/":
            title = " and ".join(name for _, name in self.runs.folders)
            self._answer(200, "text/html; charset=utf-8", render(content, title).encode())
        elif place.path == "/data.json" and parse_qs(place.query).get("known") == [version]:
            self._answer(200, "application/json", json.dumps({"version": version}).encode())
        elif place.path == "/data.json":
            self._answer(200, "application/json", as_json(content).encode())
        elif place.path.startswith("/picture/") and key in pictures:
            kind = KINDS.get(pictures[key].suffix.lower(), "application/octet-stream")
            self._answer(200, kind, pictures[key].read_bytes(), "max-age=3600")
        else:
            self._answer(404, "text/plain", b"there is no such page")

    def _answer(self, code: int, kind: str, body: bytes, cache: str = "no-store") -> None:
        try:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", cache)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except (ConnectionError, TimeoutError):  # the browser went away
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing about requests."""


class _Server(ThreadingHTTPServer):
    request_queue_size = WAITING
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news; anything else is one line, and the others are served on."""
        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError)):
            print(f"warning: a request failed ({printable(repr(error))})", file=sys.stderr)


def server_of(folders: Sequence[Path], names: Sequence[str], port: int) -> ThreadingHTTPServer:
    """A server that is bound and not yet running.

    Args:
        folders: folders of the runs.
        names: names of the runs.
        port: 0 takes any that is free.

    Raises:
        RunFolderError: if a folder holds no run.
        ConfigError: if the port cannot be used.
    """
    handler = type("Handler", (_Handler,), {"runs": LiveRuns(folders, names)})
    try:
        server = _Server((ADDRESS, port), handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {port}: cannot be used ({error}); choose another, or 0 for any") from None
    return server


def serve(folders: Sequence[Path], names: Sequence[str], port: int) -> None:
    """Serve until interrupted."""
    server = server_of(folders, names, port)
    print(f"http://{ADDRESS}:{server.server_address[1]}   (this machine only; Ctrl-C ends it, not the run)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("", file=sys.stderr)
    finally:
        server.server_close()
