"""What of the bridge takes webhooks, and lets them go, in front of an outbox."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.webhooks.holding import Holding
from bridge.webhooks.receiver import Receiver, Recipient
from bridge.webhooks.statistics import WebhookStatistics
from bridge.webhooks.steady import steady_clock

from bridge.outbox import Outbox
from bridge.settings import Secret, WebhookSettings
from tests.webhooks.making import CLIENT_ID, SECRET, SOURCE, make_of


class Taking:
    """A receiver and a holding; a test runs the one and serves the other."""

    def __init__(
        self, outbox: Outbox, hold_seconds: float, gap_ids: Sequence[str] = ()
    ) -> None:
        self.written: list[tuple[str, tuple[str, ...]]] = []
        self.asked: list[tuple[str, int | None, int | None]] = []
        self._gap_ids = gap_ids
        self.statistics = WebhookStatistics([CLIENT_ID])
        steady_us = steady_clock()
        self.holding = Holding(
            outbox,
            find=outbox.jobs.find,
            healable=self._healable,
            on_written=lambda _, job, gaps: self.written.append((job, tuple(gaps))),
            client_ids={SOURCE: CLIENT_ID},
            hold_seconds=hold_seconds,
            steady_us=steady_us,
            statistics=self.statistics,
        )
        self.receiver = Receiver(
            [Recipient(CLIENT_ID, Secret(SECRET), make_of())],
            take=outbox.take,
            expect=self.holding.expect,
            statistics=self.statistics,
            settings=WebhookSettings(hold_seconds=hold_seconds),
            steady_us=steady_us,
            is_single=True,
        )

    def _healable(
        self, client_id: str, heard_us: int | None, ended_us: int | None
    ) -> Sequence[str]:
        self.asked.append((client_id, heard_us, ended_us))
        return self._gap_ids
