"""Send an exported folder to a model hub; first say what would be sent.

Decision: nothing leaves this machine until it was shown and confirmed. What is sent is the exported folder, file by
file as it lies there; a new repository is private unless it is asked to be public. The hub's own library does the
sending, with its own token and address (``HF_TOKEN``, ``HF_ENDPOINT``).

    plan = plan_push(Path("runs/coins-model"), "someone/coins")
    print("\\n".join(plan.lines()))
    push(plan)                      # https://.../someone/coins
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from visual_rft.errors import ConfigError, ServerError, printable
from visual_rft.policy.stored.places import EXPORTED_CONFIG
from visual_rft.terminal.units import byte_size

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Push:
    """What would be sent, and where.

    Attributes:
        folder: an exported model.
        name: ``NAMESPACE/NAME``.
        public: whether a new repository can be seen by everybody.
        files: every file, relative to the folder, with its bytes.
        to_do: lines of the model card that wait for a person.
    """

    folder: Path
    name: str
    public: bool
    files: dict[str, int]
    to_do: tuple[str, ...]

    def lines(self) -> list[str]:
        """What a person should know before confirming."""
        sight = "public" if self.public else "private"
        rows = [f"  {byte_size(size):>10}  {printable(name)}" for name, size in self.files.items()]
        total = f"{len(self.files)} files, {byte_size(sum(self.files.values()))}"
        heading = f"to the model {self.name} (a new one is {sight}), from {printable(str(self.folder))}: {total}"
        return [heading, *rows, *(f"the card still says: {printable(line)}" for line in self.to_do)]


def plan_push(folder: Path, name: str, public: bool = False) -> Push:
    """Look at what would be sent.

    Args:
        folder: made by :func:`visual_rft.export.export.export_run`.
        name: ``NAMESPACE/NAME`` on the hub.
        public: whether a new repository can be seen by everybody.

    Raises:
        ConfigError: if the name is none, or the folder is no exported model.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise ConfigError(f"--push: {name!r} is not NAMESPACE/NAME")
    if not (folder / EXPORTED_CONFIG).is_file():
        raise ConfigError(f"--push: {folder} is not an exported model (no {EXPORTED_CONFIG})")
    files = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    card = (folder / "README.md").read_text(encoding="utf-8") if "README.md" in files else "TO DO: write a README.md"
    to_do = tuple(line.strip(" *") for line in card.splitlines() if "TO DO" in line)
    return Push(folder, name, public, files, to_do)


def push(plan: Push) -> str:
    """Send it; returns the address of the model.

    Raises:
        ServerError: if the hub cannot be reached, knows no such token, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    hub = HfApi()
    try:
        place = hub.create_repo(plan.name, private=not plan.public, exist_ok=True)
        hub.upload_folder(repo_id=place.repo_id, folder_path=plan.folder, commit_message="Exported by visual-rft")
    except LocalTokenNotFoundError:
        raise ServerError("--push: no token is known; set HF_TOKEN, or run: hf auth login") from None
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = "; is HF_TOKEN one that may write there?" if status in (401, 403) else ""
        why = " ".join(str(error).split())[:200]
        raise ServerError(f"--push: {plan.name} was not (wholly) sent to {hub.endpoint}: {why}{hint}") from error
    return str(place)
