"""Model and processor out of files: whole, or refused in one line.

Decision: transformers fills a tensor that the files lack with random numbers and says so in a table among other lines;
here a tensor that is missing or has another shape is an error that names it. Tied heads, and what the model's own code
declares dispensable, are not missing; tensors that the model has no use for are no mistake. Whatever else a cut, empty
or foreign file makes the libraries raise (each has exceptions of its own, one of them the bare ``Exception``) is an
error of that file, never a traceback.

    processor = read("runs/demo/model", lambda: AutoProcessor.from_pretrained("runs/demo/model"))
    model = load_model("runs/demo/model", dtype=torch.float32)
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from transformers import AutoModelForImageTextToText

from visual_rft.errors import ModelError, VisualRFTError

ADAPTER_CONFIG = "adapter_config.json"
"""Marks the folder of an adapter; names its base."""
MAX_NAMED = 5
"""Tensors that a message names; the others are counted."""
T = TypeVar("T")


def read(path: str, load: Callable[[], T]) -> T:
    """``load()``, which reads the files of a model.

    Args:
        path: name of the model in the message.
        load: function of a library that reads files.

    Raises:
        ModelError: if it raises anything.
    """
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # a table of tensors on standard error, beside the one line
    try:
        return load()
    except VisualRFTError:
        raise
    except Exception as error:  # every library that reads a model file has exceptions of its own
        raise ModelError(f"model.path: cannot load {path!r} ({_broken_file(path) or _in_words(error)})") from error
    finally:
        transformers.utils.logging.set_verbosity(before)


def load_model(path: str, base: str | None = None, **options: Any) -> Any:
    """A stock model with every tensor from its files.

    Args:
        path: a folder or hub id; the folder of an adapter gives its base under the adapter.
        base: where the base of an adapter is; None takes what the adapter's config names.
        options: what ``from_pretrained`` is told besides.

    Raises:
        ModelError: if the model cannot be loaded, or lacks a tensor or has one of another shape.
    """
    adapter = is_adapter(path)
    source = (base or adapter_base(path)) if adapter else path
    model, found = read(
        path,
        lambda: AutoModelForImageTextToText.from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True, **options
        ),
    )
    _refuse_gaps(source, found["missing_keys"], found["mismatched_keys"])
    if adapter:
        info = read(path, lambda: model.load_adapter(path, dtype=options.get("dtype"), ignore_mismatched_sizes=True))
        _refuse_gaps(path, info.missing_keys, info.mismatched_keys)
    return model


def load_adapter(model: Any, folder: str, *, learns: bool) -> Any:
    """``model`` under the adapter of a folder, by peft.

    Args:
        model: the base.
        folder: the adapter's.
        learns: whether the adapter is trained on.

    Raises:
        ModelError: if the adapter cannot be loaded, or lacks a tensor or has one of another shape.
    """
    from peft import PeftModel

    def load() -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")  # names them, and goes on at random
            return PeftModel.from_pretrained(model, folder, is_trainable=learns)

    return read(folder, load)


def is_adapter(path: str) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    folder = Path(path)
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def adapter_base(folder: str) -> str:
    """The folder or hub id of the base that an adapter's config names.

    Raises:
        ModelError: if the config cannot be read or names none.
    """
    file = Path(folder) / ADAPTER_CONFIG
    try:
        base = json.loads(file.read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"model.path: {file}: cannot be read as an adapter's config ({_in_words(error)})") from None
    if not isinstance(base, str) or not base:
        raise ModelError(f"model.path: {file}: names no base (base_model_name_or_path)")
    return base


def _refuse_gaps(path: str, missing: Iterable[str], mismatched: Iterable[tuple[str, torch.Size, torch.Size]]) -> None:
    """Refuse a model of which a tensor would be random."""
    shapes = [f"{name} is {list(has)} instead of {list(wanted)}" for name, has, wanted in sorted(mismatched)]
    for what, names in (("lacks", sorted(missing)), ("has tensors of another shape:", shapes)):
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            raise ModelError(
                f"model.path: {path!r} {what} {', '.join(names[:MAX_NAMED])}{more}; it would be filled with random "
                "numbers: take a whole copy of this model, or the class that its config.json names"
            )


def _broken_file(path: str) -> str | None:
    """The first file of a local model that is no JSON although it is named so: what the libraries say names none."""
    for file in sorted(Path(path).glob("*.json")):
        try:
            json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            return f"{file.name}: {_in_words(error)}"
    return None


def _in_words(error: BaseException) -> str:
    """The beginning of what an exception says, in one line; its kind where that says little."""
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, OSError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
