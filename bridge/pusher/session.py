"""
The session: one account's channel, kept subscribed for as long as it runs.

It makes one attempt after the other and decides between them: how long to wait,
whether to switch to TLS, whether a refusal is final. What happens within a
connection stands in `attempt`, what a code means in `closing`, how long a wait
is in `backoff`.

A refusal (wrong token, unknown app) is tried again slowly, with the token read
again each time; when it is final is decided in `refusal`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

import structlog
import trio

from bridge.errors import RefusedError
from bridge.http.tls import client_context
from bridge.pusher import outgoing
from bridge.pusher.attempt import Attempt
from bridge.pusher.authorizer import ChannelAuthorizer
from bridge.pusher.backoff import Backoff
from bridge.pusher.closing import Verdict
from bridge.pusher.continuity import Continuity
from bridge.pusher.ending import Ending
from bridge.pusher.interruption import Cause, Listener, Nobody
from bridge.pusher.parts import Deliver, Parts, Pause
from bridge.pusher.probe import Habit
from bridge.pusher.refusal import Refusal
from bridge.pusher.stalls import Stalls
from bridge.pusher.statistics import Clock, Statistics
from bridge.pusher.turns import Turns
from bridge.pusher.websocket import Connect, connect_websocket
from bridge.settings import PusherSettings


__all__ = ["Session"]

_log = structlog.get_logger("bridge.pusher")


def _wall_clock_us() -> int:
    return time.time_ns() // 1000


class Session:
    """
    Keeps one account's channel subscribed.

    Args:
        client_id: The account; its channel is `private-client.{client_id}`.
        settings: Where, and how long to wait for what.
        authorizer: Gets signatures for the account's channel.
        deliver: Takes job events.
        pause: Awaited after each delivery; may slow the session down.
        listener: Hears of subscriptions and of what may have been missed.
        has_jobs: Whether jobs of the account are known to be in flight.
        stalls: Tells when the process stood still; one for all sessions.
        turns: Keeps sessions from connecting all at once; one for all of them.
        connect: Opens a WebSocket; trio_websocket's unless given.
        clock: Wall clock, microseconds since the epoch.
        jitter: Where the chance in waits comes from.

    Attributes:
        statistics: What the session counts; read by whoever likes.

    Raises:
        ConfigError: The client id makes no channel, the URL is no WebSocket's,
            or the file of certificates can't be used.
    """

    def __init__(  # noqa: PLR0913 - what has a default is a seam or an extra
        self,
        client_id: str,
        settings: PusherSettings,
        authorizer: ChannelAuthorizer,
        deliver: Deliver,
        *,
        pause: Pause = trio.lowlevel.checkpoint_if_cancelled,
        listener: Listener | None = None,
        has_jobs: Callable[[], bool] = lambda: False,
        stalls: Stalls | None = None,
        turns: Turns | None = None,
        connect: Connect | None = None,
        clock: Clock = _wall_clock_us,
        jitter: random.Random | None = None,
    ) -> None:
        self.statistics = Statistics(client_id)
        self._settings = settings
        self._turns = turns or Turns()
        self._configured_url = outgoing.url(settings.url, settings.app_key)
        self._url = self._configured_url
        jitter = jitter or random.Random()
        self._refusal = Refusal(settings.refused_timeout_seconds, self.statistics)
        self._parts = Parts(
            channel=outgoing.check_channel(f"private-client.{client_id}"),
            settings=settings,
            connect=connect
            or partial(
                connect_websocket,
                max_message_bytes=settings.max_message_bytes,
                tls=client_context(settings.ca_file),
            ),
            authorizer=authorizer,
            deliver=deliver,
            pause=pause,
            has_jobs=has_jobs,
            statistics=self.statistics,
            continuity=Continuity(listener or Nobody(), self.statistics, clock),
            refusal=self._refusal,
            habit=Habit(self.statistics),
            stalls=stalls or Stalls(),
            clock=clock,
            jitter=jitter,
        )
        self._backoff = Backoff(
            settings.backoff_initial_seconds,
            settings.backoff_max_seconds,
            jitter,
        )

    @property
    def is_given_up(self) -> bool:
        """Whether dryAPI refused it for good, and it was not subscribed since."""
        return self._refusal.is_final

    async def run(self) -> NoReturn:
        """
        Connect, and connect again, until cancelled.

        Cancelling it closes the socket with code 1000 within a second. It may be
        called again after it raised: it waits first, and raises at the next
        refusal unless it was subscribed before.

        Raises:
            RefusedError: DryAPI refuses for good, see `refusal`; the message says
                what to do.
        """
        outage_since = trio.current_time()
        if self._refusal.is_final:
            await trio.sleep(self._delay_seconds(Verdict.TERMINAL, outage_since))
        while True:
            await self._turns.take()
            attempt = Attempt(self._parts, self._url)
            self._backoff.connecting(trio.current_time())
            ending = await attempt.run()
            now = trio.current_time()
            verdict = self._verdict(ending)
            if attempt.subscribed_at is not None:
                outage_since = now
                if now - attempt.subscribed_at >= self._settings.stable_after_seconds:
                    self._backoff.reset()
                self._parts.continuity.interrupted(_cause(ending, verdict), ending.code)
            elif verdict is not Verdict.USE_TLS:
                # TLS that was asked for and leads nowhere may be asked for no more.
                self._url = self._configured_url
            self._settle(ending, verdict, now)
            delay_seconds = self._delay_seconds(verdict, outage_since)
            _log.warning(
                "session.lost"
                if attempt.subscribed_at is not None
                else "session.failed",
                client_id=self.statistics.client_id,
                code=ending.code,
                reason=_explained(ending),
                verdict=str(verdict),
                delay_seconds=round(delay_seconds, 3),
            )
            await trio.sleep(delay_seconds)

    def _delay_seconds(self, verdict: Verdict, outage_since: float) -> float:
        return self._backoff.delay(
            verdict, now=trio.current_time(), outage_since=outage_since
        )

    def _verdict(self, ending: Ending) -> Verdict:
        """Decide what an end means for this session's address."""
        if ending.verdict is not Verdict.USE_TLS:
            return ending.verdict
        if not self._url.startswith("ws:"):
            return Verdict.TERMINAL
        self._url = _over_tls(self._url)
        return Verdict.USE_TLS

    def _settle(self, ending: Ending, verdict: Verdict, now: float) -> None:
        """
        Decide whether an end is one for good.

        Raises:
            RefusedError: It is.
        """
        if verdict is not Verdict.TERMINAL:
            self._refusal.failed()
            return
        sentence = f"dryAPI refuses the session: {_explained(ending)}"
        known = self._refusal.is_final
        if self._refusal.refused(sentence, now):
            told = {"code": ending.code, "reason": sentence}
            # An error once; whoever tries again after it knows.
            if known:
                _log.warning(
                    "session.refused", client_id=self.statistics.client_id, **told
                )
            else:
                _log.error(
                    "session.refused", client_id=self.statistics.client_id, **told
                )
            raise RefusedError(sentence, code=ending.code)


def _cause(ending: Ending, verdict: Verdict) -> Cause:
    """Name what a subscribed connection's end looked like."""
    if verdict is Verdict.TERMINAL:
        return Cause.REFUSED
    return Cause.DEAF if ending.deaf else Cause.DISCONNECTED


def _explained(ending: Ending) -> str:
    return f"{ending.message}; {ending.advice}" if ending.advice else ending.message


def _over_tls(url: str) -> str:
    """Give a `ws://` address its `wss://` form; port 80 becomes the default one."""
    parts = urlsplit(url)
    netloc = parts.netloc.removesuffix(":80")
    return urlunsplit(("wss", netloc, parts.path, parts.query, parts.fragment))
