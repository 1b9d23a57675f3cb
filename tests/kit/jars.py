"""Resolves Maven coordinates into jars or one archive; run as a program of its own.

    python -P jars.py FOLDER COORDINATES

prints the path of the environment, whose `jars` and `modules` belong on the class
path. Coordinates of five parts (group, artifact, version, classifier, packaging) name
one file, without what it depends on: its path is printed. jgo's own settings are
honored: repositories named in its configuration file come beside the central one, and
proxies come from the environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.env import EnvironmentBuilder, LinkStrategy
from jgo.maven import MavenContext


# jgo gives a server 10 s to answer; a busy proxy has needed more.
_TIMEOUT_SECONDS = 60

# Jars are named by three, joined by `+`.
_PARTS_OF_ONE_FILE = 5


def main(folder: Path, coordinates: str) -> None:
    """Resolve the coordinates and download what they name."""
    repositories = GlobalSettings.load().repositories
    context = MavenContext(
        repo_cache=folder / "repository",
        remote_repos={"central": MAVEN_CENTRAL_URL, **repositories},
        timeout=_TIMEOUT_SECONDS,
    )
    parts = coordinates.split(":")
    if len(parts) == _PARTS_OF_ONE_FILE:
        group, artifact, version, classifier, packaging = parts
        component = context.project(group, artifact).at_version(version)
        sys.stdout.write(f"{component.artifact(classifier, packaging).resolve()}\n")
        return
    builder = EnvironmentBuilder(
        context=context,
        cache_dir=folder,
        link_strategy=LinkStrategy.COPY,  # the repository is thrown away
    )
    environment = builder.from_endpoint(coordinates)
    sys.stdout.write(f"{environment.path}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
