"""A server of our own: ready before it is used, ended with its user, its last words in the error."""

from __future__ import annotations

import subprocess
import sys

import httpx2
import pytest

from visual_rft.config.sections import LoraConfig, ModelConfig
from visual_rft.errors import ConfigError, ServerError
from visual_rft.serving.started import started
from visual_rft.serving.vllm_options import flags, rollout_options

HEALTHY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def test_it_answers_inside_and_is_gone_after(tmp_path):
    with started([sys.executable, "-c", HEALTHY], tmp_path / "new" / "log") as url:
        assert httpx2.get(f"{url}/health", trust_env=False).status_code == 200
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"{url}/health", trust_env=False)


def test_it_is_ended_where_its_user_fails(tmp_path):
    with pytest.raises(KeyError), started([sys.executable, "-c", HEALTHY], tmp_path / "log") as url:
        raise KeyError
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"{url}/health", trust_env=False)


def test_its_last_words_are_told(tmp_path):
    words = "print('loading'); raise ValueError('no such backend'); print('never')"
    said = f"ended with 1 before it was ready: ValueError: no such backend .all of it: {tmp_path / 'log'}"
    with pytest.raises(ServerError, match=said), started([sys.executable, "-c", words], tmp_path / "log"):
        pass


def test_one_that_is_never_ready_is_ended(tmp_path, monkeypatch):
    begun = []
    begin = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **fields: begun.append(begin(*words, **fields)) or begun[0])
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    said = "was not ready within 1 s: it said nothing"
    with pytest.raises(ServerError, match=said), started(command, tmp_path / "log", seconds=1):
        pass
    assert begun[0].poll() is not None


def test_a_command_that_is_none_is_one_line(tmp_path):
    said = "command 'no-such-vllm' cannot be run"
    with pytest.raises(ConfigError, match=said), started(["no-such-vllm", "serve"], tmp_path / "log"):
        pass


def test_options_of_a_rollout():
    whole = flags(rollout_options(ModelConfig(max_pixels=1000), "bfloat16", constrained=True))
    assert " ".join(whole) == (
        "--dtype bfloat16 --logprobs-mode processed_logprobs --generation-config vllm "
        '--limit-mm-per-prompt {"video": 0} --structured-outputs-config {"backend": "guidance"} '
        '--mm-processor-kwargs {"max_pixels": 1000} --weight-transfer-config {"backend": "folder"}'
    )
    adapter = flags(rollout_options(ModelConfig(lora=LoraConfig(rank=12, vision=True)), "float32"))
    assert "--weight-transfer-config" not in adapter
    assert adapter[-4:] == ["--enable-lora", "--max-lora-rank", "16", "--enable-tower-connector-lora"]
