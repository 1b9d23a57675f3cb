"""
The session: one account's channel, kept subscribed for as long as it runs.

It makes one attempt after the other and decides between them: how long to wait,
whether to switch to TLS, whether a refusal is final. What happens within a
connection stands in `attempt`, what a code means in `closing`, how long a wait
is in `backoff`.

A refusal (wrong token, unknown app) is final only for a session that was never
subscribed: then a setting is wrong and waiting helps nobody. A session that
once worked keeps trying, slowly, with the token read again each time.
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
from bridge.pusher import outgoing
from bridge.pusher.attempt import Attempt, Deliver, Pause
from bridge.pusher.authorizer import ChannelAuthorizer
from bridge.pusher.backoff import Backoff
from bridge.pusher.closing import Verdict
from bridge.pusher.ending import Ending
from bridge.pusher.interruption import Listener, Nobody
from bridge.pusher.stalls import Stalls
from bridge.pusher.statistics import Clock, Statistics
from bridge.pusher.transport import client_context
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
        connect: Connect | None = None,
        clock: Clock = _wall_clock_us,
        jitter: random.Random | None = None,
    ) -> None:
        self.statistics = Statistics(client_id)
        self._channel = outgoing.check_channel(f"private-client.{client_id}")
        self._settings = settings
        self._url = outgoing.url(settings.url, settings.app_key)
        self._authorizer = authorizer
        self._deliver = deliver
        self._pause = pause
        self._listener = listener or Nobody()
        self._has_jobs = has_jobs
        self._stalls = stalls or Stalls()
        self._connect = connect or partial(
            connect_websocket,
            max_message_bytes=settings.max_message_bytes,
            tls=client_context(settings.ca_file),
        )
        self._clock = clock
        self._jitter = jitter or random.Random()
        self._backoff = Backoff(
            settings.backoff_initial_seconds,
            settings.backoff_max_seconds,
            self._jitter,
        )
        self._worked = False

    async def run(self) -> NoReturn:
        """
        Connect, and connect again, until cancelled.

        Cancelling it closes the socket with code 1000 within a second.

        Raises:
            RefusedError: DryAPI refuses for good, and the session was never
                subscribed; the message says what to do.
        """
        outage_since = trio.current_time()
        while True:
            attempt = self._attempt()
            self._backoff.connecting(trio.current_time())
            ending = await attempt.run()
            now = trio.current_time()
            if attempt.subscribed_at is not None:
                self._worked = True
                outage_since = now
                if now - attempt.subscribed_at >= self._settings.stable_after_seconds:
                    self._backoff.reset()
            verdict = self._settle(ending)
            delay_seconds = self._backoff.delay(
                verdict, now=now, outage_since=outage_since
            )
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

    def _attempt(self) -> Attempt:
        return Attempt(
            channel=self._channel,
            url=self._url,
            settings=self._settings,
            connect=self._connect,
            authorizer=self._authorizer,
            deliver=self._deliver,
            pause=self._pause,
            statistics=self.statistics,
            clock=self._clock,
            jitter=self._jitter,
        )

    def _settle(self, ending: Ending) -> Verdict:
        """
        Decide what an end means at this point of the session's life.

        Raises:
            RefusedError: It is final.
        """
        verdict = ending.verdict
        if verdict is Verdict.USE_TLS:
            if self._url.startswith("ws:"):
                self._url = _over_tls(self._url)
                return verdict
            verdict = Verdict.TERMINAL
        if verdict is Verdict.TERMINAL and not self._worked:
            sentence = f"dryAPI refuses the session: {_explained(ending)}"
            _log.error(
                "session.refused",
                client_id=self.statistics.client_id,
                code=ending.code,
                reason=sentence,
            )
            raise RefusedError(sentence, code=ending.code)
        return verdict


def _explained(ending: Ending) -> str:
    return f"{ending.message}; {ending.advice}" if ending.advice else ending.message


def _over_tls(url: str) -> str:
    """Give a `ws://` address its `wss://` form; port 80 becomes the default one."""
    parts = urlsplit(url)
    netloc = parts.netloc.removesuffix(":80")
    return urlunsplit(("wss", netloc, parts.path, parts.query, parts.fragment))
