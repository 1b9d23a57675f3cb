"""
The session: one account's channel, kept subscribed for as long as it runs.

It makes one connection after the other. The `EndedError` of a connection has its
cause, and a `Backoff` decides how long to wait.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NoReturn

import structlog
import trio

from bridge.errors import RefusedError
from bridge.pusher.close_codes import Action, Backoff, EndedError
from bridge.pusher.connection import Channel, Connection, Note


__all__ = ["Session"]

_log = structlog.get_logger("bridge.pusher")

# Waits begin with the shortest again after it: one ping interval survived.
_STABLE_SECONDS: Final = 30.0


class Session:
    """
    Keeps one account's channel subscribed.

    A refusal (wrong token, unknown app) is final at once for a session that was never
    subscribed: a setting is wrong. One that has worked is refused for good when each
    connection of `refused_timeout_seconds` was refused, since an incident or a
    deployment may answer 401 for some minutes. An end of another kind begins that time
    again: a network outage between two refusals proves nothing.

    `recording` makes a connection's note, for `--record`. What all sessions would do in
    the same moment is spread over `spread_seconds`.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        recording: Callable[[str], Note] | None = None,
        spread_seconds: float = 0.0,
        jitter: random.Random | None = None,
    ) -> None:
        self.channel = channel
        self.statistics = channel.statistics
        self.coverage = channel.coverage
        self._recording = recording
        self._backoff = Backoff(jitter or random.Random(), spread_seconds)
        self._refused_since: float | None = None

    async def run(self) -> NoReturn:
        """
        Connect, and connect again, until cancelled.

        Cancelling it closes the socket with code 1000 within a second. It may be
        called again after it raised: it waits first, and raises at the next refusal
        unless it was subscribed before.

        Raises:
            RefusedError: DryAPI refuses for good; the message says what to do.
        """
        channel, backoff = self.channel, self._backoff
        outage_since = trio.current_time()
        await trio.sleep(
            backoff.delay(Action.TERMINAL, outage_seconds=0.0)
            if channel.is_refused
            else backoff.spread()
        )
        while True:
            note = self._recording and self._recording(channel.client_id)
            connection = Connection(channel, note)
            try:
                await connection.run()
            except EndedError as error:
                ended = error
            now, subscribed_at = trio.current_time(), connection.subscribed_at
            if subscribed_at is not None:
                outage_since = now
                self._refused_since = None
                if now - subscribed_at >= _STABLE_SECONDS:
                    backoff.reset()
            self._check_refusal(ended, now)
            delay_seconds = backoff.delay(
                ended.action,
                outage_seconds=now - outage_since,
                retry_after_seconds=ended.retry_after_seconds,
            )
            _log.warning(
                "session.failed" if subscribed_at is None else "session.lost",
                client_id=channel.client_id,
                code=ended.code,
                reason=str(ended),
                action=str(ended.action),
                delay_seconds=round(delay_seconds, 3),
            )
            await trio.sleep(delay_seconds)

    def _check_refusal(self, ended: EndedError, now: float) -> None:
        """Raise `RefusedError` if dryAPI refuses for good."""
        if ended.action is not Action.TERMINAL:
            self._refused_since = None
            return
        channel = self.channel
        message = f"dryAPI refuses the session: {ended.message}"
        refusal = RefusedError(message, hint=ended.hint, code=ended.code)
        channel.statistics.refused_reason = str(refusal)
        if self._refused_since is None:
            self._refused_since = now
        if not channel.is_refused:
            lasted_seconds = now - self._refused_since
            has_worked = channel.coverage.connection_us is not None
            if has_worked and lasted_seconds < channel.settings.refused_timeout_seconds:
                return
            # Once: health and a metric show it for as long as it lasts.
            _log.error(
                "session.refused",
                client_id=channel.client_id,
                code=ended.code,
                reason=str(refusal),
            )
            channel.is_refused = True
        raise refusal from ended
