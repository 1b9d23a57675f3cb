"""
What a sandbox has done, in plain numbers.

Whoever does a thing counts it here; nothing else belongs here.
"""

from __future__ import annotations

from typing import Any


__all__ = ["Statistics"]


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

    @property
    def jobs_running(self) -> int:
        """Jobs begun and not ended."""
        return self.jobs_started - self.jobs_done - self.jobs_failed

    def accepted(self, status: str) -> None:
        """Count one simulated event that was accepted for the channel."""
        self.events_emitted += 1
        self.events_by_status[status] += 1

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
        }
