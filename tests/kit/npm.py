"""npm packages that tests and benchmarks need: soketi, clients, judges of documents.

Each function installs packages unless the cache has them, and gives the folder that
holds `node_modules`, or the script in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.kit.cache import Progress, cached, to_stderr
from tests.kit.wheels import node, run_program


SOKETI_VERSION = "1.6.1"
PUSHER_JS_VERSION = "8.6.0"
KAFKAJS_VERSION = "2.2.4"

_NODE_MODULES = Path("node_modules")

# Nothing that is installed runs, and what packages need is as old as they are: a
# version that was published later isn't taken.
_LOCKED = ("--ignore-scripts", "--before", "2026-12-01")


def fetch_soketi(progress: Progress = to_stderr) -> Path:
    """Fetch soketi."""
    # soketi's own uWebSockets.js is a git address; this build is near it and runs on
    # glibc 2.27 and later.
    build = "npm:@trufflesuite/uws-js-unofficial@20.30.0-unofficial.0"
    return install(
        "soketi",
        {"@soketi/soketi": SOKETI_VERSION},
        "@soketi/soketi/bin/server.js",
        progress,
        overrides={"uWebSockets.js": build},
    )


def fetch_seed_clients(progress: Progress = to_stderr) -> Path:
    """Fetch the JavaScript clients that dryAPI's documentation installs."""
    packages = {"laravel-echo": "2.4.0", "pusher-js": PUSHER_JS_VERSION}
    return install("seed-clients", packages, "laravel-echo/package.json", progress)


def fetch_node_peers(progress: Progress = to_stderr) -> Path:
    """Fetch pusher-js and KafkaJS, which the bridge is measured beside."""
    packages = {"kafkajs": KAFKAJS_VERSION, "pusher-js": PUSHER_JS_VERSION}
    return install("node-peers", packages, "kafkajs/package.json", progress)


def fetch_asyncapi_parser(progress: Progress = to_stderr) -> Path:
    """Fetch AsyncAPI's official parser."""
    return install(
        "asyncapi",
        {"@asyncapi/parser": "3.6.6"},
        "@asyncapi/parser/package.json",
        progress,
    )


def fetch_axe(progress: Progress = to_stderr) -> Path:
    """Fetch axe-core, which judges the board's page; gives the browser's script."""
    entry = "axe-core/axe.min.js"
    folder = install("axe", {"axe-core": "4.14.1"}, entry, progress)
    return folder / _NODE_MODULES / entry


def fetch_typescript(progress: Progress = to_stderr) -> Path:
    """Fetch TypeScript, which checks types in comments; gives the script for Node."""
    entry = "typescript/bin/tsc"
    folder = install("typescript", {"typescript": "5.9.3"}, entry, progress)
    return folder / _NODE_MODULES / entry


def install(
    name: str,
    dependencies: Mapping[str, str],
    entry: str,
    progress: Progress,
    **members: Mapping[str, str],
) -> Path:
    """Install packages unless the cache has them; `entry` must then be there."""
    contents = {"private": True, "dependencies": dependencies, **members}
    package = json.dumps(contents, indent=2)

    def fill(folder: Path) -> Path:
        target = folder / "packages"
        target.mkdir()
        (target / "package.json").write_text(package)
        program = node()
        npm = program.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
        options = ("--no-package-lock", "--no-audit", "--no-fund", *_LOCKED)
        cached_in = ("--cache", folder / "npm")
        run_program("npm", [program, npm, "install", *cached_in, *options], target)
        if not (target / _NODE_MODULES / entry).is_file():
            raise ValueError(f"npm installed no {entry}")
        return target

    return cached(name, f"{name} (npm)", recipe=package, fill=fill, progress=progress)
