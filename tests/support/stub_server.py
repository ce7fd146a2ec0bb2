"""An OpenAI-compatible server in a thread, whose answers are written by a function and whose faults are injected.

with StubServer(lambda asked: "none") as stub:
    stub.faults = ["500", "hang"]        # of the next two requests
    Client([stub.url])
"""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from PIL import Image

FAULTS = ("500", "429", "hang", "dies", "fewer choices", "another model", "no json", "no content")
"""What can be wrong with one answer; a server that is not there is one that was stopped."""


@dataclass(frozen=True)
class Asked:
    """One request, read."""

    body: dict[str, Any]
    text: str
    images: list[Image.Image]


@dataclass
class StubServer:
    """Answers each completion with ``reply(asked)``, or a choice (a dictionary) that it returns.

    Attributes:
        faults: what is wrong with the next answers, in turn; None is nothing.
        asked: the chat requests so far, those with a fault too.
        calls: method, path and body of all others.
        most_at_once: chat requests that were in progress at the same time.
    """

    reply: Callable[[Asked], Any] = lambda asked: "none"
    model: str = "stub"
    seconds: float = 0.0
    key: str | None = None
    extra: Callable[[Asked], dict[str, Any]] = lambda asked: {}
    others: Callable[[str, Any], Any] = lambda path, body: {}
    faults: list[str | None] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0

    def __enter__(self) -> Self:
        self.lock = threading.Lock()
        self.released = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                stub.handle(self, "GET")

            def do_POST(self) -> None:
                stub.handle(self, "POST")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on nobody is there."""
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def handle(self, request: BaseHTTPRequestHandler, method: str) -> None:
        if self.released.is_set():  # a connection that was kept open dies with the server
            request.close_connection = True
            return
        length = int(request.headers.get("Content-Length") or 0)
        data = request.rfile.read(length)
        if len(data) < length:  # the client has gone away meanwhile
            request.close_connection = True
            return
        body = json.loads(data) if data else None
        with suppress(ConnectionError, BrokenPipeError):
            if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
                self.send(request, 401, {"error": "no such key"})
            elif request.path == "/v1/models":
                self.send(request, 200, {"data": [{"id": self.model, "root": "/nowhere"}]})
            elif request.path == "/v1/chat/completions":
                self.chat(request, body)
            else:
                self.calls.append((method, request.path, body))
                found = self.others(request.path, body)
                self.send(request, 404 if found is None else 200, found)

    def chat(self, request: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        asked = read(body)
        with self.lock:
            self.asked.append(asked)
            fault = self.faults.pop(0) if self.faults else None
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            time.sleep(self.seconds)
            if fault == "hang":
                self.released.wait(30)
            elif fault == "dies":
                request.close_connection = True
                request.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"mod')
                request.wfile.flush()
                request.connection.close()
            elif fault in ("500", "429", "400"):
                self.send(request, int(fault), {"error": "injected"}, {"Retry-After": "0"})
            elif fault == "no json":
                self.send(request, 200, "<html>")
            else:
                self.send(request, 200, self.answer(asked, fault))
        finally:
            with self.lock:
                self.at_once -= 1

    def answer(self, asked: Asked, fault: str | None) -> dict[str, Any]:
        choices = []
        for number in range(asked.body["n"] - (fault == "fewer choices")):
            said = self.reply(asked)
            row = {"index": number, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            choices.append({**row, **said} if isinstance(said, dict) else row)
        if fault == "no content":
            choices[0]["message"] = {}
            choices[0].pop("message")
        model = "somebody-else" if fault == "another model" else asked.body["model"]
        return {"object": "chat.completion", "model": model, "choices": choices, **self.extra(asked)}

    def send(self, request: BaseHTTPRequestHandler, status: int, content: Any, headers: Any = None) -> None:
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


def read(body: dict[str, Any]) -> Asked:
    """The words and decoded images of a request."""
    (message,) = body["messages"]
    images: list[Image.Image] = []
    texts: list[str] = []
    for part in message["content"]:
        if part["type"] == "image_url":
            head, data = part["image_url"]["url"].split(",", 1)
            assert head == "data:image/png;base64"
            images.append(Image.open(io.BytesIO(base64.b64decode(data))))
        else:
            texts.append(part["text"])
    (text,) = texts
    return Asked(body, text, images)
