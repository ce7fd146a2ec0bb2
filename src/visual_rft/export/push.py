"""Send an exported model or a written data set to a hub; first say what would be sent.

Decision: nothing leaves this machine until it was shown and confirmed. What is sent is the folder, file by file
as it lies there; a new repository is private unless it is asked to be public. The hub's own library does the
sending, with its own token and address (``HF_TOKEN``, ``HF_ENDPOINT``).

    plan = plan_push(Path("runs/coins-model"), "someone/coins")
    print("\\n".join(plan.lines()))
    push(plan)                      # https://.../someone/coins
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visual_rft.errors import ConfigError, ServerError, printable
from visual_rft.policy.stored.places import EXPORTED_CONFIG
from visual_rft.terminal.units import byte_size

Kind = Literal["model", "dataset"]
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Push:
    """What would be sent, and where.

    Attributes:
        folder: an exported model, or a data set.
        name: ``NAMESPACE/NAME``.
        public: whether a new repository can be seen by everybody.
        files: every file, relative to the folder, with its bytes.
        to_do: lines of the card that wait for a person.
        kind: what it is to the hub.
    """

    folder: Path
    name: str
    public: bool
    files: dict[str, int]
    to_do: tuple[str, ...]
    kind: Kind = "model"

    def lines(self) -> list[str]:
        """What a person should know before confirming."""
        sight = "public" if self.public else "private"
        rows = [f"  {byte_size(size):>10}  {printable(name)}" for name, size in self.files.items()]
        total = f"{len(self.files)} files, {byte_size(sum(self.files.values()))}"
        heading = f"to the {self.kind} {self.name} (a new one is {sight}), from {printable(str(self.folder))}: {total}"
        return [heading, *rows, *(f"the card still says: {printable(line)}" for line in self.to_do)]


def plan_push(folder: Path, name: str, public: bool = False, kind: Kind = "model") -> Push:
    """Look at what would be sent.

    Args:
        folder: made by :func:`visual_rft.export.export.export_run`, or by a verb of ``visual-rft data``.
        name: ``NAMESPACE/NAME`` on the hub.
        public: whether a new repository can be seen by everybody.
        kind: which of the two it is.

    Raises:
        ConfigError: if the name is none, or the folder is not what it is said to be.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise ConfigError(f"push: {name!r} is not NAMESPACE/NAME")
    exported, card = (folder / EXPORTED_CONFIG).is_file(), folder / "README.md"
    if kind == "model" and not exported:
        raise ConfigError(f"push: {folder} is not an exported model (no {EXPORTED_CONFIG})")
    if kind == "dataset" and exported:
        raise ConfigError(f"{folder} is an exported model; send it with: visual-rft export RUN --push {name}")
    if kind == "dataset" and not card.is_file():
        raise ConfigError(
            f"{folder} is not a data set with a card (no {card.name}); write one with: visual-rft data convert"
        )
    files = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    said = card.read_text(encoding="utf-8") if card.is_file() else f"TO DO: write a {card.name}"
    to_do = tuple(line.strip(" *") for line in said.splitlines() if "TO DO" in line)
    return Push(folder, name, public, files, to_do, kind)


def offered(folder: Path, name: str, public: bool, confirmed: bool, kind: Kind = "model") -> str:
    """What a verb says of a folder that could be sent; it is sent if that is confirmed.

    Raises:
        ConfigError, ServerError: as :func:`plan_push` and :func:`push`.
    """
    plan = plan_push(folder, name, public, kind)
    end = f"sent: {push(plan)}" if confirmed else "nothing was sent; the same command with --confirm sends it"
    return "\n".join([*plan.lines(), end])


def push(plan: Push) -> str:
    """Send it; returns its address.

    Raises:
        ServerError: if the hub cannot be reached, knows no such token, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    hub = HfApi()
    try:
        place = hub.create_repo(plan.name, repo_type=plan.kind, private=not plan.public, exist_ok=True)
        hub.upload_folder(
            repo_id=place.repo_id, repo_type=plan.kind, folder_path=plan.folder, commit_message="Sent by visual-rft"
        )
    except LocalTokenNotFoundError:
        raise ServerError("push: no token is known; set HF_TOKEN, or run: hf auth login") from None
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = "; is HF_TOKEN one that may write there?" if status in (401, 403) else ""
        why = " ".join(str(error).split())[:200]
        raise ServerError(f"push: {plan.name} was not (wholly) sent to {hub.endpoint}: {why}{hint}") from error
    return str(place)
