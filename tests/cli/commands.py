"""Commands as processes: their lines, run to their end or on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from tests.conftest import Topic


# Far more than the second that a start takes here, below a test's 60 s.
DEADLINE_SECONDS = 30.0

# A hostile text: it would clear the terminal and set its title.
ESCAPES = "\x1b[2J\x1b]0;owned\x07"


def bridge(*args: str) -> list[str]:
    """Give a command line."""
    return [sys.executable, "-m", "bridge", *args]


def reading(topic: Topic, *args: str) -> list[str]:
    """Give the command line of a reader for a topic."""
    servers = topic.bootstrap_servers
    return bridge(*args, "--topic", topic.name, "--bootstrap-servers", servers)


def run(line: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        line, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )


def drawn(
    line: Sequence[str], *streams: str, **environ: str
) -> tuple[int, bytes, bytes]:
    """Run a command with some of its streams on a terminal."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=follower if "stdout" in streams else subprocess.PIPE,
        stderr=follower if "stderr" in streams else subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "300", **environ},
    ) as child:
        os.close(follower)
        picture = bytearray()
        with suppress(OSError):  # Linux's word for the end of a terminal
            while piece := os.read(leader, 65_536):
                picture += piece
        os.close(leader)
        written = child.communicate(timeout=DEADLINE_SECONDS)
    return child.returncode, bytes(picture), b"".join(one or b"" for one in written)
