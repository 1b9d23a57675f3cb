"""
The responses of the health port: `/livez`, `/readyz` and `/metrics`.

Liveness is about the process's loops and nothing remote: restarting a bridge repairs
neither Kafka nor dryAPI. Readiness is about its work. `bridge.http.server` serves the
port. The heartbeat of the trio loop is here, that of the Kafka thread in its loop.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bridge.gaps.limiter import Limiter
from bridge.gaps.receiver import WebhookStatistics
from bridge.http.hosts import HostCheck
from bridge.kafka.relay.statistics import LOOP_LAG, RelayStatistics
from bridge.kafka.topic_checks import TopicFinding, Verdict
from bridge.metric import gauge
from bridge.outbox.statistics import OutboxStatistics
from bridge.pusher.connection import Statistics as SessionStatistics
from bridge.text import redact


if TYPE_CHECKING:
    from bridge.operations.metrics import Metrics


__all__ = ["Check", "Health", "LoopHeartbeat", "Report", "Sources"]

# Ten beats of the loop. A thread beats every few seconds, and a commit on a
# slow disk or a stall of the machine isn't a reason to restart the process.
_STALE_SECONDS = 10.0

_BEAT_SECONDS = 1.0

# A minute of beats: longer than the usual scrape interval of 15 to 60 s, so that the
# second of two scrapes shows a stall between them.
_BEATS_KEPT = 60

# What can't be seen isn't a fault.
_UNFIT = (Verdict.WARNING, Verdict.ERROR)

_HOSTS = "operations.hosts (BRIDGE_OPERATIONS_HOSTS)"

_NO_STORE = {"Cache-Control": "no-store"}


class LoopHeartbeat:
    """
    Measures the trio loop; `beat` runs as a task of it.

    Args:
        clock: Monotonic seconds, the same clock as that of `Health`.

    Attributes:
        last_beat: When it beat last.
        tasks: How many tasks lived then.
        lags: How late the beats of the last minute were, in seconds.
    """

    tasks: Annotated[int, gauge("bridge_loop_tasks", "Tasks on the trio loop.")]

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.lags: deque[float] = deque([0.0], maxlen=_BEATS_KEPT)
        self.last_beat: float | None = None
        self.tasks = 0

    @property
    def lag_seconds(self) -> Annotated[float, LOOP_LAG.of(loop="trio")]:
        """The longest delay of a beat during the last minute."""
        return max(self.lags)

    async def beat(self) -> None:
        """Beat until cancelled, and note how late: as late as any other task was."""
        while True:
            self.last_beat = self._clock()
            self.tasks = trio.lowlevel.current_statistics().tasks_living
            await trio.sleep(_BEAT_SECONDS)
            late = self._clock() - self.last_beat - _BEAT_SECONDS
            self.lags.append(max(0.0, late))


class Sources(msgspec.Struct, frozen=True):
    """
    The statistics that health and metrics read, of objects that others own.

    Attributes:
        sessions: One of each account.
        outbox: What is not yet safely in Kafka.
        relay: What is.
        loop: The trio loop of this process.
        limiters: What may still be asked, by client id; none where asking is off.
        webhooks: What was received; None where none are.
        others: What only metrics read.
    """

    sessions: Sequence[SessionStatistics]
    outbox: OutboxStatistics
    relay: RelayStatistics
    loop: LoopHeartbeat
    limiters: Mapping[str, Limiter]
    webhooks: WebhookStatistics | None
    others: Sequence[object] = ()

    def labeled(self) -> Iterator[tuple[dict[str, str], Any]]:
        """Yield all of them, each with the labels of its metrics' samples."""
        for session in self.sessions:
            yield {"client_id": session.client_id}, session
        yield from (({}, one) for one in self.others)
        # What must add up is read at one moment.
        outbox = self.outbox.copied()
        yield {}, outbox
        for topic, counts in outbox.topics.items():
            yield {"topic": topic}, counts
        yield {}, self.relay
        for client_id, limiter in self.limiters.items():
            yield {"client_id": client_id}, limiter
        if self.webhooks is not None:
            yield {}, self.webhooks
        yield {}, self.loop


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
    Derives the checks from statistics.

    Args:
        sources: The statistics.
        metrics: Makes what renders `/metrics`; called in a thread, with the first
            request for it.
        clock: Monotonic seconds, that of the heartbeats.
        stale_seconds: How old a heartbeat may be.
    """

    def __init__(
        self,
        sources: Sources,
        metrics: Callable[[], Metrics],
        *,
        clock: Callable[[], float] = time.monotonic,
        stale_seconds: float = _STALE_SECONDS,
    ) -> None:
        self._sources = sources
        self._stale_seconds = stale_seconds
        self._make_metrics = metrics
        self._metrics: Metrics | None = None
        self._clock = clock

    def live(self) -> Report:
        """
        Report whether the loops run; if not, the process should be restarted.

        The trio loop itself serves this response: while it stalls there is none, and
        the probe's timeout reports it. Afterwards the response shows the lag for a
        minute.
        """
        return _report([*self._heartbeats(), self._lag()])

    def ready(self) -> Report:
        """
        Report whether the bridge does its work.

        It does while at least one account is subscribed, Kafka was reached since the
        start and the outbox accepts. A Kafka outage after that is shown and changes
        nothing: the outbox bridges it.
        """
        return _report([*self._requirements(), *self._information()])

    def app(self, hosts: Iterable[str] = ()) -> ASGIApp:
        """
        Make the ASGI application: three paths, and JSON for all others.

        Args:
            hosts: Names that clients use, beside those of private networks.
        """

        async def livez(request: Request) -> Response:
            return _answer(request, "livez", self.live())

        async def readyz(request: Request) -> Response:
            return _answer(request, "readyz", self.ready())

        async def metrics(request: Request) -> Response:
            if self._metrics is None:
                self._metrics = await trio.to_thread.run_sync(self._make_metrics)
            write, content_type = self._metrics.read(request.headers.get("accept", ""))
            # With 200 accounts it takes 40 ms; meanwhile the loop reads the socket.
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
        loop, relay = self._sources.loop, self._sources.relay
        beats = {"trio-loop": loop.last_beat, "kafka-thread": relay.last_beat}
        for name, last in beats.items():
            age = max(0.0, now - last) if last else 0.0
            detail = f"last beat {age:.1f} s ago" if last else "not running"
            yield Check(name, age <= self._stale_seconds, detail)

    def _lag(self) -> Check:
        lag = self._sources.loop.lag_seconds
        detail = f"at most {lag:.3f} s during the last minute"
        return Check("loop-lag", lag <= self._stale_seconds, detail, required=False)

    def _requirements(self) -> Iterator[Check]:
        sessions = self._sources.sessions
        subscribed = sum(session.subscribed for session in sessions)
        detail = f"{subscribed} of {len(sessions)} accounts subscribed"
        refused = sum(session.is_refused for session in sessions)
        if refused:
            detail += f", {refused} refused"
        yield Check("subscribed", subscribed > 0, detail)
        relay = self._sources.relay
        detail = "reached since the start"
        if not relay.ever_connected:
            detail = _because("not yet", relay.last_error)
        yield Check("kafka-reached", relay.ever_connected, detail)
        full = self._sources.outbox.full
        detail = "full: nothing is accepted" if full else "accepting"
        yield Check("outbox-accepting", not full, detail)

    def _information(self) -> Iterator[Check]:
        for session in self._sources.sessions:
            yield self._account(session)
        relay = self._sources.relay
        detail = "connected"
        if not relay.connected:
            detail = _because("not connected", relay.last_error)
        yield Check("kafka-now", relay.connected, detail, required=False)
        yield from self._topics()
        yield from self._healing()
        outbox = self._sources.outbox
        detail = f"{outbox.rows} records wait, {outbox.bytes} bytes on disk"
        oldest_at_us = outbox.oldest_received_at_us
        if oldest_at_us is not None:
            detail += f", the oldest {_ago(oldest_at_us)}"
        yield Check("outbox-lag", ok=True, detail=detail, required=False)

    def _account(self, session: SessionStatistics) -> Check:
        """Show one account; it needn't be subscribed while another one is."""
        read_at_us = session.last_frame_at_us
        frame = "no frame yet"
        if read_at_us is not None:
            frame = f"last frame {_ago(read_at_us)}"
        detail = f"{session.state}, {frame}"
        if session.last_close_code is not None and not session.subscribed:
            detail += f", last close code {session.last_close_code}"
        if session.refused_reason is not None:
            detail += f"; {redact(session.refused_reason)}"
        name = f"account:{session.client_id}"
        return Check(name, session.subscribed, detail, required=False)

    def _topics(self) -> Iterator[Check]:
        """Show the findings of each topic, and what to do about them."""
        for topic, findings in self._sources.relay.topic_findings.items():
            wrong = [one for one in findings if one.verdict is not Verdict.OK]
            detail = "; ".join(map(_described, wrong))
            yield Check(
                f"topic:{topic}",
                all(one.verdict not in _UNFIT for one in wrong),
                detail or f"{len(findings)} facts are as needed",
                required=False,
            )

    def _healing(self) -> Iterator[Check]:
        """Show the status endpoint if it doesn't respond, and webhooks if received."""
        for client_id, limiter in self._sources.limiters.items():
            if limiter.is_backing_off:
                detail = "it gives no answers; the bridge tries again"
            elif limiter.remaining["day"] == 0:
                detail = "this day's calls are used up; jobs of gaps stay unknown"
            else:
                continue
            name = f"status-endpoint:{client_id}"
            yield Check(name, ok=False, detail=detail, required=False)
        if self._sources.webhooks is None:
            return
        for client_id, at_us in self._sources.webhooks.last_terminal_at_us.items():
            last = "none came yet" if at_us is None else f"the last {_ago(at_us)}"
            detail = f"of jobs that have ended {last}"
            yield Check(f"webhooks:{client_id}", ok=True, detail=detail, required=False)


def _ago(at_us: int) -> str:
    return f"{max(0.0, time.time() - at_us / 1_000_000):.1f} s ago"


def _described(finding: TopicFinding) -> str:
    """Say what is wrong, and what the operator must do, if anything."""
    text = (
        f"{finding.verdict}: {finding.what} is {finding.found},"
        f" needed is {finding.needed}"
    )
    if finding.verdict in _UNFIT and finding.remedy:
        text += f". {finding.remedy.removesuffix('.')}"
    return text


def _because(text: str, error: str | None) -> str:
    """Add the reason, without secrets: the text may be a library's."""
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
