"""What `downloads` promises: whole folders or none, once, and clear errors.

Nothing is fetched from a registry here; proxies that don't exist stand for a
network that is down.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit import downloads
from tests.kit.cache import cached
from tests.kit.downloads import FetchError


_ROOT = Path(__file__).parents[2]  # where `tests` can be imported from

# A process that is killed in the middle of fetching.
_HALF_WAY = """
import sys, time
from tests.kit import cache

def fill(folder):
    (folder / "half").mkdir()
    (folder / "half" / "file").write_text("incomplete")
    print("half way", flush=True)
    time.sleep(600)

cache.cached("kafka", "t", recipe="r", source="s", way_on="w", fill=fill,
             progress=cache.to_stderr)
"""


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(downloads.CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point every proxy setting at a port where nobody answers."""
    # 9 is the discard port; nothing has offered it for decades.
    for name in ("http_proxy", "https_proxy", "all_proxy", "npm_config_https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "npm_config_noproxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("npm_config_fetch_retries", "0")


def _cached(fill: Callable[[Path], Path], recipe: str = "r") -> Path:
    return cached(
        "kafka",
        "Kafka",
        recipe=recipe,
        source="a registry",
        way_on="do without",
        fill=fill,
        progress=lambda _: None,
    )


def _whole(folder: Path) -> Path:
    (folder / "made").mkdir()
    (folder / "made" / "file").write_text("complete")
    return folder / "made"


def test_killed_fetch_is_never_taken_for_whole(cache: Path) -> None:
    """After SIGKILL in the middle the next process fetches anew and cleans up."""
    with subprocess.Popen(
        [sys.executable, "-c", _HALF_WAY],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=_ROOT,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "half way\n"
        other.send_signal(signal.SIGKILL)
    assert [path.name.startswith("partial-") for path in cache.iterdir()] == [True]

    folder = _cached(_whole)

    assert (folder / "file").read_text() == "complete"
    assert list(cache.iterdir()) == [folder]


def test_two_at_once_fetch_once() -> None:
    """Of two that need the same thing one fetches, and the other waits for it."""
    fills: list[Path] = []
    entered, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> Path:
        fills.append(folder)
        entered.set()
        assert go_on.wait(10)
        return _whole(folder)

    results: list[Path] = []
    threads = [
        threading.Thread(target=lambda: results.append(_cached(slow))) for _ in "12"
    ]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert len(fills) == 1
    assert len(results) == 2
    assert results[0] == results[1]


def test_foreign_jar_is_refused(tmp_path: Path) -> None:
    """Jars that differ from the list, are missing or too many are named."""
    folder = tmp_path / "environment"
    (folder / "jars").mkdir(parents=True)
    for name in ("a", "b", "foreign"):
        (folder / "jars" / f"{name}.jar").write_bytes(b"content")
    good = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    listed = f"{good}  jars/a.jar\n{'0' * 64}  jars/b.jar\n{good}  jars/missing.jar\n"

    with pytest.raises(ValueError, match="expected jars") as caught:
        downloads.check_digests(folder, listed)

    named = str(caught.value).partition(": ")[2]
    assert named == "jars/b.jar, jars/foreign.jar, jars/missing.jar"


@pytest.mark.parametrize(
    ("fetch", "what", "way_on"),
    [
        (
            downloads.fetch_kafka,
            r"Apache Kafka 4\.3\.1 .* could not be fetched from a Maven repository",
            "BRIDGE_TEST_KAFKA=host:port",
        ),
        (
            downloads.fetch_soketi,
            r"soketi 1\.6\.1 .* could not be fetched from an npm registry",
            "BRIDGE_TEST_SOKETI_APP=id:key:secret",
        ),
    ],
)
def test_unreachable_registry_is_explained(
    cache: Path,
    no_network: None,
    fetch: Callable[[], object],
    what: str,
    way_on: str,
) -> None:
    """The error says what, from what kind of place, the tool's words and a way on."""
    with pytest.raises(FetchError, match=what) as caught:
        fetch()

    head, _, tail = str(caught.value).partition("The last that was heard:\n")
    assert way_on in head
    assert "127.0.0.1" in tail
    assert list(cache.iterdir()) == []


def test_tests_that_need_it_fail_with_the_explanation(no_network: None) -> None:
    """A run without network or cache fails in those tests alone, in plain words."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    files = ["tests/kit/test_servers.py", "tests/kit/test_process.py"]

    run = subprocess.run(
        [*command, *files, "-k", "killed_broker_keeps or ports_are_different"],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        env={**os.environ, "BRIDGE_TEST_KAFKA": ""},
        timeout=50,
        check=False,
    )

    assert run.returncode == 1, run.stdout
    assert re.search("1 passed, [0-9]+ deselected, 1 error", run.stdout)
    assert "could not be fetched from a Maven repository" in run.stdout
    assert "Traceback" not in run.stdout.partition("The last that was heard")[0]
