"""The page's modules without a browser: the types that their comments name."""

from __future__ import annotations

import subprocess

import pytest

from bridge.board.web import PAGE
from tests.kit.npm import fetch_typescript
from tests.kit.wheels import node


# As strict as mypy is with the rest.
_OPTIONS = (
    *("--noEmit", "--allowJs", "--checkJs", "--strict"),
    *("--noUncheckedIndexedAccess", "--noUnusedLocals", "--noUnusedParameters"),
    *("--target", "esnext", "--lib", "esnext,dom,dom.iterable"),
    *("--module", "esnext", "--moduleResolution", "bundler"),
)


@pytest.mark.timeout(180)  # 3 s on an idle machine
def test_modules_keep_their_types() -> None:
    """TypeScript finds nothing wrong with what each module says of its types."""
    modules = sorted(PAGE.glob("*.js"))
    done = subprocess.run(
        [node(), fetch_typescript(), *_OPTIONS, *modules],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert modules
    assert done.returncode == 0, done.stdout
