"""What every benchmark measures with: peak memory, the machine's matrix-product rate, and where a result comes from.

Decision on memory: the resident set of the process, because it is what runs out and because it counts what no hook of
a framework sees. ``VmHWM`` is the kernel's own high-water mark; writing 5 to ``clear_refs`` resets it to the present
size, so nothing has to be sampled. Memory that malloc has kept from earlier work would hide in the starting point, so
it is handed back first (``malloc_trim``); and a measured process is started with :data:`MALLOC`, so that each tensor
is given back to the system the moment it is freed and the mark follows what is alive.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MALLOC_GIVES_BACK = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
"""Environment of a process whose memory is measured: glibc maps and unmaps each tensor from 128 KiB on."""
MALLOC_KEEPS = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**35),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""Environment of a process whose seconds are measured: glibc keeps what is freed. Otherwise the kernel clears the same
pages again in every step, which took TRL 10 % of a step with 8 rows a forward pass and a quarter with 32."""


CLOCK = os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """CPU seconds that the whole machine has worked since it started, the host's theft included."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    user, nice, system, _idle, _wait, interrupts, soft, stolen = map(int, fields)
    return (user + nice + system + interrupts + soft + stolen) / CLOCK


def process_seconds(process: int) -> float:
    """CPU seconds that a process has worked."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def _status(field: str) -> int:
    """A field of ``/proc/self/status`` in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


class PeakMemory:
    """The growth of this process's memory since :meth:`start`, in bytes: of the GPU's allocator where there is one,
    else of the resident set (Linux only)."""

    def __init__(self) -> None:
        self.base = 0

    def start(self) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self.base = torch.cuda.memory_allocated()
            return
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self.base = _status("VmRSS")

    @property
    def peak(self) -> int:
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() - self.base
        return _status("VmHWM") - self.base


def peak_memory(run: Callable[[], object]) -> int:
    """Bytes by which the resident set grows at most while ``run`` runs."""
    memory = PeakMemory()
    memory.start()
    run()
    return memory.peak


def matmul_rate(dtype: str = "float32", repeats: int = 30) -> float:
    """Operations per second of a square matrix product, the fastest: 2048 on a CPU with the present threads, 8192 on a
    GPU."""
    device, size = ("cuda", 8192) if torch.cuda.is_available() else ("cpu", 2048)
    left, right = torch.randn(2, size, size, device=device, dtype=getattr(torch, dtype))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def cpu() -> str:
    """Model name of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """Commit of the working tree, ``+`` behind it if its Python files differ; ``unknown`` without git."""
    root = Path(__file__).parent.parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "--", "src/*.py", "benchmarks/*.py") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def origin(threads: int) -> dict[str, Any]:
    """Machine, versions and commit, for the head of a result."""
    import transformers
    import trl

    return {
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
        "commit": commit(),
    }
