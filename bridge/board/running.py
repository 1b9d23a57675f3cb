"""
Runs a board: its port, and the reading of its topics.

Owns which topics are read, from where on, and what a browser may take of the port.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

import trio
from starlette.applications import Starlette

from bridge.board.board import Board, Bounds
from bridge.board.events import Events
from bridge.board.figures import Standing
from bridge.board.files import page_files
from bridge.board.following import Follower, Take
from bridge.board.web import application
from bridge.errors import ListenError
from bridge.http.hosts import names_of
from bridge.http.server import Limits, serve
from bridge.kafka.reader import ConsumedRecord, Edge, Start
from bridge.settings import Settings, split_address


__all__ = ["run"]

# Beside its events a browser fetches pictures, on five more connections at most, each
# of which ends with its answer.
_CONNECTIONS_OF_A_BROWSER: Final = 2
_MORE_CONNECTIONS: Final = 50

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - not bound


async def run(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """
    Serve the board until cancelled.

    Args:
        settings: Topics, Kafka and the board's own.
        on_listening: Is told the page's address once it can be opened.

    Raises:
        ListenError: The port can't be opened.
        KafkaRefusedError: At the start the topic of jobs is missing or may not be read,
            or the credentials are refused.
        ConfigError: A certificate or key can't be used.
    """
    own = settings.board
    since_ms = max(0, int((time.time() - own.since_seconds) * 1000))
    bounds = Bounds(shows_results=own.show_results)
    board = Board(settings.topic, bounds, since_ms)
    events = Events(board, bounds)
    host, _ = split_address(own.listen)
    app = application(board, events, page_files(), [host, *names_of(own.hosts)])
    async with trio.open_nursery() as nursery:
        port = await nursery.start(_serve, app, own.listen, bounds.max_browsers)
        shown = _EVERYWHERE.get(host, f"[{host}]" if ":" in host else host)
        on_listening(f"http://{shown}:{port}/")
        nursery.start_soon(events.run)
        for follower in _followers(settings, board, since_ms):
            nursery.start_soon(follower.run)


async def _serve(
    app: Starlette,
    listen: str,
    max_browsers: int,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    allowed = Limits(
        max_connections=_CONNECTIONS_OF_A_BROWSER * max_browsers + _MORE_CONNECTIONS
    )
    try:
        await serve(
            app,
            listen,
            setting="board.listen",
            limits=allowed,
            task_status=task_status,
        )
    except ListenError as error:
        raise ListenError(f"{error} or --listen", listen=error.listen) from error


def _followers(settings: Settings, board: Board, since_ms: int) -> Iterator[Follower]:
    """Make what reads each topic."""

    def jobs(run: list[ConsumedRecord], _is_end: bool) -> None:  # noqa: FBT001
        board.take_jobs(run, int(time.time() * 1000), time.monotonic())

    def follower(
        topic: str, start: Start, take: Take, *, is_required: bool
    ) -> Follower:
        standing = board.standings.setdefault(topic, Standing())
        return Follower(
            settings.kafka, topic, start, take, standing, is_required=is_required
        )

    yield follower(settings.topic, since_ms, jobs, is_required=True)
    optional: dict[str, tuple[Start, Take]] = {
        settings.gap_topic: (
            Edge.BEGINNING,
            lambda run, is_end: board.take_gaps(run, is_end=is_end),
        ),
        settings.dead_letter_topic: (since_ms, lambda run, _: board.take_letters(run)),
    }
    if settings.previews == "topic":
        optional[settings.preview_topic] = (
            since_ms,
            lambda run, _: board.take_previews(run),
        )
    for topic, (start, take) in optional.items():
        yield follower(topic, start, take, is_required=False)
