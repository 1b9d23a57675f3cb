"""
Looks into a running bridge from outside: what it is doing, and what takes its CPU.

Owns the two programs that do it and what they write. py-spy knows Python's functions,
and is asked for the thread that holds the interpreter's lock: a thread that is merely
about to run again, or waits for a processor, would count as busy otherwise, which is
most of what it sees of a bridge that sleeps a thousand times a second. It doesn't stop
the process. What runs without the lock, the kernel and SQLite, perf sees: it is woken
by the CPU that a thread has used, and knows no Python. Without perf there is py-spy
alone. How both are put together stands in `profiles`.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.contenders import command
from benchmarks.measuring import MAIN_THREAD
from tests.kit.process import ChildProcess, ProcessError, start_all, stop_all


__all__ = ["KERNEL", "Sampler", "Samples", "read_perf", "read_py_spy"]

KERNEL = "kernel"

Samples = dict[str, Counter[tuple[str, ...]]]
"""By thread: how often each stack was met, from its root to its leaf."""

_PY_SPY = Path(sys.executable).with_name("py-spy")

# py-spy takes a fifth of a core for it.
_PY_SPY_HERTZ = 250
# No multiple of what the bridge does at a rate.
_PERF_HERTZ = 499

_START_SECONDS = 20.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.05

# perf: a sample's first line has its thread, each other one a frame.
_FRAME = re.compile(r"\s+[0-9a-f]+ (.+) \((.*)\)$")
_SYSCALL = re.compile(r"__(?:x64|arm64|do|se)_sys_(\w+?)(?:64)?$")
_INTERRUPTS = "interrupts"
_FAULTS = "page faults"

# py-spy: `thread (12): name;function (file:line);... count`.
_THREAD = re.compile(r"thread \((\d+)\)")


class Sampler:
    """
    Gathers what is seen in one process after the other.

    Args:
        folder: For files; the caller removes it.

    Attributes:
        locked: Python's stacks of whoever held the lock.
        processor: Where the CPU was; nothing without perf.
    """

    def __init__(self, folder: Path) -> None:
        self.locked: Samples = {}
        self.processor: Samples = {}
        self._folder = folder
        self._perf = shutil.which("perf")

    @contextmanager
    def watch(self, pid: int) -> Iterator[None]:
        """
        Look into a process inside the block.

        Raises:
            ProcessError: A program can't do it, as where it may not.
        """
        raw, data = self._folder / "py-spy.raw", self._folder / "perf.data"
        for file in (raw, data):
            file.unlink(missing_ok=True)
        watchers = [self._py_spy(pid, raw)]
        if self._perf is not None:
            watchers.append(self._perf_record(self._perf, pid, data))
        start_all(watchers, deadline_seconds=_START_SECONDS)
        try:
            yield
            names = _thread_names(pid)
            for watcher in watchers:
                _end(watcher)
        finally:
            stop_all(watchers, grace_seconds=_STOP_SECONDS)
        _add(self.locked, read_py_spy(raw.read_text(), names))
        if self._perf is not None:
            _add(self.processor, read_perf(_perf_script(self._perf, data), names))

    def _py_spy(self, pid: int, file: Path) -> ChildProcess:
        return command(
            "py-spy",
            [
                *(_PY_SPY, "record", "--pid", str(pid)),
                *("--rate", str(_PY_SPY_HERTZ), "--gil", "--nonblocking"),
                # A function is one frame, whichever of its lines runs.
                *("--threads", "--function"),
                *("--format", "raw", "--output", file),
            ],
            self._folder,
            ready=lambda child: "Sampling process" in child.output(),
        )

    def _perf_record(self, perf: str, pid: int, file: Path) -> ChildProcess:
        return command(
            "perf",
            [
                *(perf, "record", "--quiet", "--pid", str(pid)),
                # The clock is there on virtual machines too, where cycles aren't.
                *("--event", "cpu-clock", "--freq", str(_PERF_HERTZ)),
                # The kernel's part of a stack tells the call that was made.
                *("-g", "--output", file),
            ],
            self._folder,
            ready=lambda _: file.exists(),
        )


def _end(watcher: ChildProcess) -> None:
    """Have it write what it has seen; it does so when it is interrupted."""
    watcher.signal(signal.SIGINT)
    deadline = time.monotonic() + _STOP_SECONDS
    while watcher.running:
        if time.monotonic() > deadline:
            raise watcher.error("didn't write what it has seen")
        time.sleep(_LOOK_SECONDS)


def _thread_names(pid: int) -> dict[int, str]:
    """Name a process's threads as `measuring` does."""
    names = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it has just ended
            names[int(task.name)] = (task / "comm").read_text().strip()
    names[pid] = MAIN_THREAD
    return names


def _perf_script(perf: str, file: Path) -> str:
    argv = [perf, "script", "--input", str(file), "--fields", "tid,ip,sym,dso"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessError("perf", "can't read its data", done.returncode, done.stderr)
    return done.stdout


def _add(all_samples: Samples, more: Samples) -> None:
    for thread, stacks in more.items():
        all_samples.setdefault(thread, Counter()).update(stacks)


def read_py_spy(text: str, names: dict[int, str]) -> Samples:
    """
    Read py-spy's raw format.

    Args:
        text: What it wrote.
        names: Threads by their number; others are left out.
    """
    samples: Samples = {}
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        root, *frames = stack.split(";")
        thread = _THREAD.match(root)
        if thread is None or int(thread[1]) not in names or not frames:
            continue
        name = names[int(thread[1])]
        samples.setdefault(name, Counter())[tuple(frames)] += int(count)
    return samples


def read_perf(text: str, names: dict[int, str]) -> Samples:
    """
    Read what `perf script` writes.

    Args:
        text: What it wrote: samples with a blank line between them.
        names: Threads by their number; others are left out.

    Returns:
        Stacks of the kernel and the call it was in, or of a library alone.
    """
    samples: Samples = {}
    for sample in text.split("\n\n"):
        head, *lines = sample.strip("\n").splitlines() or [""]
        frames = [match for line in lines if (match := _FRAME.match(line))]
        thread = head.strip()
        if not thread.isdigit() or int(thread) not in names or not frames:
            continue
        name = names[int(thread)]
        samples.setdefault(name, Counter())[_place(frames)] += 1
    return samples


def _place(frames: list[re.Match[str]]) -> tuple[str, ...]:
    library = frames[0][2]
    if "[kernel" not in library and not library.endswith(".ko"):
        return (_library(library),)
    for frame in frames:
        symbol = frame[1]
        if call := _SYSCALL.match(symbol):
            return (KERNEL, call[1])
        if symbol.startswith("asm_exc_page_fault"):
            return (KERNEL, _FAULTS)
        if symbol.startswith("asm_"):
            return (KERNEL, _INTERRUPTS)
    return (KERNEL, "other")


def _library(file: str) -> str:
    """Name a library without its version, and a package's with the package."""
    inside = file.rpartition("/site-packages/")[2]
    name = inside if inside != file else Path(file).name
    return name.partition(".so")[0].partition(".cpython-")[0]
