"""What a report must say about where it was made."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from benchmarks.contenders import ROOT
from tests.kit.downloads import KAFKA_VERSION


__all__ = ["Machine", "describe", "heading"]

_PACKAGES = (
    "trio",
    "trio-websocket",
    "wsproto",
    "websockets",
    "aiokafka",
    "msgspec",
    "confluent-kafka",
)


@dataclass(frozen=True)
class Machine:
    """
    Where and with what a report was made.

    Attributes:
        system: The operating system.
        cores: How many of them.
        python: Its version.
        versions: Versions of what matters, by name.
        revision: The commit that was measured, with `-dirty` for changed files.
        load_average: Of 1, 5 and 15 minutes, before anything was started.
    """

    system: str
    cores: int
    python: str
    versions: dict[str, str]
    revision: str
    load_average: tuple[float, float, float]


def describe(
    *, own_kafka: bool | None, more: Mapping[str, str] | None = None
) -> Machine:
    """
    Describe this machine.

    Args:
        own_kafka: Whether the broker is the one that `tests.kit` starts; None if
            there is no broker.
        more: Further versions.
    """
    versions = {name: version(name) for name in _PACKAGES}
    if own_kafka is not None:
        versions["Apache Kafka"] = KAFKA_VERSION if own_kafka else "an existing broker"
    versions.update(more or {})
    return Machine(
        system=platform.platform(),
        cores=os.cpu_count() or 1,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions=versions,
        revision=_revision(),
        load_average=os.getloadavg(),
    )


def heading(title: str, machine: Machine) -> str:
    """Write the first lines of a report."""
    load = ", ".join(f"{value:.2f}" for value in machine.load_average)
    versions = ", ".join(f"{name} {text}" for name, text in machine.versions.items())
    return "\n".join(
        [
            f"# {title}",
            "",
            f"- {machine.cores} cores, {machine.system}",
            f"- {machine.python}, {versions}",
            f"- revision {machine.revision}",
            f"- load average before the start: {load}",
        ]
    )


def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]  # no tags
    try:
        answer = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
