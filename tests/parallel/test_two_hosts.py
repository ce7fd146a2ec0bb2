"""Two network namespaces as two hosts, joined by a virtual cable: torchrun on each, one run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml
from support.runs import metrics
from support.shared_runs import run_settings, texts

from visual_rft.config.config import parse_config
from visual_rft.training.rft import train

ADDRESSES = ("10.231.25.1", "10.231.25.2")
STEPS = 4
REWARD = """
def letters(completion, truth, answer):
    return sum(c in "aeiou" for c in completion) / max(len(completion), 1)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def two_hosts() -> Iterator[list[str]]:
    """Names of two network namespaces that reach each other and nothing else."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command, which makes network namespaces")
    hosts = [f"vrft-{os.getpid()}-{end}" for end in "ab"]
    cables = [f"vrft{os.getpid() % 1_000_000}{end}" for end in "ab"]  # at most 15 characters
    try:
        try:
            for host in hosts:
                ip("netns", "add", host)
            ip(
                "link",
                "add",
                cables[0],
                "netns",
                hosts[0],
                "type",
                "veth",
                "peer",
                "name",
                cables[1],
                "netns",
                hosts[1],
            )
            for host, cable, address in zip(hosts, cables, ADDRESSES, strict=True):
                ip("-n", host, "link", "set", cable, "name", "cable")
                ip("-n", host, "addr", "add", f"{address}/24", "dev", "cable")
                ip("-n", host, "link", "set", "cable", "up")
                ip("-n", host, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)


def sent(host: str) -> int:
    """Bytes that a host has sent over its cable."""
    words = ["ip", "netns", "exec", host, "cat", "/sys/class/net/cable/statistics/tx_bytes"]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def test_a_run_on_two_hosts_is_the_run_of_one(model_folders, tmp_path):
    base, loop = model_folders["qwen2_vl"], {"steps": STEPS, "prompts_per_batch": 2}
    (tmp_path / "own.py").write_text(REWARD)
    task = {"weights": {f"{tmp_path / 'own.py'}:letters": 1}}
    values = run_settings(tmp_path / "two", base, run=loop, task=task)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "cable", "OMP_NUM_THREADS": "1"}
    with two_hosts() as hosts:
        agents = []
        for number, (host, address) in enumerate(zip(hosts, ADDRESSES, strict=True)):
            words = [
                "ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
                "--nproc-per-node", "1", "--node-rank", str(number), "--local-addr", address, "--rdzv-id", "test",
                "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:29500",
                # Found out by the machine's name, which both have.
                "--rdzv-conf", f"is_host={number == 0}", "-m", "visual_rft", "train", str(tmp_path / "run.yaml"),
            ]  # fmt: skip
            with (tmp_path / f"said-{number}.txt").open("w") as said:
                agents.append(subprocess.Popen(words, env=environment, stdout=said, stderr=said))
        try:
            codes = [agent.wait(200) for agent in agents]
        finally:
            for agent in agents:
                agent.kill()
        assert codes == [0, 0], [(tmp_path / f"said-{number}.txt").read_text() for number in range(2)]
        bytes_sent = [sent(host) for host in hosts]
    train(parse_config(run_settings(tmp_path / "one", base, run=loop, task=task), "test"))
    assert texts(tmp_path / "two") == texts(tmp_path / "one")
    for row, expected in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        for name in ("reward", "loss", "grad_norm", "length"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-4), name
    # What docs/scaling.md says moves: 4 bytes a parameter and step out of each of two, and some kB; here, with headers.
    parameters = json.loads((tmp_path / "two" / "summary.json").read_text())["model"]["parameters"]
    gradients = 4 * parameters * STEPS
    for count in bytes_sent:
        assert gradients < count < 1.5 * gradients, (gradients, bytes_sent)
