"""
A recording of the wire, read back: who said what on which connection, and when.

docs/recording.md describes the lines. Playing a recording is `replaying`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import AuthorizationError
from bridge.pusher.protocol import (
    Event,
    Pong,
    SubscriptionError,
    SubscriptionSucceeded,
    decode,
)
from bridge.pusher.recorded_lines import FORMAT
from bridge.pusher.websocket import Message


PING, SUBSCRIBE = "pusher:ping", "pusher:subscribe"

_ANSWERED_BY: dict[str, tuple[type[Event], ...]] = {
    PING: (Pong,),
    SUBSCRIBE: (SubscriptionSucceeded, SubscriptionError),
}


@dataclass
class Heard:
    """A message of the server's; `order` is the line's."""

    at: float
    order: int
    message: Message


@dataclass
class Asked:
    """A frame of the client's that wants an answer, and the answers that it got."""

    at: float
    event: str
    answers: list[Heard] = field(default_factory=list)


@dataclass
class Signed:
    """A request for a signature: when, until when, and its error if it had one."""

    asked_at: float
    answered_at: float | None = None
    error: AuthorizationError | None = None


@dataclass
class Recorded:
    """
    One attempt to connect and what became of it.

    Attributes:
        dialled_at: When it began.
        scheme: `ws` or `wss`.
        opened_at: When the WebSocket was open, if it ever was.
        ended_at: When the server, the network or a refusal ended it.
        code: The close code of that, or the HTTP status of a refused upgrade.
        aborted: Whether the client had given the connection up.
        closed_at: When the client had left it, whoever ended it.
        heard: The server's messages that answer nothing, in order.
        asked: What the client asked, with the answers.
        signatures: The requests for signatures.
    """

    dialled_at: float
    scheme: str
    opened_at: float | None = None
    ended_at: float | None = None
    code: int | None = None
    aborted: bool = False
    closed_at: float | None = None
    heard: list[Heard] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    signatures: list[Signed] = field(default_factory=list)

    @property
    def alive_until(self) -> float:
        """When the server was heard last; for ever if nobody gave it up."""
        if not self.aborted:
            return float("inf")
        answers = [each for asked in self.asked for each in asked.answers]
        return max((each.at for each in [*self.heard, *answers]), default=0.0)

    def take(self, line: dict[str, Any], channel: str) -> None:
        """Take one of its lines."""
        at = line["at"]
        match line["kind"]:
            case "opened":
                self.opened_at = at
            case "ended":
                self.ended_at, self.code = at, line["code"]
            case "aborted":
                self.aborted = True
            case "closed":
                self.closed_at = at
            case "received":
                self._hear(Heard(at, line["order"], _message(line)), channel)
            case "sent":
                event = json.loads(str(_message(line)))["event"]
                if event in _ANSWERED_BY:
                    self.asked.append(Asked(at, event))
            case "authorizing":
                self.signatures.append(Signed(at))
            case "authorized" | "not_authorized":
                signed = self.signatures[-1]
                signed.answered_at, signed.error = at, _error(line)
            case kind:
                raise AssertionError(f"a line of an unknown kind: {kind}")

    def _hear(self, heard: Heard, channel: str) -> None:
        event = decode(heard.message)
        of_channel = getattr(event, "channel", channel) == channel
        for asked in self.asked:
            answers = isinstance(event, _ANSWERED_BY[asked.event])
            if answers and of_channel and not asked.answers:
                asked.answers.append(heard)
                return
        self.heard.append(heard)


@dataclass
class Recording:
    """
    What one run of the bridge recorded of one account.

    Attributes:
        settings: Numbers of `PusherSettings`.
        client_id: The account's pseudonym.
        connections: In the order of their dialling.
        dropped: How many lines are missing.
    """

    settings: dict[str, Any]
    client_id: str
    connections: list[Recorded]
    dropped: int


def read(path: Path, *, run: int = -1, client_id: str | None = None) -> Recording:
    """
    Read a recording.

    Args:
        path: The file, which holds one run of the bridge after the other.
        run: Which of them; the last one unless told otherwise.
        client_id: Whose connections, by pseudonym; the first account's if None.
    """
    runs: list[list[dict[str, Any]]] = []
    for line in _lines(path):
        if line["kind"] == "started":
            assert line["format"] == FORMAT
            runs.append([])
        runs[-1].append(line)
    first, *lines = runs[run]
    client_id = client_id or next(line["client"] for line in lines if "client" in line)
    connections: dict[int, Recorded] = {}
    for line in lines:
        if line.get("client") != client_id:
            continue
        number = line["connection"]
        if line["kind"] == "dialled":
            connections[number] = Recorded(line["at"], line["scheme"])
        else:
            connections[number].take(line, f"private-client.{client_id}")
    dropped = sum(line["lines"] for line in lines if line["kind"] == "dropped")
    return Recording(first["settings"], client_id, list(connections.values()), dropped)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for order, text in enumerate(path.read_text("ascii").splitlines()):
        try:
            yield {**json.loads(text), "order": order}
        except json.JSONDecodeError:
            # What a process was writing when it was killed.
            continue


def _message(line: dict[str, Any]) -> Message:
    """Put a message together again."""
    if "bytes" in line:
        return bytes(line["bytes"])
    text = line["text"]
    if isinstance(text, str):
        return text
    return "".join(
        part if isinstance(part, str) else part[0] * part[1] for part in text
    )


def _error(line: dict[str, Any]) -> AuthorizationError | None:
    if line["kind"] == "authorized":
        return None
    return AuthorizationError(
        line["message"],
        status=line["status"],
        retry_after_seconds=line["retry_after_seconds"],
        terminal=line["terminal"],
    )
