"""The intake as the tables use it: payloads in, records out."""

from __future__ import annotations

import json
from typing import Any

from bridge.events.intake import Intake
from bridge.events.record import Record
from bridge.pusher.protocol import ChannelEvent


__all__ = ["RECEIVED_AT_US", "SOURCE", "Outlet", "counted", "event", "status"]

RECEIVED_AT_US = 1_700_000_000_000_001
SOURCE = "https://api.dryapi.dev/clients/42"


def event(data: object) -> ChannelEvent:
    """Give the event that a frame with this data becomes."""
    name, channel = "request.status.updated", "private-client.42"
    frame = json.dumps({"event": name, "channel": channel, "data": data})
    return ChannelEvent(event=name, channel=channel, data=data, text=frame)


def status(**members: Any) -> str:
    """Write a conforming payload with some members changed."""
    return json.dumps(
        {
            "request_id": "job-1",
            "status": "in_progress",
            "preview": None,
            "result_url": None,
            "progress": "45.50",
            **members,
        }
    )


def counted(numbers: dict[Any, int]) -> dict[str, int]:
    """Leave out what is 0."""
    return {str(what): number for what, number in numbers.items() if number}


class Outlet:
    """Keeps what an intake offers, run by run."""

    def __init__(self, **options: Any) -> None:
        self.runs: list[list[Record]] = []
        self.intake = Intake(
            **{
                "ce_source": SOURCE,
                "topic": "jobs",
                "dead_letter_topic": "jobs.dlq",
                "preview_topic": "jobs.previews",
                "offer": self.runs.append,
                **options,
            }
        )

    def take(self, *events: ChannelEvent) -> list[Record]:
        """Give the records of one run of events."""
        self.intake.accept(events, RECEIVED_AT_US)
        return self.runs[-1]

    def accept(self, *payloads: object) -> list[Record]:
        """Give the records of one run of events with these payloads."""
        return self.take(*(event(data) for data in payloads))
