"""
The answers of the health port: `/livez`, `/readyz` and `/metrics`.

Liveness asks whether the process moves, and nothing remote: restarting a bridge
does not mend Kafka or dryAPI. Readiness asks whether it does its work. How the
port is opened and served belongs to `bridge.http.server`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bridge.http.hosts import HostCheck
from bridge.operations.sources import SessionStatistics, Sources, TopicFinding
from bridge.text import redact


if TYPE_CHECKING:
    from bridge.operations.metrics import Metrics


__all__ = ["Check", "Health", "Report"]

# Ten beats of the loop. A thread beats every few seconds, and a commit on a
# slow disk or a stall of the machine is no reason to restart the process.
_STALE_SECONDS = 10.0

# What a finding about a topic means: see `sources.VERDICTS`. What can't be seen is no
# fault.
_FINE = "fine"
_UNFIT = ("dangerous", "missing")

_HOSTS = "operations.hosts (BRIDGE_OPERATIONS_HOSTS)"

_NO_STORE = {"Cache-Control": "no-store"}


class Check(msgspec.Struct, frozen=True):
    """
    One fact about the bridge.

    Attributes:
        name: Short, with dashes.
        ok: Whether it is as it should be.
        detail: A few words for people.
        required: Whether the whole depends on it; else it is for information.
    """

    name: str
    ok: bool
    detail: str
    required: bool = True


class Report(msgspec.Struct, frozen=True):
    """
    An answer as it goes out in JSON.

    Attributes:
        status: `ok` or `failed`.
        reasons: Name and detail of each required check that failed.
        checks: All of them.
    """

    status: Literal["ok", "failed"]
    reasons: list[str]
    checks: list[Check]


class Health:
    """
    Judges the statistics.

    Args:
        sources: The statistics to judge.
        metrics: Gives what `/metrics` renders; called in a thread, when it is first
            asked for.
        clock: Monotonic seconds, that of the heartbeats.
        now: Seconds since the epoch, for ages.
    """

    def __init__(
        self,
        sources: Sources,
        metrics: Callable[[], Metrics],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._make_metrics = metrics
        self._metrics: Metrics | None = None
        self._clock = clock
        self._now = now
        # Each gives the moment of its last beat; None or 0 while it does not run.
        self._beats: Mapping[str, Callable[[], float | None]] = {
            "trio-loop": lambda: sources.loop.last_beat,
            "kafka-thread": lambda: sources.relay.last_beat,
        }

    def live(self) -> Report:
        """
        Tell whether the process moves: 503 means that it should be restarted.

        The trio loop serves this answer itself: while the loop stalls there is
        none, and the probe's timeout is what reports it. After a stall the
        answer comes again and shows the lag for a minute. A stalled thread is
        reported by name and age.
        """
        return _report([*self._heartbeats(), self._lag()])

    def ready(self) -> Report:
        """
        Tell whether the bridge does its work.

        It does while at least one account is subscribed, Kafka was reached
        since the start and the outbox accepts. A Kafka outage after that is
        shown and changes nothing: the outbox is there for it.
        """
        return _report([*self._requirements(), *self._information()])

    def app(self, hosts: Iterable[str] = ()) -> ASGIApp:
        """
        Make the ASGI application: three paths, and JSON for every other.

        Args:
            hosts: Names by which the port is reached, beside those of private networks.
        """

        async def livez(request: Request) -> Response:
            return _answer(request, "livez", self.live())

        async def readyz(request: Request) -> Response:
            return _answer(request, "readyz", self.ready())

        async def metrics(request: Request) -> Response:
            if self._metrics is None:
                self._metrics = await trio.to_thread.run_sync(self._make_metrics)
            write, content_type = self._metrics.read(request.headers.get("accept", ""))
            # With 200 accounts it takes 40 ms, in which the loop reads the socket.
            body = await trio.to_thread.run_sync(write)
            return Response(body, headers={**_NO_STORE, "Content-Type": content_type})

        app = Starlette(
            routes=[
                Route("/livez", livez),
                Route("/readyz", readyz),
                Route("/metrics", metrics),
            ],
            exception_handlers={HTTPException: _refuse, Exception: _fail},
        )
        return HostCheck(app, hosts, hint=_HOSTS, accepts_private=True)

    def _heartbeats(self) -> Iterator[Check]:
        now = self._clock()
        for name, beat in self._beats.items():
            last = beat()
            if not last:
                yield Check(name, ok=True, detail="not running")
                continue
            age = max(0.0, now - last)
            yield Check(name, age <= _STALE_SECONDS, f"last beat {age:.1f} s ago")

    def _lag(self) -> Check:
        lag = self._sources.loop.lag_seconds
        detail = f"at most {lag:.3f} s during the last minute"
        return Check("loop-lag", lag <= _STALE_SECONDS, detail, required=False)

    def _requirements(self) -> Iterator[Check]:
        sessions = list(self._sources.sessions)
        subscribed = sum(session.subscribed for session in sessions)
        detail = f"{subscribed} of {len(sessions)} accounts subscribed"
        refused = sum(session.refused_reason is not None for session in sessions)
        if refused:
            detail += f", {refused} refused"
        yield Check("subscribed", subscribed > 0, detail)
        relay = self._sources.relay
        reached = relay.ever_connected
        yield Check(
            "kafka-reached",
            reached,
            "reached since the start"
            if reached
            else _because("not yet", relay.last_error),
        )
        full = self._sources.outbox.full
        yield Check(
            "outbox-accepting",
            not full,
            "full: nothing is accepted" if full else "accepting",
        )

    def _information(self) -> Iterator[Check]:
        for session in list(self._sources.sessions):
            yield self._account(session)
        relay = self._sources.relay
        yield Check(
            "kafka-now",
            relay.connected,
            "connected"
            if relay.connected
            else _because("not connected", relay.last_error),
            required=False,
        )
        yield from self._topics()
        yield from self._healing()
        outbox = self._sources.outbox
        detail = f"{outbox.rows} records wait, {outbox.bytes} bytes on disk"
        oldest_at_us = outbox.oldest_received_at_us
        if oldest_at_us is not None:
            detail += f", the oldest {self._ago(oldest_at_us)}"
        yield Check("outbox-lag", ok=True, detail=detail, required=False)

    def _account(self, session: SessionStatistics) -> Check:
        """Show one account; that it isn't subscribed may be no reason alone."""
        read_at_us = session.last_frame_at_us
        frame = "no frame yet"
        if read_at_us is not None:
            frame = f"last frame {self._ago(read_at_us)}"
        detail = f"{session.state}, {frame}"
        if session.last_close_code is not None and not session.subscribed:
            detail += f", last close code {session.last_close_code}"
        if session.refused_reason is not None:
            detail += f"; {redact(session.refused_reason)}"
        name = f"account:{session.client_id}"
        return Check(name, session.subscribed, detail, required=False)

    def _topics(self) -> Iterator[Check]:
        """Show what was found of each topic, and what to do where that isn't fit."""
        for topic, findings in self._sources.relay.topic_findings.items():
            wrong = [one for one in findings if one.verdict != _FINE]
            detail = "; ".join(map(_told, wrong))
            yield Check(
                f"topic:{topic}",
                all(one.verdict not in _UNFIT for one in wrong),
                detail or f"{len(findings)} facts are as needed",
                required=False,
            )

    def _healing(self) -> Iterator[Check]:
        """Show the status endpoint where it gives nothing, and webhooks where taken."""
        healing = self._sources.healing
        for client_id, limiter in healing.limiters.items():
            if limiter.is_backing_off:
                detail = "it gives no answers; the bridge tries again"
            elif limiter.day_left(healing.now()) == 0:
                detail = "this day's calls are used up; jobs of gaps stay unknown"
            else:
                continue
            name = f"status-endpoint:{client_id}"
            yield Check(name, ok=False, detail=detail, required=False)
        if healing.webhooks is None:
            return
        for client_id, at_us in healing.webhooks.last_terminal_at_us.items():
            last = "none came yet" if at_us is None else f"the last {self._ago(at_us)}"
            detail = f"of jobs that have ended {last}"
            yield Check(f"webhooks:{client_id}", ok=True, detail=detail, required=False)

    def _ago(self, at_us: int) -> str:
        return f"{max(0.0, self._now() - at_us / 1_000_000):.1f} s ago"


def _told(finding: TopicFinding) -> str:
    """Say what is wrong, and what to do if somebody must."""
    text = (
        f"{finding.verdict}: {finding.what} is {finding.found},"
        f" needed is {finding.needed}"
    )
    if finding.verdict in _UNFIT and finding.remedy:
        text += f". {finding.remedy.removesuffix('.')}"
    return text


def _because(text: str, error: str | None) -> str:
    """Add why. The sentence may come from a library: no secret leaves in it."""
    return text if error is None else f"{text}: {redact(error)}"


def _report(checks: list[Check]) -> Report:
    reasons = [
        f"{check.name}: {check.detail}"
        for check in checks
        if check.required and not check.ok
    ]
    return Report("failed" if reasons else "ok", reasons, checks)


def _answer(request: Request, name: str, report: Report) -> Response:
    """Answer in JSON or, with `?verbose`, in the lines that Kubernetes prints."""
    status = 503 if report.reasons else 200
    if "verbose" not in request.query_params:
        return _json(status, report)
    verdict = "failed" if report.reasons else "passed"
    lines = [*map(_line, report.checks), f"{name} check {verdict}"]
    return Response(
        "\n".join(lines) + "\n", status, headers=_NO_STORE, media_type="text/plain"
    )


def _line(check: Check) -> str:
    if check.ok:
        return f"[+]{check.name} ok: {check.detail}"
    if check.required:
        return f"[-]{check.name} failed: {check.detail}"
    return f"[~]{check.name} not ok, for information: {check.detail}"


def _json(
    status: int, content: object, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(
        msgspec.json.encode(content),
        status,
        headers={**(headers or {}), **_NO_STORE},
        media_type="application/json",
    )


async def _refuse(_: Request, error: Exception) -> Response:
    """Answer what no route takes: 404, 405 and their like."""
    assert isinstance(error, HTTPException)
    content = {"status": error.status_code, "error": error.detail}
    return _json(error.status_code, content, error.headers)


async def _fail(_: Request, __: Exception) -> Response:
    """Answer after a bug of ours; starlette raises it again for the log."""
    return _json(500, {"status": 500, "error": "Internal Server Error"})
