"""What heals gaps is looked at: the status endpoint's calls, and the webhooks' port."""

from __future__ import annotations

import uuid

import pytest

from bridge.check import Outcome
from bridge.errors import ExitCode
from bridge.outbox import OutboxDirectory
from tests.check.ground import CANARY, CLIENT_ID, Ground, details, remarkable
from tests.check.planting import filled, shown, taken_port


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)


async def test_the_calls_that_are_left_are_told(ground: Ground) -> None:
    """It is asked once, about a job that nobody has, with the account's token."""
    report = await ground.check()
    assert list(remarkable(report)) == []
    assert not [one for one in report.lines if one.outcome is Outcome.SKIPPED]
    assert report.exit_code is ExitCode.CLEAN
    left = "left are 49 of 50 calls of this minute and 199 of 200 calls of this day"
    assert details(report, "status") == [
        (Outcome.OK, CLIENT_ID, f"answers (HTTP 404); {left}")
    ]
    ((token, job),) = ground.api.status_calls
    assert token == CANARY
    assert uuid.UUID(job).version == 4


async def test_what_is_switched_off_is_not_looked_at(ground: Ground) -> None:
    """Neither a call is spent nor a port opened."""
    report = await ground.check({"BRIDGE_RECONCILIATION_ENABLED": "false"})
    steps = {line.step for line in report.lines}
    assert steps.isdisjoint({"status", "webhook.secret", "webhook.tls", "webhook.port"})
    assert ground.api.status_calls == []


async def test_webhooks_that_could_come_are_called_so(ground: Ground) -> None:
    """Secrets, certificate and port, each for itself."""
    report = await ground.check(shown()(ground))
    assert list(remarkable(report)) == []
    secrets = "any of 2 secrets may sign"
    assert details(report, "webhook.secret") == [(Outcome.OK, CLIENT_ID, secrets)]
    ((_, file, detail),) = details(report, "webhook.tls")
    assert file.endswith("hooks-30.crt")
    assert detail == "fits its key, certificate for 29 d"
    assert details(report, "webhook.port") == [
        (Outcome.OK, "127.0.0.1:0", "can be opened")
    ]


async def test_a_port_that_a_running_bridge_has_is_no_fault(ground: Ground) -> None:
    """The outbox tells that one runs."""
    changes = taken_port(ground)
    with OutboxDirectory(filled(ground).parent):
        report = await ground.check(changes)
    assert list(remarkable(report)) == []
    ((outcome, _, detail),) = details(report, "webhook.port")
    assert outcome is Outcome.OK
    assert detail == "in use, as it is while a bridge runs"
