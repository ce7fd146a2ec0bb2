"""Where servers are: URLs checked, and which of them is asked next.

Decision: the least loaded server gets the next request, and one that has just failed only if no other is left. A key
comes from the environment alone; a URL that holds one is refused, because URLs are printed.

>>> address("http://127.0.0.1:8000/v1/")
'http://127.0.0.1:8000'
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from visual_rft.errors import ConfigError

KEY_VARIABLE = "VISUAL_RFT_SERVER_KEY"
"""Environment variable that holds the API key, if the server wants one. Not that of a known service, whose key would
then go to any server that somebody names."""


def address(url: str) -> str:
    """A server's URL without its path ``/v1``.

    Raises:
        ConfigError: if it is no URL of a server, or holds a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"server {url!r}: {error}; write it as http://127.0.0.1:8000") from None
    if parts.username or parts.password:
        raise ConfigError(f"server {parts.hostname}: its URL holds a user or password; put the key into {KEY_VARIABLE}")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise ConfigError(f"server {url!r}: is no URL of a server; write it as http://127.0.0.1:8000")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def is_here(url: str) -> bool:
    """Whether a server is on this machine, so that no proxy of the environment may stand in between."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def key_of(variable: str) -> str | None:
    """The API key in the environment, or None.

    Raises:
        ConfigError: if it cannot stand in a header; the message does not show it.
    """
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{variable}: holds characters that no API key has; set it again")
    return key or None


class Balance:
    """Requests in flight by server.

    Args:
        urls: the servers.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.load = dict.fromkeys(urls, 0)
        self._failed: dict[str, int] = dict.fromkeys(urls, 0)

    def take(self, avoid: str | None = None, only: str | None = None) -> str:
        """The server for the next request, which counts as in flight from now on.

        Args:
            avoid: server that has just failed this request.
            only: the one to take, whatever its load.
        """
        url = only or min(self.load, key=lambda name: (name == avoid, self._failed[name] > 0, self.load[name]))
        self.load[url] += 1
        return url

    def give_back(self, url: str, *, failed: bool) -> None:
        """The request to this server has ended; one that fails is asked after the others until it answers again."""
        self.load[url] -= 1
        self._failed[url] = self._failed[url] + 1 if failed else 0
