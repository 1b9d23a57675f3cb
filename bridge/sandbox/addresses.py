"""
The addresses of previews and results that the sandbox hands out.

Results are signed and expire, as dryAPI's do. What stands at an address is
served in `dryapi`.
"""

from __future__ import annotations

from bridge.sandbox import signing


__all__ = ["Addresses"]

# dryAPI's result addresses are good for about a day.
_RESULT_SECONDS = 86_400


class Addresses:
    """
    Builds and checks addresses.

    Attributes:
        base: `http://host:port`, what every address begins with.
    """

    def __init__(self, base: str, app: signing.App) -> None:
        self.base = base.rstrip("/")
        self._app = app

    def preview(self, request_id: str) -> str:
        """Say where a job's present preview is."""
        return f"{self.base}/previews/{request_id}.jpg"

    def result(self, request_id: str, now: float) -> str:
        """
        Sign the address of a job's result.

        Args:
            request_id: The job.
            now: Seconds since the epoch.
        """
        path = f"/results/{request_id}.jpg"
        expires = int(now) + _RESULT_SECONDS
        signature = self._app.result_signature(path, expires)
        return f"{self.base}{path}?expires={expires}&signature={signature}"

    def may_fetch(self, path: str, expires: str, signature: str, now: float) -> bool:
        """
        Check a signed address.

        Args:
            path: The path that is asked for.
            expires: Its parameter as it came.
            signature: Its parameter as it came.
            now: Seconds since the epoch.
        """
        if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
            return False
        expected = self._app.result_signature(path, int(expires))
        return signing.equal(signature, expected) and now <= int(expires)
