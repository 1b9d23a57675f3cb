"""
The sessions of all accounts: each with what belongs to it, each in its own nursery.

One account's refusal leaves the others running: it is tried again, slowly, for as
long as any other account isn't refused as well. What a session does stands in
`pusher.session`, what becomes of its events in `intake`, of its gaps in
`recovery.hearing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, NoReturn, Protocol

import trio

from bridge.errors import RefusedError
from bridge.events.intake import Intake
from bridge.events.record import Record
from bridge.outbox import Outbox
from bridge.pusher.authorizer import Authorizer, ChannelAuthorizer
from bridge.pusher.recording import Recorder
from bridge.pusher.session import Session
from bridge.pusher.stalls import Stalls
from bridge.pusher.trust import Trust
from bridge.pusher.turns import Turns
from bridge.pusher.websocket import Connect, Connection, connect_websocket
from bridge.recovery.hearing import Hearing
from bridge.recovery.ledger import Ledger
from bridge.restraint import Restraint
from bridge.settings import Settings


__all__ = ["KeptSession", "Sessions", "keep", "sources_of"]

# How late what was proved is remembered, and so how much a crash adds to its gap.
# A ping proves something new every two seconds while events come and every 30 s by
# default without them, and only news are handed on: these are no four writes a second.
_PROVE_SECONDS: Final = 0.25

# A message that names more accounts than these is read by nobody.
_MOST_NAMED: Final = 3


def sources_of(settings: Settings) -> dict[str, str]:
    """Give each account's `ce_source` by its client id."""
    return {
        account.client_id: f"{settings.api_url}/clients/{account.client_id}"
        for account in settings.all_accounts
    }


class Sessions:
    """
    Every account's session.

    Args:
        settings: All settings.
        outbox: Where records go; remembers what the process before had proved.
        ledger: Where gaps go.
        recorder: Writes the wire down, if that is wanted.
        offer: Takes the intakes' records; must not wait.

    Attributes:
        intakes: What became of each account's events, in the order of accounts.
        sessions: Each account's session, in the same order.

    Raises:
        ConfigError: A setting that only its use shows to be wrong.
    """

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        ledger: Ledger,
        recorder: Recorder | None = None,
        *,
        offer: Callable[[list[Record]], None],
    ) -> None:
        self._outbox = outbox
        self._ledger = ledger
        self._sources = sources_of(settings)
        self._stalls = Stalls()
        # What the outbox was told last.
        self._proved: dict[str, int] = {}
        self.intakes: list[Intake] = []
        self.sessions: list[Session] = []
        self._hearings: list[Hearing] = []
        trust = Trust(settings.pusher.ca_file)

        def connect(url: str) -> AbstractAsyncContextManager[Connection]:
            most = settings.pusher.max_message_bytes
            return connect_websocket(url, max_message_bytes=most, tls=trust.context())

        restraint, turns = Restraint(outbox.is_crowded), Turns()
        for account in settings.all_accounts:
            client_id = account.client_id
            ce_source = self._sources[client_id]
            count = partial(outbox.jobs.count, ce_source)
            authorizer: ChannelAuthorizer = Authorizer(
                settings.api_url,
                account.api_token,
                app_key=settings.pusher.app_key,
                timeout_seconds=settings.pusher.authorization_timeout_seconds,
                tls=trust.context,
            )
            dial: Connect = connect
            if recorder is not None:
                authorizer = recorder.authorizer(authorizer, client_id)
                dial = recorder.connect(connect, client_id)
            intake = Intake(
                ce_source=ce_source,
                topic=settings.topic,
                dead_letter_topic=settings.dead_letter_topic,
                offer=offer,
                previews=settings.previews,
                preview_topic=settings.preview_topic,
                max_value_bytes=settings.limits.event_bytes,
                max_dead_letter_bytes=settings.limits.dead_letter_bytes,
                max_preview_bytes=settings.limits.preview_bytes,
            )
            hearing = Hearing(client_id, ledger, count)
            session = Session(
                client_id,
                settings.pusher,
                authorizer,
                intake.accept,
                pause=restraint,
                connect=dial,
                listener=hearing,
                has_jobs=partial(_is_any, count),
                stalls=self._stalls,
                turns=turns,
            )
            self.intakes.append(intake)
            self.sessions.append(session)
            self._hearings.append(hearing)

    @property
    def events_read(self) -> int:
        """Job events of all accounts since the start."""
        return sum(session.statistics.events for session in self.sessions)

    def begin(self) -> None:
        """
        Go on with the gaps that the process before left, or open those of this start.

        Before anything else that can fail: a process that ends before it has begun
        would leave the next one with its own end in place of the one before.
        """
        memory = self._outbox.memory
        self._ledger.restore(memory)
        for session, hearing in zip(self.sessions, self._hearings, strict=True):
            ce_source = self._sources[session.statistics.client_id]
            hearing.begin(memory.proved_us.get(ce_source), memory.was_stopped)

    async def run(self) -> NoReturn:
        """
        Keep every account subscribed, after `begin`, until cancelled.

        Raises:
            RefusedError: DryAPI refuses every account for good.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stalls.run)
                nursery.start_soon(self._prove_regularly)
                try:
                    await keep(self.sessions)
                except RefusedError as error:
                    # Raised below, outside the nursery, which would wrap it.
                    refusal = error
                nursery.cancel_scope.cancel()
        finally:
            # The sockets are closed: what they proved last is where a gap begins.
            self._prove()
        raise refusal

    async def _prove_regularly(self) -> None:
        while True:
            await trio.sleep(_PROVE_SECONDS)
            self._prove()

    def _prove(self) -> None:
        """Have the outbox remember up to when each account had heard everything."""
        proved = {
            self._sources[session.statistics.client_id]: session.statistics.proved_us
            for session in self.sessions
        }
        news = {
            ce_source: us
            for ce_source, us in proved.items()
            if us is not None and us != self._proved.get(ce_source)
        }
        if news:
            self._proved |= news
            self._outbox.prove(news)


def _is_any(count: Callable[[], int]) -> bool:
    return count() > 0


class _Statistics(Protocol):
    """What is read of a session."""

    @property
    def client_id(self) -> str:
        """Whose it is."""


class KeptSession(Protocol):
    """What `keep` needs of a session."""

    @property
    def statistics(self) -> _Statistics:
        """What it counts."""

    @property
    def is_given_up(self) -> bool:
        """Whether it was refused for good, and has not been subscribed since."""

    async def run(self) -> NoReturn:
        """Run until cancelled; may be called again after it raised."""


async def keep(sessions: Sequence[KeptSession]) -> NoReturn:
    """
    Run all sessions, those that are refused again and again, until cancelled.

    Args:
        sessions: One for each account, at least one.

    Raises:
        RefusedError: Every one is given up, at the same time.
    """
    refusals: dict[str, RefusedError] = {}

    async def keep_one(session: KeptSession, all_of_them: trio.CancelScope) -> None:
        while True:
            try:
                await session.run()
            except RefusedError as error:
                refusals[session.statistics.client_id] = error
            # Not who was given up once: whoever was let in again has all its time.
            if all(other.is_given_up for other in sessions):
                all_of_them.cancel()
                return

    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(keep_one, session, nursery.cancel_scope)
    raise _of_all(refusals)


def _of_all(refusals: Mapping[str, RefusedError]) -> RefusedError:
    """Say it of all accounts in one error; the first one's code stands for all."""
    first = next(iter(refusals.values()))
    if len(refusals) == 1:
        return first
    named = [f"{who}: {error}" for who, error in refusals.items()][:_MOST_NAMED]
    more = len(refusals) - len(named)
    rest = f"; and {more} more" if more else ""
    return RefusedError(
        f"dryAPI refuses all {len(refusals)} accounts. {'; '.join(named)}{rest}",
        code=first.code,
    )
