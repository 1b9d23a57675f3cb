"""Which tests may be skipped, and why; any other skip fails the run."""

from __future__ import annotations


_MOUNTS = "containers may forbid mounts; the same error is raised by stand-ins too"
_LINUX = "what it looks at exists only on Linux, where CI runs"

MAY_SKIP: dict[tuple[str, str], str] = {
    ("tests/check/test_reports.py", "this user may not mount"): _MOUNTS,
    ("tests/outbox/test_full_disk.py", "this user may not mount"): _MOUNTS,
    ("tests/e2e/test_outbox.py", "takes the right to mount"): _MOUNTS,
    ("tests/e2e/test_outbox.py", "limits a running process"): _LINUX,
    ("tests/e2e/test_refused_starts.py", "calls Linux's prctl"): _LINUX,
    ("tests/operations/test_metrics.py", "reads /proc"): _LINUX,
    ("tests/http/test_server.py", "no IPv6"): "containers may have none",
    ("tests/schemas/test_registry.py", "the command needs jq"): (
        "a command of the docs; the bridge itself needs neither program"
    ),
    ("tests/helm/", "no helm on the PATH"): (
        "its wheel is for Linux on x86-64; elsewhere it is the user's"
    ),
}


def may_skip(test: str, reason: str) -> bool:
    """Whether a test may be skipped for a reason."""
    reason = reason.removeprefix("Skipped: ")
    return any(
        test.startswith(tests) and reason.startswith(reasons)
        for tests, reasons in MAY_SKIP
    )
