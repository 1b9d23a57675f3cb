"""
The events of a run: what the firehose sends and what must stand on the topic.

Owns the numbering of events and their bytes. An event is found again by what the
official payload says: its `request_id` names the job, its rising `progress` tells
which of the job's events it is. So nothing is added to the payload for the
benchmark's sake. Sockets and Kafka must not be put here.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass


__all__ = [
    "APP_KEY",
    "CHANNEL",
    "CLIENT_ID",
    "EVENT",
    "Traffic",
    "channel_of",
    "frame_of",
    "message_of",
    "text_frame",
]

APP_KEY = "bench"
CLIENT_ID = "bench"
CHANNEL = f"private-client.{CLIENT_ID}"
EVENT = "request.status.updated"

# `progress` has two decimals and ends at 100.00.
_EVENTS_A_JOB = 10_000

# The last group of a UUID, twelve hexadecimal digits, is the job's number.
_ID_PREFIX = "5f6d1c2e-8b3a-4d70-9c15-"

# RFC 6455 section 5.2: FIN and the opcode of a text message; a length above 125
# stands in two bytes, above 65,535 in eight.
_TEXT = 0x81
_SHORT, _TWO_BYTES = 126, 65_536


@dataclass(frozen=True)
class Traffic:
    """
    A number of events, dealt to jobs in turn, and the jobs to accounts.

    Attributes:
        events: How many.
        jobs: How many distinct `request_id`s.
        preview_bytes: Length of the preview (base64 text); 0 for none.
        accounts: How many accounts they are of, each with a channel of its own.
    """

    events: int
    jobs: int = 1000
    preview_bytes: int = 0
    accounts: int = 1

    def __post_init__(self) -> None:
        if self.events > self.jobs * _EVENTS_A_JOB:
            raise ValueError(f"{self.jobs} jobs have no {self.events} events")
        if self.jobs % self.accounts:
            raise ValueError(f"{self.jobs} jobs can't be dealt to {self.accounts}")

    @property
    def client_ids(self) -> list[str]:
        """The accounts' client ids; a lonely one's is `CLIENT_ID`."""
        more = (f"{CLIENT_ID}-{number}" for number in range(1, self.accounts))
        return [CLIENT_ID, *more]

    def account_of(self, index: int) -> int:
        """Tell whose an event is, both from 0: all events of a job are one's."""
        # Jobs are a multiple of accounts, so that this is its job's account.
        return index % self.accounts

    def request_id(self, index: int) -> str:
        """Give the `request_id` of an event, from 0."""
        return f"{_ID_PREFIX}{index % self.jobs:012x}"

    def payload(self, index: int) -> str:
        """Give the JSON text of an event, from 0."""
        return self._payload(index, self._preview())

    def payloads(self) -> Iterator[str]:
        """Give the JSON text of all events in order; large ones share a preview."""
        preview = self._preview()
        return (self._payload(index, preview) for index in range(self.events))

    def index_of(self, request_id: str, progress: str) -> int:
        """
        Find an event by what its payload says.

        Raises:
            ValueError: No event says that.
        """
        if not request_id.startswith(_ID_PREFIX):
            raise ValueError(f"no job of this run: {request_id!r}")
        job = int(request_id.removeprefix(_ID_PREFIX), 16)
        whole, _, hundredths = progress.partition(".")
        index = (int(whole) * 100 + int(hundredths) - 1) * self.jobs + job
        if job >= self.jobs or not 0 <= index < self.events:
            raise ValueError(f"no event of this run: {request_id} at {progress}")
        return index

    def _payload(self, index: int, preview: str) -> str:
        step = index // self.jobs + 1
        return (
            f'{{"request_id":"{self.request_id(index)}","status":"in_progress",'
            f'"preview":{preview},"result_url":null,'
            f'"progress":"{step // 100}.{step % 100:02d}"}}'
        )

    def _preview(self) -> str:
        if not self.preview_bytes:
            return "null"
        # Always the same noise, as incompressible as a JPEG.
        noise = random.Random(self.preview_bytes).randbytes(self.preview_bytes)
        return f'"{base64.b64encode(noise).decode()[: self.preview_bytes]}"'


def channel_of(client_id: str) -> str:
    """Give the channel of an account."""
    return f"private-client.{client_id}"


def frame_of(payload: str, channel: str = CHANNEL) -> bytes:
    """Wrap a payload as dryAPI's server sends it: a Pusher event in a frame."""
    return text_frame(message_of(payload, channel))


def message_of(payload: object, channel: str = CHANNEL) -> str:
    """Give a Pusher event's text, as soketi writes it; mostly `data` is a text too."""
    # soketi is JavaScript: no blanks, text left as it is.
    return json.dumps(
        {"event": EVENT, "channel": channel, "data": payload},
        separators=(",", ":"),
        ensure_ascii=False,
    )


def text_frame(message: str) -> bytes:
    """Make an unmasked WebSocket frame of a text message, as a server does."""
    content = message.encode()
    length = len(content)
    if length < _SHORT:
        return bytes((_TEXT, length)) + content
    if length < _TWO_BYTES:
        return bytes((_TEXT, _SHORT)) + length.to_bytes(2, "big") + content
    return bytes((_TEXT, _SHORT + 1)) + length.to_bytes(8, "big") + content
