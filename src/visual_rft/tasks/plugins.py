"""The user's own tasks and rewards, named in a config: ``package.module:name`` or ``path/to/file.py:name``.

Decision: a file is run as Python when it is named, like any import; nothing is looked for, and nothing is run that
was not named by the user in a config or on the command line.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from visual_rft.config.paths import hint
from visual_rft.errors import ConfigError


@cache
def load_object(spec: str) -> Any:
    """The object that ``module:name`` or ``file.py:name`` names.

    Raises:
        ConfigError: if the module or file is not there, fails to import, or has no such name.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name.isidentifier():
        raise ConfigError(f"{spec!r}: write package.module:name or path/to/file.py:name")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except FileNotFoundError:
        raise ConfigError(f"{spec!r}: there is no file {place}{hint(Path(place))}") from None
    except ModuleNotFoundError as error:
        raise ConfigError(f"{spec!r}: {error}; name an installed module or a file that ends in .py") from None
    if not hasattr(module, name):
        raise ConfigError(f"{spec!r}: {place} defines no {name!r}")
    return getattr(module, name)


def _from_file(path: Path) -> ModuleType:
    """Import one file under a name made of its path, so that two files of the same name do not meet."""
    path = path.resolve(strict=True)
    name = "visual_rft_user_" + "".join(c if c.isalnum() else "_" for c in str(path.with_suffix("")))
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
