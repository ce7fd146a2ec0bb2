"""What a run was made with: command, versions, device, commit.

Decision: the commit is that of a checkout which holds the package's own source, never that of a repository in which
somebody keeps a virtual environment.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("visual-rft", "torch", "torchvision", "transformers", "accelerate", "peft", "numpy", "pillow")
SOURCE = Path(__file__).resolve().parents[2]


def environment(seed: int) -> dict[str, Any]:
    """Command, time, seed, versions, device and commit of this process.

    Args:
        seed: of batch order and sampling.
    """
    cuda = torch.cuda.is_available()
    return {
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "threads": torch.get_num_threads(),
        "git": git_commit(SOURCE),
    }


def git_commit(source: Path) -> dict[str, Any] | None:
    """``commit`` of the checkout that holds ``source``, and whether its files were ``changed`` since.

    Args:
        source: the package's folder.

    Returns:
        None outside a checkout of this package, or without git.
    """
    top = _git(source, "rev-parse", "--show-toplevel")
    commit = _git(source, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top).resolve() / "src" / source.name != source.resolve():
        return None
    return {"commit": commit, "changed": bool(_git(source, "status", "--porcelain", "--untracked-files=no"))}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 (fixed words, no shell)
            ["git", "-C", str(folder), *words],  # noqa: S607 (whichever git the user has)
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
