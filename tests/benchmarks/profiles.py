"""A profile that nobody measured, with figures that can be counted by hand."""

from __future__ import annotations

from benchmarks.profiles import Profile
from tests.benchmarks.runs import MACHINE


__all__ = ["MADE"]

_LOOP = "run (trio/_core/_run.py:2424);unrolled_run (trio/_core/_run.py:2712)"
_READ = "Attempt._receive (bridge/pusher/attempt.py:171)"
_PARSE = '<lambda> & "more" (bridge/job_status/conforming.py:63)'
_APPEND = "Appending.append (bridge/outbox/rows/appending.py:54)"
_SEND = "Producer.send (bridge/kafka/producer/producer.py:156)"

MADE = Profile(
    machine=MACHINE,
    moment="2026-11-24T12-00-00Z",
    rate=None,
    events=1000,
    event_bytes=224,
    preview_bytes=0,
    load_average=0.5,
    cpu_us={"main": 4.0, "outbox": 10.0, "kafka": 6.0},
    watched_us={"main": 5.0, "outbox": 10.0, "kafka": 5.0},
    locked={
        "main": {f"{_LOOP};{_READ};{_PARSE}": 60, f"{_LOOP};{_READ}": 20, _LOOP: 20},
        "outbox": {_APPEND: 10},
        "kafka": {_SEND: 999, f"{_SEND};{_PARSE}": 1},
    },
    processor={
        "main": {"libpython3.11": 75, "kernel;recvfrom": 25},
        "outbox": {"libpython3.11": 5, "libsqlite3": 3, "kernel;pwrite": 2},
        "kafka": {"libpython3.11": 7},
    },
    floors={"decoding": 0.625},
)
"""20 us an event, of which the reader has 4."""
