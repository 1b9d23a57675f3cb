"""
How much a client may take of a port: places, bytes, and time at each step.

Each deadline is one of a wait for the client. What the application takes is its own
business.
"""

from __future__ import annotations

from dataclasses import dataclass


__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What a port allows its clients.

    Attributes:
        max_connections: How many are open at once; further ones wait in the backlog. A
            hundred: probes and scrapers are few. Each takes a descriptor, and 20 KB of
            memory with TLS.
        crowded_seconds: While all places are taken and somebody waits for one, whoever
            has kept the port waiting for this long is ended, the longest first. A
            second: a handshake and a request over the worst of networks are done by
            then, and the whole port changes hands each second.
        handshake_seconds: How long the TLS handshake may take. Ten seconds: some round
            trips, with two packets lost.
        head_seconds: How long until a request's whole head is there, from the
            connection's begin or the last answer's end; so long an idle connection is
            kept. Ten seconds, likewise.
        body_seconds: How long until a request's whole body is there, from its head on.
            Ten seconds: dryAPI's have some hundred bytes, and it waits for no answer
            longer.
        answer_seconds: How long a client may take to accept an answer, from its first
            byte on. Ten seconds: a page of metrics has a megabyte at most. Of an answer
            that lasts (`text/event-stream`) each piece may take so long: what is held
            for a client that doesn't read is one piece, and no longer than this.
        max_head_bytes: How large a request's head may be; one that comes in one piece
            may be larger by what is read at once. 16 KiB: what most servers and proxies
            take.
        max_requests: How many requests a connection may bring before it is closed, so
            that those who wait get their turn. A hundred: then a handshake costs next
            to nothing.
    """

    max_connections: int = 100
    crowded_seconds: float = 1.0
    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    answer_seconds: float = 10.0
    max_head_bytes: int = 16 * 1024
    max_requests: int = 100
