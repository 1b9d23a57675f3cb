"""
All accounts: each with its session, its intake and its gaps.

If one account is refused, the others go on. It is retried slowly, as long as any other
account isn't refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, NoReturn

import structlog
import trio

from bridge.errors import RefusedError
from bridge.events.intake import Intake
from bridge.events.record import Record
from bridge.gaps.gap import GapCause
from bridge.gaps.ledger import Ledger
from bridge.http.client import ApiClient
from bridge.http.tls import ReloadingContext
from bridge.outbox import Outbox
from bridge.pusher.authorizer import authorize
from bridge.pusher.connection import Channel
from bridge.pusher.coverage import Coverage, Interruption, Stalls
from bridge.pusher.recorder import Recorder
from bridge.pusher.session import Session
from bridge.pusher.websocket import Backpressure, Receive, WebSocket, open_websocket
from bridge.settings import Account, Settings


__all__ = ["AccountGaps", "Accounts", "BackpressureGate", "run_all", "sources_of"]

_log = structlog.get_logger("bridge.accounts")

# How late a watermark is stored, and so how much a crash adds to its gap. A ping moves
# it every two seconds while events arrive and every 30 s by default without them, and
# only changes are stored: these aren't four writes a second.
_STORE_SECONDS: Final = 0.25

# Connects of all accounts in the same moment (a start, a server that restarts) are
# spread over so much for each: 200 connects, each with a request to dryAPI's auth
# endpoint, came in 0.3 s without it (measured). One account doesn't wait.
_SPREAD_SECONDS: Final = 0.01

# A message that names more accounts than these is of no use.
_MOST_NAMED: Final = 3

# The longest that a session doesn't read, those before it included. It happens after
# one read and again before the next: twice this is below the pong deadline of 10 s.
_LONGEST_SECONDS: Final = 4.0

# The outbox commits every few milliseconds while it is busy.
_LOOK_SECONDS: Final = 0.002


def sources_of(settings: Settings) -> dict[str, str]:
    """Give each account's `ce_source` by its client id."""
    return {
        account.client_id: f"{settings.api_url}/clients/{account.client_id}"
        for account in settings.all_accounts
    }


class Accounts:
    """
    Every account's session.

    Args:
        settings: All settings.
        tls: The context of connections to dryAPI.
        outbox: Where records go; remembers the watermarks of the last process.
        ledger: Where gaps go.
        recorder: Writes the wire to a file, for `--record`.
        offer: Takes the intakes' records; must not wait.

    Attributes:
        intakes: What became of each account's events, in the order of accounts.
        sessions: Each account's session, in the same order.

    Raises:
        ConfigError: A setting that only its use shows to be wrong.
    """

    def __init__(  # noqa: PLR0913 - an account's parts, each given once
        self,
        settings: Settings,
        tls: ReloadingContext,
        outbox: Outbox,
        ledger: Ledger,
        recorder: Recorder | None = None,
        *,
        offer: Callable[[list[Record]], None],
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._ledger = ledger
        self._recorder = recorder
        self._offer = offer
        self._sources = sources_of(settings)
        self._stalls = Stalls()
        self._tls = tls
        self._backpressure = BackpressureGate(lambda: outbox.is_crowded)
        # What the outbox was given last.
        self._stored: dict[str, int] = {}
        self.intakes: list[Intake] = []
        self.sessions: list[Session] = []
        self._gaps: list[AccountGaps] = []
        for account in settings.all_accounts:
            self._add(account)

    def _add(self, account: Account) -> None:
        """Make what belongs to one account."""
        settings, client_id = self._settings, account.client_id
        ce_source = self._sources[client_id]
        count = partial(self._outbox.jobs.count, ce_source)
        gaps = AccountGaps(client_id, self._ledger)
        client = ApiClient(
            settings.api_url,
            account.api_token,
            timeout_seconds=settings.pusher.timeout_seconds,
            tls=self._tls.current,
        )
        intake = Intake(
            ce_source=ce_source,
            topic=settings.topic,
            dead_letter_topic=settings.dead_letter_topic,
            offer=self._offer,
            previews=settings.previews,
            preview_topic=settings.preview_topic,
            max_value_bytes=settings.limits.event_bytes,
            max_dead_letter_bytes=settings.limits.event_bytes,
            max_preview_bytes=settings.limits.preview_bytes,
        )

        def on_subscribed(at_us: int) -> None:
            gaps.subscribed(at_us)
            # At once: a process that dies now has been subscribed once.
            self._store({ce_source: at_us})

        channel = Channel(
            client_id,
            settings.pusher,
            partial(authorize, client, settings.pusher.app_key),
            self._connect,
            intake.accept,
            Coverage(on_subscribed, gaps.interrupted),
            self._backpressure.wait,
            has_jobs=lambda: count() > 0,
            stalls=self._stalls,
        )
        session = Session(
            channel,
            spread_seconds=_SPREAD_SECONDS * (len(settings.all_accounts) - 1),
            recording=None if self._recorder is None else self._recorder.connection,
        )
        self.intakes.append(intake)
        self.sessions.append(session)
        self._gaps.append(gaps)

    def _connect(
        self, url: str, receive: Receive, backpressure: Backpressure
    ) -> AbstractAsyncContextManager[WebSocket]:
        return open_websocket(
            url,
            receive,
            backpressure,
            linger_seconds=self._settings.kafka.linger_seconds,
            tls=self._tls.current(),
        )

    @property
    def events_read(self) -> int:
        """Job events of all accounts since the start."""
        return sum(session.statistics.events for session in self.sessions)

    def begin(self) -> None:
        """
        Continue the gaps that the last process left open, or open those of this start.

        Call it before anything else that can fail: a process that ends earlier would
        leave its own end to the next one, in place of the previous process's end.
        """
        memory = self._outbox.memory
        self._ledger.restore(memory)
        for session, gaps in zip(self.sessions, self._gaps, strict=True):
            ce_source = self._sources[session.statistics.client_id]
            gaps.begin(memory.proved_us.get(ce_source), was_stopped=memory.was_stopped)

    async def run(self) -> NoReturn:
        """
        Keep every account subscribed, after `begin`, until cancelled.

        Raises:
            RefusedError: DryAPI refuses every account for good.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stalls.run)
                nursery.start_soon(self._store_regularly)
                try:
                    await run_all(self.sessions)
                except RefusedError as error:
                    # Raised below, outside the nursery, which would wrap it.
                    refusal = error
                nursery.cancel_scope.cancel()
        finally:
            # The sockets are closed: a gap begins at the last watermarks.
            self._store_all()
        raise refusal

    async def _store_regularly(self) -> None:
        while True:
            await trio.sleep(_STORE_SECONDS)
            self._store_all()
            self._outbox.report_losses()

    def _store_all(self) -> None:
        self._store(
            {
                self._sources[session.statistics.client_id]: us
                for session in self.sessions
                if (us := session.coverage.connection_us) is not None
            }
        )

    def _store(self, watermarks: Mapping[str, int]) -> None:
        """Have the outbox remember up to when everything of an account had arrived."""
        changed = {
            ce_source: us
            for ce_source, us in watermarks.items()
            if us != self._stored.get(ce_source)
        }
        if changed:
            self._stored |= changed
            self._outbox.prove(changed)


async def run_all(sessions: Sequence[Session]) -> NoReturn:
    """
    Run all sessions until cancelled, those that are refused again and again.

    Args:
        sessions: One for each account, at least one.

    Raises:
        RefusedError: Every one is refused for good, at the same time.
    """
    refusals: dict[str, RefusedError] = {}

    async def run_one(session: Session, everything: trio.CancelScope) -> None:
        while True:
            try:
                await session.run()
            except RefusedError as error:
                refusals[session.statistics.client_id] = error
            # Not all that were refused once: those that were subscribed again count
            # their time from the beginning.
            if all(other.channel.is_refused for other in sessions):
                everything.cancel()
                return

    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(run_one, session, nursery.cancel_scope)
    raise _refusal_of_all(refusals)


def _refusal_of_all(refusals: Mapping[str, RefusedError]) -> RefusedError:
    """Report all accounts in one error, with the first one's code."""
    first = next(iter(refusals.values()))
    if len(refusals) == 1:
        return first
    named = [f"{client_id}: {error}" for client_id, error in refusals.items()]
    more = len(refusals) - _MOST_NAMED
    rest = f"; and {more} more" if more > 0 else ""
    return RefusedError(
        f"dryAPI refuses all {len(refusals)} accounts."
        f" {'; '.join(named[:_MOST_NAMED])}{rest}",
        code=first.code,
    )


class AccountGaps:
    """
    Opens and closes the gaps in which an account isn't subscribed.

    One of them is open at most: another interruption of an account that isn't
    subscribed is part of the same gap. Its only state is the ledger's, so that it
    continues a gap that the last process left open.

    Args:
        client_id: The account.
        ledger: Where its gaps are.
    """

    def __init__(self, client_id: str, ledger: Ledger) -> None:
        self._client_id = client_id
        self._ledger = ledger

    def begin(self, covered_us: int | None, *, was_stopped: bool) -> None:
        """
        Open the gap of the start, unless the last process left one open.

        Args:
            covered_us: What was sent before had arrived and was on disk, as the last
                process stored it; None if there was none.
            was_stopped: Whether that process was stopped in order.
        """
        if self._ledger.subscription_gap(self._client_id) is not None:
            return
        if covered_us is None:
            self._open(GapCause.FIRST_START, None)
        else:
            cause = GapCause.STOPPED if was_stopped else GapCause.CRASHED
            self._open(cause, covered_us)

    def subscribed(self, at_us: int) -> None:
        """Close the open gap: what is sent from then on arrives."""
        gap = self._ledger.subscription_gap(self._client_id)
        if gap is not None:
            self._ledger.close(gap.gap_id, at_us)

    def interrupted(self, interruption: Interruption) -> None:
        """Open a gap, and close it at once if it is over already."""
        open_gap = self._ledger.subscription_gap(self._client_id)
        if open_gap is not None:
            _log.debug(
                "gap.continues", gap_id=open_gap.gap_id, cause=interruption.cause
            )
            return
        gap_id = self._open(
            GapCause(interruption.cause), interruption.since_us, interruption.close_code
        )
        if interruption.until_us is not None:
            self._ledger.close(gap_id, interruption.until_us)

    def _open(
        self, cause: GapCause, since_us: int | None, close_code: int | None = None
    ) -> str:
        return self._ledger.open(
            self._client_id, cause, since_us, close_code=close_code
        )


class BackpressureGate:
    """
    Holds sessions back while the outbox's buffer is more than half full and emptied.

    The sockets hold what comes meanwhile. Sessions wait one after the other: if all
    went on at once the buffer would overflow all the same (measured: a flood to a
    hundred accounts lost a quarter).

    Args:
        is_crowded: Whether waiting helps; asked often, must be cheap.
    """

    def __init__(self, is_crowded: Callable[[], bool]) -> None:
        self._is_crowded = is_crowded
        self._turn = trio.Lock()

    async def wait(self) -> None:
        """Return at once as a rule; else after 4 s at most."""
        if self._is_crowded():
            with trio.move_on_after(_LONGEST_SECONDS):
                async with self._turn:
                    # Another thread changes what is looked at.
                    while self._is_crowded():  # noqa: ASYNC110
                        await trio.sleep(_LOOK_SECONDS)
