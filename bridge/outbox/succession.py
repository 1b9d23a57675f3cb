"""
The file in use and the one that takes its place when it is damaged.

What goes into the file is `writer`'s business. Moving is done by `damage`, reading
what was moved by `salvage`; when each has its turn is decided here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from bridge.errors import OutboxDamagedError, OutboxDirectoryError, OutboxFullError
from bridge.outbox.disk import damage
from bridge.outbox.inheriting import inherit, is_inherited, take_over
from bridge.outbox.jobs.order import Order
from bridge.outbox.losses import Losses
from bridge.outbox.opening import Opened, open_outbox
from bridge.outbox.salvage import Acknowledged, salvage
from bridge.outbox.statistics import OutboxStatistics


__all__ = ["Succession"]

_log = structlog.get_logger("bridge.outbox")

# A file damaged by accident is damaged once. One that has to be replaced again so
# soon lies on a disk that is dying, and new files would only fill it.
_DYING_SECONDS = 600.0

_CAUSE = "outbox_damaged"


class Succession:
    """
    One directory's outbox file, whichever it is just now.

    Args:
        path: The database file.
        max_bytes: What database and log may take together.
        losses: Told of what a damaged file takes with it.
        statistics: Where lost rows are counted.
        order: Who judges what is appended; goes from file to file.

    Attributes:
        opened: The file in use.

    Raises:
        OutboxFormatError: The file is no outbox of this version.
        OutboxDirectoryError: The file, or another one, can't be opened.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        losses: Losses,
        statistics: OutboxStatistics,
        order: Order,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._losses = losses
        self._statistics = statistics
        self._order = order
        self._damaged_at: float | None = None
        # The file before, while another one is to take its place.
        self._aside = path
        try:
            damage.finish_setting_aside(path)
        except OSError as error:
            raise _immovable(path, error) from error
        try:
            self.opened = self._open()
        except OutboxDamagedError as error:
            self._move_away(error, None)
            self.opened = self._open()
        self._inherit()

    def set_aside(self, error: OutboxDamagedError, since_us: int | None) -> None:
        """
        Move the damaged file away and close it; `renew` is to follow.

        Args:
            error: How the damage was found.
            since_us: Since when something may be missing; None if nobody knows.

        Raises:
            OutboxDamagedError: The file before it was damaged only just now.
            OutboxDirectoryError: It can't be moved.
        """
        self._move_away(error, since_us)
        # Only now: SQLite leaves a log alone whose database was moved.
        self.opened.connection.close()

    def renew(self) -> None:
        """
        Open a new file; it remembers what the one before did.

        Raises:
            OutboxDirectoryError: Not now: the disk has no room, for instance.
        """
        before = self.opened.store
        opened = self._open(is_heir=True)
        try:
            take_over(self._aside, before.remembered, before.pins, opened)
        except BaseException as error:
            opened.connection.close()
            if isinstance(error, OutboxFullError):
                raise _without_room(self._path, error) from error
            raise
        self.opened = opened
        self._statistics.tallies.set_adrift()

    def salvage(self, acknowledged: Acknowledged, beat: Callable[[], None]) -> None:
        """
        Bring over what is left in files that were set aside; usually there is none.

        Args:
            acknowledged: What of the file before is known to be in Kafka.
            beat: Called now and then.

        Raises:
            OutboxDamagedError: The file in use is damaged as well.
        """
        lost = 0
        for aside in damage.unsalvaged(self._path):
            salvaged = salvage(aside, self.opened, acknowledged, beat)
            damage.is_salvaged(aside)
            lost += salvaged.given_up
            if salvaged.given_up or salvaged.reason is not None:
                # It goes on already, unless it was another process that found the
                # damage; that may have been killed before it could tell.
                self._losses.begin(_CAUSE, None)
            _log.warning(
                "outbox.salvaged",
                set_aside=str(aside),
                records=salvaged.rows,
                given_up=salvaged.given_up,
                stopped_by=salvaged.reason,
            )
        self._statistics.lost_rows += lost
        self._statistics.tallies.give_up_adrift()
        self._losses.end(_CAUSE, time.time_ns() // 1000, lost)

    def _open(self, *, is_heir: bool = False) -> Opened:
        return open_outbox(
            self._path,
            self._max_bytes,
            self._order,
            is_heir=is_heir,
            tallies=self._statistics.tallies,
        )

    def _inherit(self) -> None:
        """Remember what files did that were set aside and not read to their end."""
        try:
            for aside in damage.unsalvaged(self._path):
                if not is_inherited(aside, self.opened):
                    inherit(aside, self.opened)
        except BaseException as error:
            self.opened.connection.close()
            if isinstance(error, OutboxFullError):
                raise _without_room(self._path, error) from error
            raise

    def _move_away(self, error: OutboxDamagedError, since_us: int | None) -> None:
        now = time.monotonic()
        if self._damaged_at is not None and now - self._damaged_at < _DYING_SECONDS:
            raise OutboxDamagedError(
                f"outbox.dir: {error}; the file before it was damaged as well: see"
                f" whether the disk fails. Both lie in {self._path.parent}: keep them"
            ) from error
        self._damaged_at = now
        self._losses.begin(_CAUSE, since_us)
        try:
            aside = self._aside = damage.set_aside(self._path)
        except OSError as failure:
            raise _immovable(self._path, failure) from error
        _log.error(
            "outbox.damaged",
            reason=str(error),
            set_aside=str(aside),
            advice="a new file is used; keep this one until you know why",
        )


def _without_room(path: Path, error: OutboxFullError) -> OutboxDirectoryError:
    return OutboxDirectoryError(
        f"outbox.dir: {path} can't be used ({error}); see that the disk has room"
    )


def _immovable(path: Path, error: OSError) -> OutboxDirectoryError:
    return OutboxDirectoryError(
        f"outbox.dir: {path} is damaged and can't be moved ({error.strerror}); move it"
        " and its -wal away, or choose another directory (BRIDGE_OUTBOX_DIR,"
        " --outbox-dir)"
    )
