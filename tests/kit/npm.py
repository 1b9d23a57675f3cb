"""npm packages that tests and benchmarks need: soketi, clients, judges of documents."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.kit.cache import Progress, cached, to_stderr
from tests.kit.wheels import EXISTING_SOKETI, WITHOUT_CONNECTED, node, run_program


SOKETI_VERSION = "1.6.1"
ASYNCAPI_PARSER_VERSION = "3.6.6"
AXE_VERSION = "4.14.1"
TYPESCRIPT_VERSION = "5.9.3"
PUSHER_JS_VERSION = "8.6.0"
KAFKAJS_VERSION = "2.2.4"

_NODE_MODULES = Path("node_modules")


def fetch_soketi(progress: Progress = to_stderr) -> Path:
    """Fetch soketi; gives the folder that holds `node_modules`, as others do."""
    return _fetch(
        "soketi",
        f"soketi {SOKETI_VERSION} (327 npm packages, 290 MB on disk)",
        {"@soketi/soketi": SOKETI_VERSION},
        "@soketi/soketi/bin/server.js",
        progress,
        way_on=EXISTING_SOKETI,
        # soketi's own uWebSockets.js is a git address; this build is near it and runs
        # on glibc 2.27 and later.
        overrides={
            "uWebSockets.js": "npm:@trufflesuite/uws-js-unofficial@20.30.0-unofficial.0"
        },
    )


def fetch_seed_clients(progress: Progress = to_stderr) -> Path:
    """Fetch the JavaScript clients that dryAPI's documentation installs."""
    return _fetch(
        "seed-clients",
        "pusher-js and Laravel Echo",
        {"laravel-echo": "2.4.0", "pusher-js": PUSHER_JS_VERSION},
        "laravel-echo/package.json",
        progress,
    )


def fetch_node_peers(progress: Progress = to_stderr) -> Path:
    """Fetch pusher-js and KafkaJS, which the bridge is measured beside."""
    return _fetch(
        "node-peers",
        "pusher-js and KafkaJS",
        {"kafkajs": KAFKAJS_VERSION, "pusher-js": PUSHER_JS_VERSION},
        "kafkajs/package.json",
        progress,
        way_on="choose others than Node's (make bench CONTENDERS=)",
    )


def fetch_asyncapi_parser(progress: Progress = to_stderr) -> Path:
    """Fetch AsyncAPI's official parser."""
    return _fetch(
        "asyncapi",
        f"AsyncAPI's parser {ASYNCAPI_PARSER_VERSION} (168 npm packages, 54 MB)",
        {"@asyncapi/parser": ASYNCAPI_PARSER_VERSION},
        "@asyncapi/parser/package.json",
        progress,
        # One of its packages reports each installation when its script may run.
        options=("--ignore-scripts",),
    )


def fetch_axe(progress: Progress = to_stderr) -> Path:
    """Fetch axe-core, which judges the board's page; gives the browser's script."""
    entry = "axe-core/axe.min.js"
    folder = _fetch(
        "axe",
        f"axe-core {AXE_VERSION}",
        {"axe-core": AXE_VERSION},
        entry,
        progress,
        way_on="leave out the tests that need it (ARGS='-k \"not accessible\"')",
    )
    return folder / _NODE_MODULES / entry


def fetch_typescript(progress: Progress = to_stderr) -> Path:
    """Fetch TypeScript, which checks types in comments; gives the script for Node."""
    entry = "typescript/bin/tsc"
    folder = _fetch(
        "typescript",
        f"TypeScript {TYPESCRIPT_VERSION} (24 MB)",
        {"typescript": TYPESCRIPT_VERSION},
        entry,
        progress,
        way_on="leave out the test that needs it (ARGS='-k \"not types\"')",
    )
    return folder / _NODE_MODULES / entry


def _fetch(
    name: str,
    title: str,
    dependencies: Mapping[str, str],
    entry: str,
    progress: Progress,
    *,
    way_on: str = WITHOUT_CONNECTED,
    options: Sequence[str] = (),
    **members: Mapping[str, str],
) -> Path:
    """Install packages unless the cache has them; `entry` must then be there."""
    contents = {"private": True, "dependencies": dependencies, **members}
    package = json.dumps(contents, indent=2)
    return cached(
        name,
        title,
        recipe=package,
        source="an npm registry",
        way_on=way_on,
        fill=lambda folder: _install(folder, package, _NODE_MODULES / entry, *options),
        progress=progress,
    )


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
