"""A decoding step's kernels, recorded once and started together (a CUDA graph).

Decision: on a GPU a step is some thousand small kernels, which take longer to launch than to run: 28 ms against 5 ms
for the shapes of Qwen2-VL-2B on an H200.

    replay = Replay()
    hidden = replay(step, tokens)       # the third call of the same function replays what the second recorded
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar
from warnings import warn

import torch
from torch import Tensor


class Replay:
    """Calls a function of one tensor, and from the third call on replays its kernels (a CUDA graph).

    The function may change tensors in place, and must always do the same with the same ones: whoever replaces them
    makes a new replay. The first call is an ordinary one, because libraries allocate and choose kernels in it; the
    second is recorded. A function that waits for the device cannot be recorded; it is called as it is, with a warning,
    and nothing is recorded in this process any more.
    """

    possible: ClassVar[bool] = True
    _last: ClassVar[torch.cuda.CUDAGraph | None] = None
    """Its memory serves the next one; memory of a graph that is gone is given back only when the GPU is full."""

    def __init__(self) -> None:
        self._called = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._argument: Tensor | None = None
        self._result: Tensor | None = None

    def __call__(self, function: Callable[[Tensor], Tensor], argument: Tensor) -> Tensor:
        """``function(argument)``, valid until the next call; always the same function, from GPU to GPU."""
        if self._called and self._graph is None and Replay.possible:
            self._argument = argument.clone()
            self._record(function, self._argument)
        self._called = True
        if self._graph is None or self._argument is None or self._result is None:
            return function(argument)
        self._argument.copy_(argument)
        self._graph.replay()
        return self._result

    def _record(self, function: Callable[[Tensor], Tensor], argument: Tensor) -> None:
        """Record a call; nothing is computed."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        # By hand, because torch.cuda.graph() empties the allocator's cache, which the next update has to fill again.
        with torch.cuda.stream(stream):
            pool = Replay._last.pool() if Replay._last is not None else None
            graph.capture_begin(pool, capture_error_mode="thread_local")
            try:
                result = function(argument)
            except RuntimeError as error:
                with suppress(RuntimeError):  # "capture was invalidated", which is known
                    graph.capture_end()
                Replay.possible = False
                warn(f"decoding is not recorded as a CUDA graph, which makes it slower: {error}", stacklevel=2)
                return
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph, self._result = graph, result
        Replay._last = graph
