"""The cache of downloads: one folder, whole things in it, one process at a time.

Everything is fetched into a folder with a passing name, checked there, and renamed
into its place, which carries a digest of the recipe. So a folder under its final
name is always whole, an interrupted download is never taken for one, and a
changed recipe installs again beside the old one, which another clone may use.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from tests.kit.process import ProcessError


CACHE_VARIABLE = "BRIDGE_TEST_CACHE"

# Measured 14 to 70 s each; the rest is for slow lines.
FETCH_DEADLINE_SECONDS = 900.0

_LOCK_POLL_SECONDS = 0.2

_PARTIAL_PREFIX = "partial-"

Progress = Callable[[str], None]


class FetchError(Exception):
    """Something that a server needs can't be fetched; says what, and how to go on."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(
            f"{what} could not be fetched.\n"
            "To go on, repair the way to it (proxy settings come from the environment),"
            " or leave out the tests that need it (-m 'not connected').\n"
            f"The last error was:\n{detail}"
        )


def to_stderr(line: str) -> None:
    """Print a line of progress at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def cache_folder() -> Path:
    """Where downloads are kept: BRIDGE_TEST_CACHE or the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return user_cache_path("dryapi-kafka-bridge")


def cached(
    name: str,
    title: str,
    *,
    recipe: str,
    fill: Callable[[Path], Path],
    progress: Progress,
) -> Path:
    """Return the folder of a finished recipe, cooking it first if need be."""
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    cache = cache_folder()
    target = cache / f"{name}-{digest}"
    if target.is_dir():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache, progress):
            if target.is_dir():  # another process was faster
                return target
            # The process that made these is gone: the lock is ours.
            for leftover in cache.glob(f"{_PARTIAL_PREFIX}{name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            progress(f"Fetching {title}, once ...")
            started = time.monotonic()
            with tempfile.TemporaryDirectory(
                prefix=f"{_PARTIAL_PREFIX}{name}-", dir=cache
            ) as partial:
                fill(Path(partial)).rename(target)
            progress(f"... done in {time.monotonic() - started:.0f} s")
    except (ProcessError, OSError, ValueError) as error:
        raise FetchError(title, str(error)) from error
    return target


@contextmanager
def _lock(cache: Path, progress: Progress) -> Iterator[None]:
    """Keep other processes from changing the cache.

    The lock is on the folder itself, so that there is no lock file to leave or to
    lose. It ends with the process that holds it.
    """
    descriptor = os.open(cache, os.O_RDONLY)
    try:
        deadline = time.monotonic() + FETCH_DEADLINE_SECONDS
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    progress(f"Waiting for another process that uses {cache} ...")
                    told = True
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
