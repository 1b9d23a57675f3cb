"""
Runs a board: reads its topics, whatever happens to Kafka, and serves its page.

An unreachable Kafka is a state that the page shows. A refusal of the jobs' topic or of
the credentials is an error at the start only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias

import structlog
import trio
from starlette.types import ASGIApp

from bridge.board.board import Board, Bounds, TopicState
from bridge.board.web import Stream, application
from bridge.errors import KafkaError, KafkaRefusedError, ListenError
from bridge.http.hosts import names_of
from bridge.http.server import Limits, serve
from bridge.kafka.reader import ConsumedRecord, Edge, Start, TopicReader
from bridge.settings import KafkaSettings, Settings, split_address
from bridge.text import redact


__all__ = ["Take", "follow", "run"]

_log = structlog.get_logger("bridge.board")

# Gets each run of records, and whether no record is left to read.
Take: TypeAlias = Callable[[list[ConsumedRecord], bool], None]

# Besides its events a browser fetches previews, on five more connections at most, each
# of which ends with its answer.
_CONNECTIONS_PER_BROWSER: Final = 2
_MORE_CONNECTIONS: Final = 50

_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - not bound

# As aiokafka's own waits: a broker that is back is found within seconds.
_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 10.0

# Some lines of the page.
_MAX_NOTE: Final = 300


async def run(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """
    Serve the board until cancelled.

    Args:
        settings: Topics, Kafka and the board's own.
        on_listening: Called with the page's address once it can be opened.

    Raises:
        ListenError: The port can't be opened.
        KafkaRefusedError: At the start the jobs' topic is missing or may not be read,
            or the credentials are refused.
        ConfigError: A certificate or key can't be used.
    """
    own = settings.board
    since_ms = max(0, int((time.time() - own.since_seconds) * 1000))
    bounds = Bounds(shows_results=own.show_results)
    board = Board(settings.topic, bounds, since_ms)
    stream = Stream(board, bounds)
    host, _ = split_address(own.listen)
    app = application(board, stream, [host, *names_of(own.hosts)])

    def take_jobs(run: list[ConsumedRecord], _is_end: bool) -> None:  # noqa: FBT001
        board.take_jobs(run, int(time.time() * 1000), time.monotonic())

    topics: dict[str, tuple[Start, Take]] = {
        settings.topic: (since_ms, take_jobs),
        settings.gap_topic: (
            Edge.BEGINNING,
            lambda run, is_end: board.take_gaps(run, is_end=is_end),
        ),
        settings.dead_letter_topic: (
            since_ms,
            lambda run, _: board.take_dead_letters(run),
        ),
    }
    if settings.previews == "topic":
        topics[settings.preview_topic] = (
            since_ms,
            lambda run, _: board.take_previews(run),
        )
    async with trio.open_nursery() as nursery:
        port = await nursery.start(_serve, app, own.listen, bounds.max_browsers)
        shown = _ANY_ADDRESS.get(host, f"[{host}]" if ":" in host else host)
        on_listening(f"http://{shown}:{port}/")
        nursery.start_soon(stream.run)
        for topic, (start, take) in topics.items():
            state = board.topics.setdefault(topic, TopicState())
            is_required = topic == settings.topic
            nursery.start_soon(
                follow, settings.kafka, topic, start, take, state, is_required
            )


async def _serve(
    app: ASGIApp,
    listen: str,
    max_browsers: int,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    limits = Limits(
        max_connections=_CONNECTIONS_PER_BROWSER * max_browsers + _MORE_CONNECTIONS
    )
    try:
        await serve(
            app,
            listen,
            setting="board.listen",
            limits=limits,
            task_status=task_status,
        )
    except ListenError as error:
        raise ListenError(f"{error} or --listen", listen=error.listen) from error


async def follow(  # noqa: PLR0913, PLR0917 - each is one independent choice
    settings: KafkaSettings,
    topic: str,
    start: Start,
    take: Take,
    state: TopicState,
    is_required: bool,  # noqa: FBT001 - started in a nursery, which has no keywords
) -> None:
    """
    Read one topic until cancelled; after an interruption, continue where it was.

    Raises:
        KafkaRefusedError: A required topic is refused at the start. Any other refusal
            is a note on the page.
        ConfigError: A certificate or key can't be used.
    """
    wait_seconds = _FIRST_WAIT_SECONDS
    while True:
        try:
            async with TopicReader(settings, [topic], start=start) as reader:
                state.has_started = True
                state.note = None
                _log.info("board.reading", topic=topic)
                # The state before the first run counts too, and an empty topic.
                run: list[ConsumedRecord] = []
                while True:
                    start = reader.positions or start
                    state.lag = reader.lag
                    state.unavailable_since_ms = _epoch_ms(reader.silent_since_seconds)
                    take(run, reader.is_at_end)
                    run = await reader.receive_run()
                    wait_seconds = _FIRST_WAIT_SECONDS
        except KafkaError as error:
            is_refused = isinstance(error, KafkaRefusedError)
            if is_refused and is_required and not state.has_started:
                raise
            note = f"{topic} can't be read at the moment."
            if is_required:
                # A broker may echo the credentials.
                note = redact(str(error))[:_MAX_NOTE]
            elif is_refused:
                note = f"{topic} is missing, or this user may not read it."
            if state.note != note:
                _log.warning("board.not_reading", topic=topic, error=str(error))
            state.note = note
            if state.unavailable_since_ms is None:
                state.unavailable_since_ms = _epoch_ms(time.monotonic())
        await trio.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)


def _epoch_ms(at_seconds: float | None) -> int | None:
    """Turn a time of the monotonic clock into milliseconds since the epoch."""
    if at_seconds is None:
        return None
    return int((time.time() - (time.monotonic() - at_seconds)) * 1000)
