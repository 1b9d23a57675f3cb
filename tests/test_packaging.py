"""What is shipped: the locks, the wheel and the sdist, and that they run."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from bridge import __version__


ROOT = Path(__file__).parents[1]


# What builds and installs: 7 s for the slowest with all wheels in pip's cache; the rest
# is for slow lines.
slow = pytest.mark.timeout(300)


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _requirements() -> dict[str, list[str]]:
    """Give what each lock is made of, by the lock's name."""
    described = _project()
    project = described["project"]
    service: list[str] = project["dependencies"]
    # The sandbox is for a laptop.
    extras = {
        name: service + extra
        for name, extra in project["optional-dependencies"].items()
        if name != "sandbox"
    }
    return {
        "service": service,
        "build": described["build-system"]["requires"],
        **extras,
    }


REQUIREMENTS = _requirements()


def _lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")


def _locked(name: str) -> dict[str, Version]:
    """Give the locked version of each distribution, by its canonical name."""
    return {
        canonicalize_name(found[1]): Version(found[2])
        for found in re.finditer(r"^([\w.-]+)==(\S+)", _lock(name), re.MULTILINE)
    }


def test_each_extra_has_a_lock() -> None:
    """There is a lock for the service, for each extra, and no other."""
    locks = {path.stem for path in (ROOT / "requirements").iterdir()}

    assert locks == REQUIREMENTS.keys(), "make lock, and remove what is left over"


def test_locks_fit_the_ranges_and_agree() -> None:
    """Each direct dependency is locked within its range, and alike in all locks."""
    wrong = []
    seen: dict[str, Version] = {}
    for name, wanted in REQUIREMENTS.items():
        locked = _locked(name)
        for requirement in map(Requirement, wanted):
            version = locked.get(canonicalize_name(requirement.name))
            if version is None or version not in requirement.specifier:
                wrong.append(f"{name}: {requirement} is locked as {version}")
        if name == "build":
            continue
        # Any extras go into one image.
        for distribution, version in locked.items():
            if seen.setdefault(distribution, version) != version:
                wrong.append(f"{name}: {distribution} is {version} elsewhere")
        wrong += [f"{name} lacks {one}" for one in _locked("service").keys() - locked]
    assert wrong == [], "make lock"


def test_locks_hold_versions_and_hashes_alone() -> None:
    """Each distribution has a hash, and nothing says where it comes from."""
    for name in REQUIREMENTS:
        text = _lock(name)
        entries = re.findall(
            r"^[\w.-]+==[^\n]+\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE
        )
        assert len(entries) == len(_locked(name)) > 0, name
        assert "://" not in text, name
        assert not re.search(r"^\s*-(?!-hash=sha256:)", text, re.MULTILINE), name


def test_image_has_the_version() -> None:
    """The image's label carries the package's version."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")

    assert f"ARG VERSION={__version__}\n" in dockerfile


def _try(
    *command: str | Path, at: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command; `at` a folder, with nothing of this environment around it."""
    alone = None if at is None else {"HOME": str(at), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command,
        cwd=at,
        env=alone,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )


def _run(*command: str | Path, at: Path | None = None) -> str:
    """Run a command that must succeed; gives its output."""
    done = _try(*command, at=at)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Build the sdist, and from it the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with what the image's lock names, and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    _run(sys.executable, "-m", "venv", folder)
    _run(
        *(folder / "bin" / "python", "-m", "pip", "install", "--quiet"),
        *("--require-hashes", "--only-binary", ":all:"),
        *("-r", ROOT / "requirements" / "service.txt"),
    )
    return folder


@pytest.mark.slow
@slow
def test_artifacts_hold_what_they_should(artifacts: Mapping[str, Path]) -> None:
    """Both carry types, license and code; the wheel carries no tests."""
    with zipfile.ZipFile(artifacts["wheel"]) as wheel:
        in_wheel = set(wheel.namelist())
    with tarfile.open(artifacts["sdist"]) as sdist:
        top = f"dryapi_kafka_bridge-{__version__}/"
        in_sdist = {name.removeprefix(top) for name in sdist.getnames()}

    package = {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("bridge/**/*.py")
    } | {"bridge/py.typed"}
    # What browsers run isn't Python.
    page = [path for path in ROOT.glob("bridge/board/page/**/*") if path.is_file()]
    assert page
    package |= {path.relative_to(ROOT).as_posix() for path in page}
    assert package <= in_wheel
    assert package <= in_sdist
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= in_sdist
    assert "schemas/job-status.schema.json" in in_sdist
    assert f"dryapi_kafka_bridge-{__version__}.dist-info/licenses/LICENSE" in in_wheel
    assert {name.partition("/")[0] for name in in_wheel} == {
        "bridge",
        f"dryapi_kafka_bridge-{__version__}.dist-info",
    }


@pytest.mark.slow
@slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_artifact_runs_in_a_clean_environment(
    kind: str,
    artifacts: Mapping[str, Path],
    clean_environment: Path,
    tmp_path: Path,
) -> None:
    """Beside the locked dependencies alone the command runs and says what it lacks."""
    pip = (clean_environment / "bin" / "python", "-m", "pip")
    bridge = clean_environment / "bin" / "bridge"
    _run(*pip, "install", "--quiet", "--no-deps", "--force-reinstall", artifacts[kind])

    assert _run(*pip, "check", at=tmp_path)
    assert __version__ in _run(bridge, "--version", at=tmp_path)
    assert "--topic" in _run(bridge, "--help", at=tmp_path)
    started = _try(bridge, "--topic", "jobs", at=tmp_path)
    assert started.returncode == 2
    assert "BRIDGE_CLIENT_ID" in started.stderr
    assert "Traceback" not in started.stderr


# Imports every module but the sandbox's, whose extra is not installed.
_IMPORT_ALL = """
import importlib, pkgutil, bridge
names = [
    module.name
    for module in pkgutil.walk_packages(
        bridge.__path__, "bridge.", onerror=lambda name: None
    )
    if "sandbox" not in module.name
    and not module.name.endswith("__main__")
]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


@pytest.mark.slow
@slow
def test_dependencies_are_declared(
    artifacts: Mapping[str, Path], clean_environment: Path, tmp_path: Path
) -> None:
    """Every module but the sandbox's imports with only the locked dependencies."""
    python = clean_environment / "bin" / "python"
    _run(
        *(python, "-m", "pip", "install", "--quiet", "--no-deps"),
        *("--force-reinstall", artifacts["wheel"]),
    )

    assert int(_run(python, "-c", _IMPORT_ALL, at=tmp_path)) > 20

    refused = _try(clean_environment / "bin" / "bridge", "sandbox", at=tmp_path)
    assert refused.returncode == 2
    assert "dryapi-kafka-bridge[sandbox]" in refused.stderr
