"""A model on the hub: can it be reached? Known within seconds, and said once.

Decision: one question to the hub with a short time limit before anything is loaded. The libraries themselves ask for a
dozen files and try each again and again: four minutes without a network before they say so. What has been fetched
before is then read from its folder on this machine.

    reachable("Qwen/Qwen2-VL-2B-Instruct")      # the same, or the folder of the cache where the hub is not reachable
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from visual_rft.errors import ModelError

SECONDS = 5.0
"""Limit of the question; the hub answers in a tenth of a second."""
_REMEDY = "fetch it where there is a network and name its folder, or use 'tiny'"


@cache
def reachable(name: str) -> str:
    """``name`` where it is a folder or the hub has it; else the folder where it was fetched to before.

    Args:
        name: a folder or a hub id.

    Raises:
        ModelError: if the hub does not know it or cannot be reached, and it was not fetched before.
    """
    if Path(name).exists():
        return name
    found = _fetched(name)
    if constants.HF_HUB_OFFLINE:
        if found is None:
            raise ModelError(
                f"model.path: {name!r} is not on this machine, and HF_HUB_OFFLINE says to stay offline; {_REMEDY}"
            )
        return found
    try:
        HfApi().model_info(name, timeout=SECONDS)
    except GatedRepoError:
        raise ModelError(
            f"model.path: {name!r} is gated: accept its terms on {constants.ENDPOINT}/{name}, then hf auth login"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(
            f"model.path: {name!r} is neither a folder nor a model on the hub (a private one needs hf auth login)"
        ) from None
    except Exception as error:  # noqa: BLE001  (no network, a proxy, a name server: each library has its own class)
        if found is None:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise ModelError(
                f"model.path: {name!r} is no folder here, and the hub cannot be reached ({reason}); {_REMEDY}"
            ) from None
        print(f"note: the hub cannot be reached; {name} is read from {found}", file=sys.stderr)
        return found
    return name


def _fetched(name: str) -> str | None:
    """The folder of a model that was fetched before."""
    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return str(Path(config).parent) if isinstance(config, str) else None
