"""Show that the tests catch defects: `make mutants`.

Each defect is a patch against `bridge/`, `NN-name.patch`, with a row in `table` that
says in words what it breaks and which tests must catch it. For each, the project is
copied, the patch applied, and those tests run there, two defects at a time. A defect is
caught if each of its tests fails by an assertion or an error of its own: a test that is
skipped, that isn't found or whose fixtures fail has caught nothing. Before that, all of
these tests must pass on a copy without any patch.

Kafka and soketi are started once and shared. The models try the same orders of events
each time (`tests.models.exploring`), and report the first failure they find as it is.

A patch that doesn't apply any more fails the run: the code that it broke was rewritten,
and the defect has to be seeded again. Change the code as the defect would, then write
`git diff -U1 bridge/ >tests/mutants/NN-name.patch`, and take the change back.

    python -m tests.mutants                         # all
    python -m tests.mutants --only 05,09-secret     # by the beginning of their names

The exit code is 1 if a defect survives or a patch doesn't apply, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.kit import broker, cache, publisher
from tests.kit.kafka import KafkaServer
from tests.kit.process import ProcessError
from tests.kit.soketi import SoketiServer
from tests.mutants.table import MUTANTS, Mutant
from tests.mutants.trying import PatchError, copy_project, patch, run_tests


_AT_ONCE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Try defects, print a line for each and a verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        default=("",),
        metavar="NAME,...",
        help="only defects whose names begin so",
    )
    only = parser.parse_args(arguments).only
    chosen = [mutant for mutant in MUTANTS if mutant.name.startswith(only)]
    if not chosen:
        parser.error(f"no defect is called so: {', '.join(only)}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bridge-mutants-") as folder:
        try:
            with _servers(chosen) as environment:
                survived = _try(chosen, Path(folder), environment)
        except (cache.FetchError, ProcessError, broker.BrokerError) as error:
            _print(f"the servers can't be started: {error}")
            return 1
    _print(
        f"{len(chosen) - survived} of {len(chosen)} defects caught"
        f" in {time.monotonic() - begun:.0f} s"
    )
    return 1 if survived else 0


def _try(chosen: Sequence[Mutant], folder: Path, environment: Mapping[str, str]) -> int:
    """Try defects; give how many survived."""
    sound = copy_project(folder / "without-any")
    tests = sorted({test for mutant in chosen for test in mutant.caught_by})
    # Both halves have models, which take processor time, and scenes, which wait.
    halves = [half for half in (tests[::2], tests[1::2]) if half]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        begun = time.monotonic()
        run = partial(run_tests, sound, environment=environment)
        for outcome in pool.map(run, halves):
            if not outcome.has_passed:
                _print("without any defect these tests must pass, and don't:")
                _print(outcome.output)
                return len(chosen)
        _print(
            f"without any defect {len(tests)} tests pass"
            f" ({time.monotonic() - begun:.0f} s)"
        )
        lines = pool.map(lambda one: _verdict(one, sound, folder, environment), chosen)
        survived = 0
        for is_caught, line in lines:
            _print(line)
            survived += not is_caught
    return survived


def _verdict(
    mutant: Mutant, sound: Path, folder: Path, environment: Mapping[str, str]
) -> tuple[bool, str]:
    """Try one defect; give whether it was caught, and the line that says so."""
    begun = time.monotonic()
    copy = copy_project(folder / mutant.name, sound)
    try:
        patch(copy, mutant.patch)
    except PatchError as error:
        return False, f"{mutant.name}: THE PATCH DOESN'T APPLY: {error}"
    outcome = run_tests(copy, mutant.caught_by, environment)
    seconds = f"({time.monotonic() - begun:.0f} s)"
    missed = [test for test in mutant.caught_by if test not in outcome.failed]
    if not missed:
        by = ", ".join(test.rpartition("::")[2] for test in mutant.caught_by)
        return True, f"{mutant.name}: caught by {by} {seconds}"
    return False, (
        f"{mutant.name}: SURVIVED {seconds}: {mutant.defect}\n"
        f"  not caught by {', '.join(missed)}\n{outcome.output}"
    )


@contextmanager
def _servers(chosen: Sequence[Mutant]) -> Iterator[dict[str, str]]:
    """Run the servers that some defects need; gives the tests' environment."""
    environment = {**os.environ, "BRIDGE_TEST_SEED": "0", "BRIDGE_TEST_SHRINK": "no"}
    environment.pop("BRIDGE_TEST_ORDERS", None)
    with ExitStack() as stack:
        if any(mutant.needs_servers for mutant in chosen):
            if not environment.get(broker.EXISTING_VARIABLE):
                kafka = stack.enter_context(KafkaServer())
                environment[broker.EXISTING_VARIABLE] = kafka.bootstrap_servers
            if not environment.get(publisher.EXISTING_VARIABLE):
                soketi = stack.enter_context(SoketiServer())
                app = soketi.app
                environment[publisher.EXISTING_VARIABLE] = soketi.url
                environment[publisher.APP_VARIABLE] = f"{app.id}:{app.key}:{app.secret}"
        yield environment


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - its report


if __name__ == "__main__":
    sys.exit(main())
