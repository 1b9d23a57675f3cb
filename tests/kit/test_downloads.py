"""What `downloads` promises: whole folders or none, and clear errors.

Nothing is fetched from a registry here; proxies that don't exist stand for a
network that is down.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import downloads
from tests.kit.cache import cached
from tests.kit.downloads import FetchError


_ROOT = Path(__file__).parents[2]  # where `tests` can be imported from

# A process that is killed in the middle of fetching.
_HALF_WAY = """
import time
from tests.kit import cache

def fill(folder):
    (folder / "half").mkdir()
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


def test_killed_fetch_is_never_taken_for_whole(cache: Path) -> None:
    """After SIGKILL in the middle the next process fetches again and cleans up."""
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

    def fill(folder: Path) -> Path:
        (folder / "made").mkdir()
        (folder / "made" / "file").write_text("complete")
        return folder / "made"

    folder = cached(
        "kafka",
        "Kafka",
        recipe="r",
        source="a registry",
        way_on="do without",
        fill=fill,
        progress=lambda _: None,
    )
    assert (folder / "file").read_text() == "complete"
    assert list(cache.iterdir()) == [folder]


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


def test_an_unreachable_registry_is_explained(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what, from what kind of place, the tool's words and a way on."""
    # 9 is the discard port; nothing has offered it for decades.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    what = r"Apache Kafka 4\.3\.1 .* could not be fetched from a Maven repository"
    with pytest.raises(FetchError, match=what) as caught:
        downloads.fetch_kafka()
    head, _, tail = str(caught.value).partition("The last that was heard:\n")
    assert "BRIDGE_TEST_KAFKA=host:port" in head
    assert "127.0.0.1" in tail
    assert list(cache.iterdir()) == []
