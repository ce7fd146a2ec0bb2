"""The policy's weights on their way to a server: written to a folder that both can read, then taken up there.

Decision: no weight is changed while a request is computed, and nothing that was computed with the old ones is kept:
pause, update, clear the caches of prefixes, of images and of *encoded* images, go on. vLLM clears none of them when an
update ends (vllm#44910), and a tower that learns would be asked about features of the tower before. Every version has a
name that comes back with every completion: an adapter's is its own, that of whole weights is asked for beside.

    name = FileWeights(client, Path("runs/coins/weights")).push(policy, 3)
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any, Protocol

from visual_rft.errors import ServerError
from visual_rft.policy.policy import Policy
from visual_rft.serving.client import Client

CACHES = ("/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache")
"""What a server may remember of the old weights."""


class Weights(Protocol):
    """A way for weights to a server."""

    def push(self, policy: Policy, version: int) -> str:
        """Bring the policy's weights to every server as this version; returns the name of the model to ask from now on.

        Raises:
            ServerError: if a server does not take them.
        """

    def check(self, version: int) -> None:
        """Make sure that every server has this version.

        Raises:
            ServerError: if one has another.
        """


class AdapterWeights:
    """A LoRA adapter, loaded under a name of its own for each version; the one before is then unloaded.

    A new name, because a server keeps image features by the adapter's name (vllm#44939), and an answer bears it.

    Args:
        client: of the servers, started with ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``.
        folder: that the servers can read.
    """

    def __init__(self, client: Client, folder: Path) -> None:
        self.client, self.folder = client, folder
        self._loaded: str | None = None
        self._session = secrets.token_hex(3)  # a run that goes on meets adapters of the session before it

    def push(self, policy: Policy, version: int) -> str:
        """As :meth:`Weights.push`."""
        name = f"policy-{self._session}-{version:06d}"
        place = written(policy, self.folder, version)
        for url in self.client.urls:
            with_paused(self.client, url, [("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(place)})])
            if self._loaded is not None:
                self.client.call(url, "POST", "/v1/unload_lora_adapter", {"lora_name": self._loaded})
        self._loaded = name
        forget(self.folder, version)
        return name

    def check(self, version: int) -> None:
        """Nothing to ask: an answer bears the adapter's name."""


class FileWeights:
    """Whole weights, through vLLM's weight-transfer calls with a backend that reads a folder.

    Args:
        client: of the servers, started with a backend that takes ``{"path": FOLDER}`` (docs/serving.md).
        folder: that the servers can read.
    """

    def __init__(self, client: Client, folder: Path) -> None:
        self.client, self.folder = client, folder
        self._begun = False

    def push(self, policy: Policy, version: int) -> str:
        """As :meth:`Weights.push`."""
        place = written(policy, self.folder, version)
        for url in self.client.urls:
            if not self._begun:
                self.client.call(url, "POST", "/init_weight_transfer_engine", {"init_info": {}})
            calls: list[tuple[str, Any]] = [
                ("/start_weight_update", None),
                ("/update_weights", {"update_info": {"path": str(place)}}),
                ("/finish_weight_update", {"weight_version": str(version)}),
            ]
            with_paused(self.client, url, calls)
        self._begun = True
        forget(self.folder, version)
        return self.client.model

    def check(self, version: int) -> None:
        """As :meth:`Weights.check`, from ``/weight_info``."""
        for url in self.client.urls:
            told = self.client.call(url, "GET", "/weight_info")
            found = told.get("weight_version") if isinstance(told, dict) else None
            if found != str(version):
                raise ServerError(f"server {url}: has weights of version {found!r}, {str(version)!r} was pushed")


def with_paused(client: Client, url: str, calls: list[tuple[str, Any]]) -> None:
    """Make some calls while a server computes nothing, then clear its caches and let it go on.

    Raises:
        ServerError: if it refuses one; it is then left paused, so that nothing is answered by half-changed weights.
    """
    client.call(url, "POST", "/pause?mode=wait")
    for path, body in calls:
        client.call(url, "POST", path, body)
    for path in CACHES:
        client.call(url, "POST", path)
    client.call(url, "POST", "/resume")


def written(policy: Policy, folder: Path, version: int) -> Path:
    """Write the policy's weights, or its adapter, as this version; returns their folder.

    Raises:
        ServerError: if they cannot be written.
    """
    place = folder.absolute() / f"version-{version:06d}"
    shutil.rmtree(place, ignore_errors=True)
    try:
        policy.model.save_pretrained(place)
    except OSError as error:
        raise ServerError(f"{place}: the weights for the server cannot be written ({error.strerror})") from error
    return place


def forget(folder: Path, version: int) -> None:
    """Delete all versions but this one."""
    for place in folder.glob("version-*"):
        if place.name != f"version-{version:06d}":
            shutil.rmtree(place, ignore_errors=True)
