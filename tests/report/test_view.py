"""The page that is served: to this machine, to many at once, and whatever one of them sends."""

from __future__ import annotations

import http.client
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.run_folders import make_run

from visual_rft.report.view import server_of


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def port(folder) -> Iterator[int]:
    server = server_of([folder], ["run"], 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def ask(port: int, path: str = "/data.json", method: str = "GET", host: str = "127.0.0.1") -> tuple[int, bytes, str]:
    """Code, body and stated length."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers["Content-Length"]
    finally:
        connection.close()


def test_200_connections_at_once_are_all_answered(port):
    """All are opened before one asks: each waits in the queue of the system."""
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(200)]
    try:
        for one in sockets:
            one.sendall(b"GET /data.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = [one.recv(12) for one in sockets]
    finally:
        for one in sockets:
            one.close()
    assert answers == [b"HTTP/1.1 200"] * 200


def test_200_threads_at_once_are_all_answered(port):
    together = threading.Barrier(200)

    def one(_: int) -> int:
        together.wait()
        return ask(port)[0]

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(one, range(200))) == [200] * 200


@pytest.mark.parametrize("path", ["/", "/data.json", "/picture/0%2Fimages%2Fa.png", "/none"])
def test_head_says_what_get_would_say_without_the_body(port, path):
    code, body, length = ask(port, path, "HEAD")
    assert body == b""
    other_code, other_body, other_length = ask(port, path)
    assert (code, length) == (other_code, other_length)
    assert len(other_body) == int(length)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8765", 200),
        ("LOCALHOST:80", 200),
        ("localhost:", 403),
        ("127.0.0.1:x@evil.example", 403),
        ("localhost:80@evil.example:80", 403),
        ("user@127.0.0.1", 403),
        ("user:word@127.0.0.1:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example", 403),
        ("[::1]", 403),
        ("", 403),
    ],
)
def test_only_this_machines_own_names_are_answered(port, host, code):
    assert ask(port, host=host)[0] == code
    assert ask(port, host=host, method="HEAD")[0] == code


def test_two_hosts_are_refused(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.1 403"


@pytest.mark.parametrize(
    "sent", [b"", b"GET", b"GET / HTTP/1.1\r\n", b"\x00" * 100, b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n"]
)
def test_a_request_that_is_none_or_breaks_off_disturbs_nobody(port, sent, capfd):
    one = socket.create_connection(("127.0.0.1", port), timeout=30)
    one.sendall(sent)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes with a reset
    one.close()
    assert ask(port)[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_that_is_deleted_meanwhile_is_said(port, folder, capfd):
    assert ask(port)[0] == 200
    shutil.rmtree(folder)
    code, body, _ = ask(port)
    assert (code, body[:26]) == (503, b"the run cannot be read now")
    assert "Traceback" not in capfd.readouterr().err


def test_a_page_among_the_pictures_is_not_shown_as_one(port, folder):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    (folder / "images/a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    file = folder / "rollouts/step-000000.jsonl"
    file.write_text(file.read_text().replace("images/a.png", "images/a.svg"))
    connection.request("GET", "/picture/0%2Fimages%2Fa.svg")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] in ("application/octet-stream", "text/plain")  # sent as bytes, or not at all
    answer.read()
    connection.close()
