"""How `consumer.py` is called, and what it left in its database."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - the example's own database
import sys
from contextlib import closing
from pathlib import Path

from tests.conftest import Topic


_EXAMPLE = Path(__file__).parents[2] / "examples" / "consumer.py"


def command(topic: Topic, group: str) -> list[str | Path]:
    """Give the command line of a consumer in a group."""
    options = ["--bootstrap-servers", topic.bootstrap_servers, "--topic", topic.name]
    return [sys.executable, _EXAMPLE, *options, "--group", group]


def rows(folder: Path) -> list[tuple[str, str, str, int]]:
    """Give each job's status, its progress and how many events it had, by name."""
    with closing(sqlite3.connect(folder / "jobs.sqlite3")) as database:
        query = "SELECT request_id, status, progress, events FROM jobs ORDER BY 1"
        return database.execute(query).fetchall()
