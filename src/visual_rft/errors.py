"""Every error this package raises on purpose, and how text of somebody else is printed.

    VisualRFTError
    ├── ConfigError        a run was described wrongly (unknown key, bad value, unknown name)
    ├── DataError          a file, image, row or box cannot be used
    ├── ModelError         a model or processor cannot be used as asked
    │   └── PromptTooLongError
    ├── ServerError        a model server cannot be reached, or does not answer as asked
    ├── RunFolderError     a run folder exists already, is incomplete or cannot be written
    └── RunStopped         a run was asked to stop and did: not a mistake, but not the end either

The command line prints these as one line and exits with code 2; any other exception is a bug and keeps its traceback.
Labels, file names and completions go to a terminal through :func:`printable` alone: what a data set or a model wrote
must not clear the screen, rename the window, or look like a line of ours.

>>> did_you_mean("detectoin", ["detection", "grounding"])
"; did you mean 'detection'?"
>>> print(printable("cat\\x1b[2J\\nwarning: none"))
cat\\x1b[2J\\nwarning: none
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MAX_PRINTED = 2_000
"""Characters of a text that are printed."""
_UNPRINTABLE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff]"
)
"""Control characters, separators of lines, marks that turn the direction of writing, halves of characters."""


class VisualRFTError(Exception):
    """Base of all errors that the user can mend; the message says what is wrong and what to do."""


class ConfigError(VisualRFTError):
    """The description of a run is not valid."""


class DataError(VisualRFTError):
    """A data file, image, row or box cannot be used."""


class ModelError(VisualRFTError):
    """A model or its processor cannot be loaded or used as asked."""


class PromptTooLongError(ModelError):
    """A prompt does not fit the model's context. Prompts are never truncated: that would cut image tokens off."""


class ServerError(VisualRFTError):
    """A model server cannot be reached, refuses, or answers something else than it was asked."""


class RunFolderError(VisualRFTError):
    """A run folder exists already, is incomplete, or cannot be written."""


class RunStopped(VisualRFTError):
    """A run was asked to stop, and has kept what it had.

    Args:
        message: what was kept and how to go on.
        exit_code: of the command.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or nothing if none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def printable(text: str, *, lines: bool = False, limit: int | None = MAX_PRINTED) -> str:
    """A text for a terminal: what is not to be seen is written out, as Python would.

    Args:
        text: whatever a data set, a file's name or a model holds.
        lines: whether its line breaks and tabs stay; without, it is one line.
        limit: greatest number of characters; the rest is counted. None means all.
    """
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}... ({len(text) - limit:,} more characters)"

    def escaped(match: re.Match[str]) -> str:
        return match[0] if lines and match[0] in "\n\t" else repr(match[0])[1:-1]

    return _UNPRINTABLE.sub(escaped, text)
