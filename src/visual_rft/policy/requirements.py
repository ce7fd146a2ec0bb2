"""What needs a GPU, or a package that is not installed, is refused before anything is loaded.

>>> require_cuda("optimizer.name", "adamw_8bit", package="bitsandbytes", instead="adamw")   # on a CPU
Traceback (most recent call last):
    ...
visual_rft.errors.ConfigError: optimizer.name: 'adamw_8bit' needs a CUDA GPU, and there is none here; use adamw
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

from visual_rft.errors import ConfigError


def require_cuda(field: str, value: str, *, package: str, instead: str) -> None:
    """Refuse a setting that cannot run here.

    Args:
        field: its path in the config.
        value: the setting.
        package: name of the module that it needs.
        instead: the setting to use without it.

    Raises:
        ConfigError: if there is no CUDA GPU, or the package is not installed.
    """
    if not torch.cuda.is_available():
        raise ConfigError(f"{field}: {value!r} needs a CUDA GPU, and there is none here; use {instead}")
    if find_spec(package) is None:
        name = package.replace("_", "-")
        raise ConfigError(f"{field}: {value!r} needs a package: pip install {name} (or use {instead})")
