"""The user's own tasks and rewards, named in a config: ``package.module:name`` or ``path/to/file.py:name``.

Decision: a file is run as Python when it is named, like any import; nothing is looked for, and nothing is run that
was not named by the user in a config or on the command line. When the user's code fails, a command says so in two
lines, the object and sample and then the user's own line (:func:`blame`), because a traceback through this package
hides it. In Python the traceback stays.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from visual_rft.config.paths import hint
from visual_rft.errors import ConfigError

_LOADED: dict[str, list[str]] = {}
"""What was loaded from each file of the user's, as it was named."""


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
    except Exception as error:
        raise ConfigError(f"{spec!r}: cannot be imported: {_said(error)}{_import_line(error)}") from error
    if not hasattr(module, name):
        raise ConfigError(f"{spec!r}: {place} defines no {name!r}")
    _LOADED.setdefault(str(getattr(module, "__file__", place)), []).append(spec)
    return getattr(module, name)


def blame(error: BaseException) -> str | None:
    """What to say of an error that the user's own task or reward raised, or led to; None if it was not theirs.

    Two lines: which object, on which sample and what; then the user's own line. The sample is the one that the code
    which called theirs was at.

    Args:
        error: as it was caught, with its traceback.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [(frame, line) for frame, line in frames if frame.f_code.co_filename in _LOADED]
    if not own:
        return None
    frame, line = own[-1]
    file = frame.f_code.co_filename
    # Of several things in one file, the one whose code was entered first.
    entered = own[0][0].f_code.co_qualname.split(".")[0]
    specs = _LOADED[file]
    spec = next((spec for spec in specs if spec.rpartition(":")[2] == entered), specs[0])
    sample = _sample_at([frame.f_locals for frame, _ in frames])
    about = f" on sample {sample}" if sample else ""
    return f"{spec!r} failed{about}: {_said(error)}{_source_line(file, line, frame.f_code.co_qualname)}"


def _sample_at(scopes: Sequence[Mapping[str, Any]]) -> str | None:
    """The id of the sample that the code was at, from the variables of its functions, the innermost last.

    It is what every loop here calls ``sample``. The variables of a comprehension are gone when it fails: then it is the
    one of the batch (``samples``, or ``answers`` to some) whose truth was handed on.
    """
    found = next((scope["sample"] for scope in reversed(scopes) if hasattr(scope.get("sample"), "truth")), None)
    if found is None:
        truths = [scope["truth"] for scope in scopes if isinstance(scope.get("truth"), Mapping)]
        batches = [scope.get(name) for scope in scopes for name in ("samples", "answers")]
        asked = (getattr(one, "sample", one) for batch in batches if isinstance(batch, (list, tuple)) for one in batch)
        found = next((one for one in asked if any(getattr(one, "truth", None) is truth for truth in truths)), None)
    return None if found is None else str(found.id)


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _import_line(error: BaseException) -> str:
    """Where an import failed: the innermost line of a file that is not the import system's own."""
    if isinstance(error, SyntaxError) and error.filename:
        return _source_line(error.filename, error.lineno or 1, "")
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    places = [place for place in places if not place[0].startswith("<") and place[0] != __file__]
    return _source_line(*places[-1], "") if places else ""


def _source_line(file: str, line: int, function: str) -> str:
    where = f"{os.path.relpath(file)}:{line}" if Path(file).is_relative_to(Path.cwd()) else f"{file}:{line}"
    within = f" in {function}" if function else ""
    return f"\n  {where}{within}: {linecache.getline(file, line).strip()}"


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
