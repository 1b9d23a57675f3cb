"""
`make profile`: where a bridge's CPU time goes, by py-spy.

The firehose writes a flood, or at a rate, to a bridge in front of a real Kafka, while
py-spy samples the bridge's stacks. The profile is saved in speedscope's format; tables
have the CPU time an event by package and by function, without what they call. What C
code takes counts for the Python function that called it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, ROOT
from benchmarks.load import Traffic
from benchmarks.program import RunError, conclude, count, say
from benchmarks.report import heading, table
from benchmarks.run import Servers, firehose_running, kafka_running, measure, running
from tests.kit.process import ChildProcess


_SAMPLES_A_SECOND = 500

# A flood of so many takes a bridge some seconds; each is kept in memory several times.
_FLOOD_EVENTS = 300_000
_PREVIEWS_BYTES = 150_000_000
_PACED_SECONDS = 20

_WARM_UP_EVENTS = 20_000

_WRITE_SECONDS = 30.0
_LOOK_SECONDS = 0.05
_FUNCTIONS = 25

_SAVED = ROOT / "build" / "profile.speedscope.json"

_PY_SPY = Path(sysconfig.get_path("scripts")) / "py-spy"

# Where modules are found; `site-packages` is a folder of the standard library.
_FOLDERS = (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), str(ROOT))


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile, print, save; the exit code is 1 if a server, py-spy or a run failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile",
        description="Show where the bridge's CPU time goes.",
    )
    parser.add_argument("--rate", type=count, help="events a second (default: a flood)")
    parser.add_argument("--previews", type=count, help="length of each event's preview")
    options = parser.parse_args(arguments)
    return conclude("make profile", lambda: _profile(**vars(options)))


def _profile(rate: int | None, previews: int | None) -> int:
    events = rate * _PACED_SECONDS if rate else _FLOOD_EVENTS
    if previews:
        events = min(events, _PREVIEWS_BYTES // previews)
    traffic = Traffic(events, preview_bytes=previews or 0)
    pace = f"{rate:,} events/s" if rate else "a flood"
    head = heading(f"Profile: {pace} of {traffic.frame_bytes:,} bytes an event")
    _SAVED.unlink(missing_ok=True)
    bridge = CONTENDERS["bridge"]
    with (
        tempfile.TemporaryDirectory(prefix="bridge-profile-") as folder,
        kafka_running() as (kafka, pids),
        firehose_running(Path(folder)) as (firehose, pid),
    ):
        servers = Servers(kafka, firehose, Path(folder), (*pids, pid))
        # The broker's compiler is warm then.
        measure(servers, bridge, Traffic(_WARM_UP_EVENTS), None)
        sampled = partial(_sampled, Path(folder))
        run = measure(servers, bridge, traffic, rate, sampled)
    tables = _tables(json.loads(_SAVED.read_text()), run.cpu_us_per_event)
    lines = [head, f"- {run.cpu_us_per_event:.1f} us CPU an event", "", *tables, ""]
    sys.stdout.write("\n".join(lines))
    say(f"saved {_SAVED.relative_to(ROOT)}, for https://www.speedscope.app")
    return 0 if run.verdict is not None and run.verdict.flawless else 1


@contextmanager
def _sampled(folder: Path, child: ChildProcess) -> Iterator[None]:
    """Let py-spy sample a process inside the block, and write its file at the end."""
    options = ["--format", "speedscope", "--rate", str(_SAMPLES_A_SECOND), "--nolineno"]
    spy = ChildProcess(
        "py-spy",
        [_PY_SPY, "record", *options, "--output", _SAVED, "--pid", str(child.pid)],
        log=folder / "py-spy.log",
        cwd=ROOT,
        ready=lambda spy: "Sampling process" in spy.output(),
    )
    with running(spy):
        yield
        spy.signal(signal.SIGINT)
        deadline = time.monotonic() + _WRITE_SECONDS
        while spy.running and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        if not _SAVED.exists():
            raise RunError(str(spy.error("wrote no profile")))


def own_time(profile: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """Count a speedscope profile's samples by the package and function at their end."""
    frames = profile["shared"]["frames"]
    stacks = [stack for each in profile["profiles"] for stack in each["samples"]]
    found: Counter[tuple[str, str]] = Counter()
    for number, samples in Counter(stack[-1] for stack in stacks if stack).items():
        file = frames[number]["file"] or ""
        folder = next((one for one in _FOLDERS if file.startswith(one)), "")
        parts = file.removeprefix(folder).strip("/").removesuffix(".py").split("/")
        # Of the bridge, each part counts by itself.
        package = ".".join(parts[: 2 if parts[0] == "bridge" else 1])
        found[package, f"{'.'.join(parts)}:{frames[number]['name']}"] += samples
    return found


def _tables(profile: Mapping[str, Any], us_per_event: float) -> Iterator[str]:
    functions = own_time(profile)
    packages: Counter[str] = Counter()
    for (package, _), samples in functions.items():
        packages[package] += samples
    by_name = Counter({name: samples for (_, name), samples in functions.items()})
    for kind, found in (("package", packages), ("function", by_name)):
        rows = []
        for name, samples in found.most_common(_FUNCTIONS):
            share = samples / found.total()
            rows.append([name, f"{share:.1%}", f"{share * us_per_event:.2f}"])
        yield from (*table([kind, "share", "CPU us an event"], rows), "")


if __name__ == "__main__":
    sys.exit(main())
