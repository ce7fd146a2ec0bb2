"""The user's own tasks and rewards, named in a config: ``package.module:name`` or ``path/to/file.py:name``.

Decision: a file is run as Python when it is named, like any import; nothing is looked for, and nothing is run that
was not named by the user in a config or on the command line. What the user's code raises, ``SystemExit`` too, is an
error that names the function and the line; a reward has a time limit and gets copies, so that it cannot change the
truth that the other rewards see.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from visual_rft.config.paths import hint
from visual_rft.errors import ConfigError, VisualRFTError
from visual_rft.tasks.time_limit import OutOfTimeError, within
from visual_rft.vision.boxes import is_finite_number

MAX_REWARD = 1e9
"""Greatest size of a reward or weight: the variance of products of the two still fits into float32, the advantages of
greater ones are not finite."""


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
    if place.endswith(".py") and not Path(place).is_file():
        raise ConfigError(f"{spec!r}: there is no file {place}{hint(Path(place))}")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{spec!r}: {error}; name an installed module or a file that ends in .py") from None
    except BaseException as error:
        if _asked_to_stop(error):
            raise
        raise ConfigError(f"{spec!r}: cannot be imported: {_told(error)}") from error
    if not hasattr(module, name):
        raise ConfigError(f"{spec!r}: {place} defines no {name!r}")
    _LOADED.setdefault(str(getattr(module, "__file__", place)), []).append(spec)
    return getattr(module, name)


def load_function(field: str, name: str) -> Callable[[Any], Any]:
    """The user's function behind ``module:function`` or ``file.py:function``.

    Args:
        field: of the config, for messages.
        name: where it is.

    Raises:
        ConfigError: if there is none, or it is no function.
    """
    function: Callable[[Any], Any] = load_object(name)
    if not callable(function):
        raise ConfigError(f"{field}: {name!r} is not a function")
    return function


def users_reward(name: str, completion: str, truth: Mapping[str, Any], answer: Any, seconds: float) -> float | None:
    """What the user's own reward gives a completion.

    Args:
        name: where the function is, ``module:function`` or ``file.py:function``.
        completion: the model's text.
        truth: as in :class:`visual_rft.tasks.Sample`; the function gets a copy.
        answer: as in :class:`visual_rft.tasks.Score`; the function gets a copy.
        seconds: greatest duration.

    Returns:
        A number of any real type as a float, None where the reward does not apply.

    Raises:
        ConfigError: if there is no such function, it raises, takes too long, or returns anything but a number from
            -1e9 to 1e9 or None.
    """
    function, where = load_object(name), f"task.weights: reward {name!r}"
    given = (completion, _copied(truth), _copied(answer))
    try:
        value = within(seconds, lambda: function(*given))
    except OutOfTimeError as error:
        raise ConfigError(f"{where} {error}; make it quicker, or raise task.options.reward_seconds") from None
    except BaseException as error:
        if _asked_to_stop(error):
            raise
        raise ConfigError(f"{where} {_told(error)}") from error
    if value is None:
        return None
    number = _as_number(value)
    if number is None or not -MAX_REWARD <= number <= MAX_REWARD:
        said = " ".join(repr(value).split())[:200]
        raise ConfigError(f"{where} returned {said}; return a finite number of at most {MAX_REWARD:g}, or None")
    return number


def _as_number(value: Any) -> float | None:
    """A finite number of any type, numpy's and bools among them, as a float; None for anything else."""
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, Real) and type(value).__module__ in ("numpy", "torch") and getattr(value, "size", 0) == 1:
        value = value.item()  # numpy's bool, an array of one number
        return _as_number(value) if isinstance(value, (bool, Real)) else None
    if isinstance(value, Real):
        try:
            value = float(value)
        except OverflowError:
            return None
    return value if is_finite_number(value) else None


def _copied(value: Any) -> Any:
    """Plain values copied through and through; ten times as quick as ``copy.deepcopy``."""
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in value]
    if isinstance(value, tuple):
        return tuple(_copied(inner) for inner in value)
    return value


def _asked_to_stop(error: BaseException) -> bool:
    """Whether somebody pressed Ctrl-C, which in a run is a note and no exception (``training/run/stopping.py``)."""
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _told(error: BaseException) -> str:
    """``raised KIND: text (file, line N)`` in one line; the line is the deepest one of the traceback."""
    text = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}{': ' if text else ''}{text}{place}"


def blame(error: BaseException) -> str | None:
    """What to say of an error that the user's own task or reward raised, or led to; None if it was not theirs.

    Two lines: which object, on which sample and what; then the user's own line. The sample is the one that the code
    which called theirs was at.

    Args:
        error: as it was caught, with its traceback.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    if isinstance(error, VisualRFTError):  # a reward's, told already without the sample
        if not isinstance(error.__cause__, Exception) or isinstance(error.__cause__, VisualRFTError):
            return None
        error = error.__cause__
        frames += traceback.walk_tb(error.__traceback__)
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


def part_name(name: str) -> str:
    """The name under which a reward is reported: of ``file.py:function`` the function."""
    return name.rpartition(":")[2]


def check_weights(weights: Mapping[str, float], known: Collection[str]) -> None:
    """Make sure that every reward exists, has a name of its own and a weight.

    Args:
        weights: factor of each reward by name; one of the user's own has a colon in it.
        known: names of the built-in ones.

    Raises:
        ConfigError: naming the reward.
    """
    for name, weight in weights.items():
        if ":" in name:
            if not callable(load_object(name)):
                raise ConfigError(f"task.weights: {name!r} is not a function")
        elif name not in known:
            raise ConfigError(
                f"task.weights: unknown reward {name!r}; choose from {', '.join(sorted(known))}, or name your own "
                "as module:function or file.py:function"
            )
        if not is_finite_number(weight):
            raise ConfigError(f"task.weights.{name}: {weight!r} is not a finite number")
        if abs(weight) > MAX_REWARD:
            raise ConfigError(f"task.weights.{name}: {weight!r} is more than {MAX_REWARD:g}")
    twice = [part for part, times in Counter(map(part_name, weights)).items() if times > 1]
    if twice:
        raise ConfigError(f"task.weights: two rewards are called {twice[0]!r}; rename your function")
