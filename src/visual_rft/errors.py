"""Every error this package raises on purpose.

    VisualRFTError
    ├── ConfigError        a run was described wrongly (unknown key, bad value, unknown name)
    ├── DataError          a file, image, row or box cannot be used
    ├── ModelError         a model or processor cannot be used as asked
    │   └── PromptTooLongError
    └── RunFolderError     a run folder exists already, is incomplete or cannot be written

The command line prints these as one line and exits with code 2; any other exception is a bug and keeps its traceback.
"""


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
