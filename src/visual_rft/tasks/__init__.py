"""What is asked, how an answer is read, and what it is worth. This room never imports torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from visual_rft.errors import ConfigError
from visual_rft.tasks.base import Sample, Score, Task
from visual_rft.tasks.detection import Detection

TASKS: dict[str, Callable[..., Task]] = {"detection": Detection}


def load_task(name: str, **options: Any) -> Task:
    """The task called ``name``, with its options (e.g. ``think=False``).

    Raises:
        ConfigError: if there is no such task.
    """
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"task.name: unknown task {name!r}{hint} (known: {', '.join(sorted(TASKS))})")
    return TASKS[name](**options)


__all__ = ["TASKS", "Detection", "Sample", "Score", "Task", "load_task"]
