"""When the outbox's thread gets up: at once, soon, and not too often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from bridge.outbox import bell as bell_module
from bridge.outbox.bell import Bell


# Longer than anything here takes on a busy machine.
_LONG_SECONDS = 20.0


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> Bell:
    """A bell whose pace nobody notices; a hint is heard after 0.3 s."""
    monkeypatch.setattr(bell_module, "_PACE_SECONDS", 0.0)
    monkeypatch.setattr(bell_module, "_PATIENCE_SECONDS", 0.3)
    return Bell()


def _waited(bell: Bell) -> float:
    begun = time.monotonic()
    bell.wait(_LONG_SECONDS)
    bell.listen()
    return time.monotonic() - begun


def _waited_while(bell: Bell, seconds: float, call: Callable[[], None]) -> float:
    """Wait while something is called after a time; tell how long it took."""
    timer = threading.Timer(seconds, call)
    # From here: on a busy machine the call may come before the wait.
    begun = time.monotonic()
    timer.start()
    _waited(bell)
    took = time.monotonic() - begun
    timer.join()
    return took


def test_ring_wakes_who_waits(bell: Bell) -> None:
    """It does in the first moments and long afterwards."""
    for seconds in (0.05, 0.6):
        took = _waited_while(bell, seconds, bell.ring)
        assert seconds * 0.9 < took < _LONG_SECONDS / 2


def test_ring_before_the_wait_is_heard(bell: Bell) -> None:
    """Nobody has to be waiting when it rings."""
    bell.ring()

    assert _waited(bell) < 0.3


def test_rings_that_were_listened_to_are_over(bell: Bell) -> None:
    """What rang before one listens wakes nobody afterwards."""
    bell.ring()
    bell.ring()
    bell.listen()
    begun = time.monotonic()

    bell.wait(0.2)

    assert time.monotonic() - begun >= 0.2


def test_hint_is_heard_when_its_patience_is_over(bell: Bell) -> None:
    """It wakes nobody who has just begun to wait, and is not forgotten."""
    took = _waited_while(bell, 0.05, bell.hint)

    assert 0.29 < took < _LONG_SECONDS / 2


def test_hint_wakes_who_has_slept_for_long(bell: Bell) -> None:
    """After a quiet time it is as good as a ring."""
    took = _waited_while(bell, 0.6, bell.hint)

    assert 0.5 < took < _LONG_SECONDS / 2


def test_rounds_keep_a_pace(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring right after a round waits for the pace, one that comes late doesn't."""
    monkeypatch.setattr(bell_module, "_PACE_SECONDS", 0.2)
    bell.listen()
    bell.ring()
    assert _waited(bell) > 0.19

    time.sleep(0.25)  # the pace is over: that is the case to be tried
    bell.ring()
    assert _waited(bell) < 0.15


def test_no_ring_is_lost_among_threads(bell: Bell) -> None:
    """What was laid down before a ring is found after the wait, whoever rings too."""
    count, ringers = 3_000, 4
    laid: list[int] = []

    def lay() -> None:
        for number in range(count):
            laid.append(number)
            bell.ring()

    threads = [threading.Thread(target=lay) for _ in range(ringers)]
    for thread in threads:
        thread.start()
    found = 0
    while found < count * ringers:
        assert _waited(bell) < _LONG_SECONDS / 2
        found = len(laid)
    for thread in threads:
        thread.join()


def test_a_ring_in_midst_of_listening_spoils_no_later_one(bell: Bell) -> None:
    """Who rings while the ring before is being heard doesn't leave the bell dumb."""

    class Interrupted:
        """The bell's lock, with another thread's ring before it is taken."""

        def __init__(self) -> None:
            self.lock = bell._silence
            self.release = self.lock.release

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - as a lock's
            if not blocking:
                bell.ring()
            return self.lock.acquire(blocking, timeout)

    bell.ring()
    bell._silence = Interrupted()  # type: ignore[assignment]
    bell.listen()
    bell.ring()

    assert _waited(bell) < _LONG_SECONDS / 2
