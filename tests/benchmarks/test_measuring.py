"""What `measuring` promises about a process's own threads."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from benchmarks.measuring import MAIN_THREAD, Meter


_BURNT_SECONDS = 0.3


def _burn() -> None:
    file = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    file.write_text("burning")
    while time.thread_time() < _BURNT_SECONDS:
        pass


def test_cpu_is_told_by_thread() -> None:
    """A thread has what it used under its own name, and the main thread has not."""
    ended = threading.Event()

    def burn_and_stay() -> None:
        _burn()
        burnt.set()
        ended.wait()

    burnt = threading.Event()
    meter = Meter(os.getpid(), ())
    thread = threading.Thread(target=burn_and_stay)
    thread.start()
    burnt.wait()
    threads = meter.read().thread_seconds
    ended.set()
    thread.join()

    # The system counts in steps of 10 ms.
    assert abs(threads["burning"] - _BURNT_SECONDS) <= 0.05
    assert threads[MAIN_THREAD] < _BURNT_SECONDS / 2
