"""Checks docs/contribute/conformance.md: each row has tests, on the servers it names.

python -m tests.pusher.conformance    reports what is wrong, and exits with 1
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path


_TESTS = Path(__file__).parent
_PAGE = _TESTS.parents[1] / "docs" / "contribute" / "conformance.md"
_ROW = re.compile(r"^\| (\d+) \|.*\| ([^|]*) \|$", re.MULTILINE)
_NAME = re.compile(r"def test_rows?_((?:\d\d_)+)")
_ROWS = 42


def main() -> int:
    """Compare the page's last column with the tests."""
    shown: defaultdict[int, set[str]] = defaultdict(set)
    for path in _TESTS.glob("test_*.py"):
        server = "soketi" if path.name.startswith("test_soketi") else "scripted"
        for name in _NAME.finditer(path.read_text(encoding="utf-8")):
            for row in name[1].split("_")[:-1]:
                shown[int(row)].add(server)
    rows = _ROW.findall(_PAGE.read_text(encoding="utf-8"))
    listed = {int(row): set(servers.split(", ")) for row, servers in rows}
    wrong = [
        f"docs/contribute/conformance.md: row {row} is shown against"
        f" {', '.join(sorted(shown[row])) or 'nothing'}"
        for row in sorted(listed.keys() | shown.keys())
        if listed.get(row) != shown[row]
    ]
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return int(bool(wrong) or len(listed) < _ROWS)


if __name__ == "__main__":
    sys.exit(main())
