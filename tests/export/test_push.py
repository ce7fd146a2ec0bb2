"""Sending an exported folder: what would be sent, and what a local stand-in of the hub's HTTP API receives."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest

from visual_rft.cli.main import main
from visual_rft.errors import ConfigError, ServerError
from visual_rft.export.push import plan_push, push


class Hub(BaseHTTPRequestHandler):
    """As much of the API as creating a repository and committing small files needs."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer({"sha": "0" * 40, "id": "someone/coins", "siblings": []})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = self.server.kept
        kept["token"] = self.headers.get("Authorization")
        if self.path == "/api/repos/create":
            kept["created"] = json.loads(body)
            return self._answer({"url": f"{self.server.url}/someone/coins"}, self.server.status)
        if self.path == "/api/validate-yaml":  # of the model card's heading
            return self._answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [{"path": row["path"], "uploadMode": "regular", "shouldIgnore": False} for row in asked]
            return self._answer({"files": modes})
        if "/commit/" in self.path:
            for line in body.splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    kept["files"][row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            done = {"commitUrl": f"{self.server.url}/someone/coins/commit/1", "commitOid": "1", "success": True}
            return self._answer(done, self.server.status)
        return self._answer({"error": f"unknown {self.path}"}, 404)

    def _answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url, server.kept, server.status = f"http://127.0.0.1:{server.server_port}", {"files": {}}, 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_TOKEN", "secret")
    for name in ("HF_HUB_OFFLINE",):
        monkeypatch.setattr(huggingface_hub.constants, name, False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.url)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "coins-model"
    made.mkdir()
    (made / "visual_rft.yaml").write_text("model: {path: tiny}\n")
    (made / "README.md").write_text("# coins\n\nTO DO: name the licence.\n")
    (made / "weights.bin").write_bytes(bytes(range(256)))
    return made


def test_what_would_be_sent_is_said(folder):
    plan = plan_push(folder, "someone/coins")
    assert plan.files == {"README.md": 34, "visual_rft.yaml": 20, "weights.bin": 256}
    text = "\n".join(plan.lines())
    assert "a new one is private" in text
    assert "the card still says: TO DO: name the licence." in text
    assert "public" in plan_push(folder, "someone/coins", public=True).lines()[0]


@pytest.mark.parametrize("name", ["coins", "a/b/c", "../x", "a/..", "", "some one/coins"])
def test_a_name_that_is_none(folder, name):
    with pytest.raises(ConfigError, match="is not NAMESPACE/NAME"):
        plan_push(folder, name)


def test_a_folder_that_is_not_exported(tmp_path):
    with pytest.raises(ConfigError, match=r"is not an exported model \(no visual_rft.yaml\)"):
        plan_push(tmp_path, "someone/coins")


def test_every_file_arrives_as_it_is(folder, hub):
    assert push(plan_push(folder, "someone/coins")) == f"{hub.url}/someone/coins"
    assert hub.kept["files"] == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert hub.kept["created"]["visibility"] == "private"
    assert hub.kept["token"] == "Bearer secret"


def test_a_refusal_is_one_line(folder, hub):
    hub.status = 403
    with pytest.raises(
        ServerError, match=r"someone/coins was not \(wholly\) sent to .* is HF_TOKEN one that may write"
    ):
        push(plan_push(folder, "someone/coins"))


def test_nothing_is_sent_unconfirmed(folder, hub, tmp_path, capsys):
    run = tmp_path / "coins"
    run.mkdir()
    (run / "config.yaml").write_text("model: {path: tiny}\n")
    assert main(["export", str(run), "--push", "someone/coins"]) == 0
    assert "nothing was sent; the same command with --confirm sends it" in capsys.readouterr().out
    assert hub.kept == {"files": {}}
    assert main(["export", str(run), "--push", "someone/coins", "--confirm"]) == 0
    assert f"sent: {hub.url}/someone/coins" in capsys.readouterr().out
    assert set(hub.kept["files"]) == {file.name for file in folder.iterdir()}
    assert main(["export", str(run), "--confirm"]) == 2
    assert "--push NAMESPACE/NAME" in capsys.readouterr().err


@pytest.fixture
def data_set(tmp_path, capsys):
    out = tmp_path / "scenes"
    assert main(["data", "convert", "--format", "shapes", "--count", "2", "--to", "coco", "--out", str(out)]) == 0
    capsys.readouterr()
    return out


def test_a_data_set_is_sent_when_that_is_confirmed(data_set, hub, capsys):
    said = ["data", "push", str(data_set), "someone/scenes"]
    assert main(said) == 0
    out = capsys.readouterr().out
    assert out.startswith("to the dataset someone/scenes (a new one is private)")
    assert "the card still says: TO DO: name the licence" in out
    assert out.splitlines()[-1] == "nothing was sent; the same command with --confirm sends it"
    assert "created" not in hub.kept

    assert main([*said, "--confirm", "--public", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sent"] is True
    assert hub.kept["created"]["type"] == "dataset"
    assert hub.kept["created"]["visibility"] == "public"
    files = {str(file.relative_to(data_set)): file.read_bytes() for file in data_set.rglob("*") if file.is_file()}
    assert len(files) == 4
    assert hub.kept["files"] == files


def test_what_is_no_data_set_is_not_sent(folder, tmp_path):
    with pytest.raises(ConfigError, match="is an exported model; send it with: visual-rft export RUN --push a/b"):
        plan_push(folder, "a/b", kind="dataset")
    with pytest.raises(ConfigError, match=r"is not a data set with a card \(no README.md\)"):
        plan_push(tmp_path / "coins-model" / "x", "a/b", kind="dataset")
