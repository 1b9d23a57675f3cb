"""npm packages that tests and benchmarks need: soketi, clients, judges of documents.

Owns which, at which versions, and how they are installed. What is fetched goes into
the cache that `cache` owns.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.kit.cache import Progress, cached, to_stderr
from tests.kit.wheels import EXISTING_SOKETI, WITHOUT_CONNECTED, node, run_program


__all__ = [
    "ASYNCAPI_PARSER_VERSION",
    "AXE_VERSION",
    "KAFKAJS_VERSION",
    "PUSHER_JS_VERSION",
    "SOKETI_VERSION",
    "TYPESCRIPT_VERSION",
    "fetch_asyncapi_parser",
    "fetch_axe",
    "fetch_node_peers",
    "fetch_seed_clients",
    "fetch_soketi",
    "fetch_typescript",
]

SOKETI_VERSION = "1.6.1"
ASYNCAPI_PARSER_VERSION = "3.6.6"
AXE_VERSION = "4.14.1"
TYPESCRIPT_VERSION = "5.9.3"
PUSHER_JS_VERSION = "8.6.0"
KAFKAJS_VERSION = "2.2.4"

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
    "dependencies": {"laravel-echo": "2.4.0", "pusher-js": PUSHER_JS_VERSION},
}

_SEED_CLIENTS_ENTRY = Path("node_modules/laravel-echo/package.json")

# What the bridge is measured beside.
_NODE_PEERS_PACKAGE = {
    "private": True,
    "dependencies": {"kafkajs": KAFKAJS_VERSION, "pusher-js": PUSHER_JS_VERSION},
}

_NODE_PEERS_ENTRY = Path("node_modules/kafkajs/package.json")

_ASYNCAPI_PACKAGE = {
    "private": True,
    "dependencies": {"@asyncapi/parser": ASYNCAPI_PARSER_VERSION},
}

_ASYNCAPI_ENTRY = Path("node_modules/@asyncapi/parser/package.json")

# What judges the board's page: one script for the browser, one for Node.
_AXE_PACKAGE = {"private": True, "dependencies": {"axe-core": AXE_VERSION}}

_AXE_ENTRY = Path("node_modules/axe-core/axe.min.js")

_TYPESCRIPT_PACKAGE = {
    "private": True,
    "dependencies": {"typescript": TYPESCRIPT_VERSION},
}

_TYPESCRIPT_ENTRY = Path("node_modules/typescript/bin/tsc")


def fetch_soketi(progress: Progress = to_stderr) -> Path:
    """Fetch soketi and the npm packages it needs unless the cache has them."""
    package = json.dumps(_SOKETI_PACKAGE, indent=2)
    return cached(
        "soketi",
        f"soketi {SOKETI_VERSION} (327 npm packages, 290 MB on disk)",
        recipe=package,
        source="an npm registry",
        way_on=EXISTING_SOKETI,
        fill=lambda folder: _install(folder, package, _SOKETI_ENTRY),
        progress=progress,
    )


def fetch_seed_clients(progress: Progress = to_stderr) -> Path:
    """Fetch the JavaScript clients of dryAPI's documentation unless they are there."""
    package = json.dumps(_SEED_CLIENTS_PACKAGE, indent=2)
    return cached(
        "seed-clients",
        "pusher-js and Laravel Echo",
        recipe=package,
        source="an npm registry",
        way_on=WITHOUT_CONNECTED,
        fill=lambda folder: _install(folder, package, _SEED_CLIENTS_ENTRY),
        progress=progress,
    )


def fetch_node_peers(progress: Progress = to_stderr) -> Path:
    """Fetch pusher-js and KafkaJS unless they are there."""
    package = json.dumps(_NODE_PEERS_PACKAGE, indent=2)
    return cached(
        "node-peers",
        "pusher-js and KafkaJS",
        recipe=package,
        source="an npm registry",
        way_on="choose others than Node's (make bench CONTENDERS=)",
        fill=lambda folder: _install(folder, package, _NODE_PEERS_ENTRY),
        progress=progress,
    )


def fetch_asyncapi_parser(progress: Progress = to_stderr) -> Path:
    """Fetch AsyncAPI's official parser unless it is there."""
    package = json.dumps(_ASYNCAPI_PACKAGE, indent=2)
    return cached(
        "asyncapi",
        f"AsyncAPI's parser {ASYNCAPI_PARSER_VERSION} (168 npm packages, 54 MB)",
        recipe=package,
        source="an npm registry",
        way_on=WITHOUT_CONNECTED,
        # One of its packages reports each installation when its script may run.
        fill=lambda folder: _install(
            folder, package, _ASYNCAPI_ENTRY, "--ignore-scripts"
        ),
        progress=progress,
    )


def fetch_axe(progress: Progress = to_stderr) -> Path:
    """Fetch axe-core, which finds what keeps people out of a page."""
    package = json.dumps(_AXE_PACKAGE, indent=2)
    folder = cached(
        "axe",
        f"axe-core {AXE_VERSION}",
        recipe=package,
        source="an npm registry",
        way_on="leave out the tests that need it (ARGS='-k \"not accessible\"')",
        fill=lambda folder: _install(folder, package, _AXE_ENTRY),
        progress=progress,
    )
    return folder / _AXE_ENTRY


def fetch_typescript(progress: Progress = to_stderr) -> Path:
    """Fetch TypeScript, which checks the types that JavaScript's comments name."""
    package = json.dumps(_TYPESCRIPT_PACKAGE, indent=2)
    folder = cached(
        "typescript",
        f"TypeScript {TYPESCRIPT_VERSION} (24 MB)",
        recipe=package,
        source="an npm registry",
        way_on="leave out the test that needs it (ARGS='-k \"not types\"')",
        fill=lambda folder: _install(folder, package, _TYPESCRIPT_ENTRY),
        progress=progress,
    )
    return folder / _TYPESCRIPT_ENTRY


def _install(folder: Path, package: str, entry: Path, *more_options: str) -> Path:
    """Install what a package.json asks for."""
    target = folder / "packages"
    target.mkdir()
    (target / "package.json").write_text(package)
    program = node()
    npm = program.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    options = ["--no-package-lock", "--no-audit", "--no-fund", *more_options]
    # Scripts of the packages look for `node` on the path.
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    run_program(
        "npm",
        [program, npm, "install", *options, "--cache", folder / "npm"],
        target,
        env={**os.environ, "PATH": path},
    )
    if not (target / entry).is_file():
        raise ValueError(f"npm installed no {entry}")
    return target
