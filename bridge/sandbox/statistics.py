"""
What a sandbox has done, in plain numbers.

Whoever does a thing counts it here; nothing else belongs here.
"""

from __future__ import annotations

from typing import Any


__all__ = ["Statistics", "WebhookStatistics"]


class WebhookStatistics:
    """
    What became of webhooks.

    Each delivery is one of `delivered`, `failed`, `dropped`, `silenced` and `open`.

    Attributes:
        by_event: Deliveries by event; all there were.
        delivered: Those that got 2xx, at whichever try.
        failed: Those that didn't, ten times.
        dropped: Those never tried because too many waited already.
        silenced: Those that weren't tried, or not again, because webhooks were off.
        open: Those that wait for a try, or for its answer.
        tries: Requests that ended.
        retries: Those of them that weren't a delivery's first.
        faults: Tries without 2xx, by what was wrong.
        failed_in_a_row: Failed deliveries since the last delivered one.
        switched_off: Whether webhooks are off, after ten of those.
        switched_off_total: How often that has happened.
    """

    def __init__(self) -> None:
        self.by_event: dict[str, int] = {}
        self.delivered = 0
        self.failed = 0
        self.dropped = 0
        self.silenced = 0
        self.open = 0
        self.tries = 0
        self.retries = 0
        self.faults = {"redirect": 0, "status": 0, "timeout": 0, "unreachable": 0}
        self.failed_in_a_row = 0
        self.switched_off = False
        self.switched_off_total = 0

    def as_dict(self) -> dict[str, Any]:
        """List every number under its attribute's name, ready for JSON."""
        return {
            **vars(self),
            "by_event": dict(self.by_event),
            "faults": dict(self.faults),
        }


class Statistics:
    """
    Counters since the start, and the few values that go up and down.

    Attributes:
        events_emitted: Simulated events accepted for the channel.
        events_refused: Simulated events that the Pusher server didn't take.
        events_by_status: The accepted ones by their `status`.
        events_published: Events that others published over `/apps/{id}/events`.
        jobs_started: Jobs begun.
        jobs_done: Jobs that ended as `done`.
        jobs_failed: Jobs that ended as `error`, of which no event tells.
        connections: WebSocket connections open now.
        connections_total: WebSocket connections accepted.
        subscriptions: Subscriptions now, over all connections.
        frames_dropped: Frames dropped in silence for slow readers.
        bytes_dropped: Their size.
        connections_refused: Those that were turned away on command.
        status_answers: The status endpoint's answers by their HTTP status.
        webhooks: What became of webhooks.
    """

    def __init__(self) -> None:
        self.events_emitted = 0
        self.events_refused = 0
        self.events_by_status = {"processing": 0, "in_progress": 0, "done": 0}
        self.events_published = 0
        self.jobs_started = 0
        self.jobs_done = 0
        self.jobs_failed = 0
        self.connections = 0
        self.connections_total = 0
        self.subscriptions = 0
        self.frames_dropped = 0
        self.bytes_dropped = 0
        self.connections_refused = 0
        self.status_answers: dict[str, int] = {}
        self.webhooks = WebhookStatistics()

    @property
    def jobs_running(self) -> int:
        """Jobs begun and not ended."""
        return self.jobs_started - self.jobs_done - self.jobs_failed

    def accepted(self, status: str) -> None:
        """Count one simulated event that was accepted for the channel."""
        self.events_emitted += 1
        self.events_by_status[status] += 1

    def answered_status(self, code: int) -> None:
        """Count one answer of the status endpoint."""
        name = str(code)
        self.status_answers[name] = self.status_answers.get(name, 0) + 1

    def as_dict(self) -> dict[str, Any]:
        """
        List every number under its attribute's name.

        Returns:
            What `GET /sandbox/statistics` answers, ready for JSON.
        """
        return {
            **vars(self),
            "events_by_status": dict(self.events_by_status),
            "jobs_running": self.jobs_running,
            "status_answers": dict(self.status_answers),
            "webhooks": self.webhooks.as_dict(),
        }
