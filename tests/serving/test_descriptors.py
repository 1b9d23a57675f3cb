"""Tests of how many connections the process's limit of open files allows."""

from __future__ import annotations

import resource
from collections.abc import Callable

import pytest
import structlog

from bridge.serving.descriptors import places_for


_NEVER_ENDS = resource.RLIM_INFINITY


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[int]]:
    """Give the process a limit; tell what it is raised to."""

    def given(soft: int, hard: int) -> list[int]:
        raised: list[int] = []

        def keep(_: int, limits: tuple[int, int]) -> None:
            assert limits[1] == hard
            raised.append(limits[0])

        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", keep)
        return raised

    return given


_LIMITS: list[tuple[int, int, list[int], int]] = [
    (20_000, 20_000, [], 1000),
    (1512, 1512, [], 1000),
    (_NEVER_ENDS, _NEVER_ENDS, [], 1000),
    (1024, 524_288, [1512], 1000),
    (1024, _NEVER_ENDS, [1512], 1000),
    (256, 1024, [1024], 512),
    (1024, 1024, [], 512),
    (64, 64, [], 1),
]


def test_limit_is_raised_before_places_are_given_up(
    subtests: pytest.Subtests, limit: Callable[[int, int], list[int]]
) -> None:
    """As many as were wanted if the process may; else what others leave."""
    for soft, hard, raised, places in _LIMITS:
        with subtests.test(soft=soft, hard=hard):
            done = limit(soft, hard)
            with structlog.testing.capture_logs() as logs:
                assert places_for(1000, "webhook.listen") == places
            assert done == raised
            assert [line["event"] for line in logs] == ["port.few_descriptors"] * (
                places < 1000
            )
            for line in logs:
                assert (line["setting"], line["allowed"]) == ("webhook.listen", places)
