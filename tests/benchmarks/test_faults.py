"""A bridge through a real outage, as `make bench-faults` lets it run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.contenders import BRIDGE
from benchmarks.faults.course import through
from benchmarks.faults.outages import OUTAGES, Ground
from tests.e2e.auth_endpoint import AuthEndpoint, signing
from tests.kit.kafka import KafkaServer
from tests.kit.soketi import SoketiServer


@pytest.mark.connected
@pytest.mark.long
@pytest.mark.timeout(120)
def test_what_a_bridge_misses_it_tells(tmp_path: Path) -> None:
    """Events that soketi takes before the bridge is back are missing, and told."""
    (outage,) = [each for each in OUTAGES if each.name == "soketi-killed"]
    with KafkaServer() as kafka, SoketiServer() as soketi:
        endpoint = AuthEndpoint(signing(soketi))
        with endpoint.serving():
            ground = Ground(kafka, soketi, endpoint.url, tmp_path)
            run = through(BRIDGE, outage, ground, rate=200)

    verdict = run.verdict
    assert run.flawless, run
    assert verdict.refused > 0
    assert verdict.told == verdict.away + verdict.lost > 0
    assert verdict.on_topic + verdict.told == verdict.accepted
