"""Every error this package raises on purpose.

    VisualRFTError
    ├── ConfigError        a run was described wrongly (unknown key, bad value, unknown name)
    ├── DataError          a file, image, row or box cannot be used
    ├── ModelError         a model or processor cannot be used as asked
    │   └── PromptTooLongError
    ├── RunFolderError     a run folder exists already, is incomplete or cannot be written
    └── RunStopped         a run was asked to stop and did: not a mistake, but not the end either

The command line prints these as one line and exits with code 2; any other exception is a bug and keeps its traceback.

>>> did_you_mean("detectoin", ["detection", "grounding"])
"; did you mean 'detection'?"
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
