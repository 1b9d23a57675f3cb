"""
What a client of Pusher's protocol 7 has to stand, as rows with numbers.

It was drawn up from the protocol's page, from pusher-js 8.6, soketi 1.6 and Laravel
Reverb, and from what soketi was measured to do. A test that shows a row has its
number in its name (`test_row_07_...`, `test_rows_14_15_...`); `conformance` finds
the tests and makes the page.
"""

from __future__ import annotations

from dataclasses import dataclass


__all__ = ["ROWS", "Row"]


@dataclass(frozen=True)
class Row:
    """One thing that happens, and what the session does about it."""

    stimulus: str
    behaviour: str


ROWS: dict[int, Row] = {
    1: Row(
        "A connection is opened",
        "The address has protocol 7, the client's name and its version; a path in"
        " front of `/app/` stays",
    ),
    2: Row(
        "`connection_established` with its `data` as a string, or as an object",
        "Both are understood",
    ),
    3: Row(
        "An `activity_timeout` that is absent, zero, negative, huge or no number",
        "The default of 30 s takes its place",
    ),
    4: Row(
        "A greeting whose socket id is absent or malformed",
        "The attempt fails; the next one comes after a wait",
    ),
    5: Row(
        "The upgrade succeeds, and then nothing comes",
        "The attempt ends at its deadline, and there is another",
    ),
    6: Row(
        "The first frame is junk, or some other event",
        "Junk ends the attempt, another event alone doesn't keep it alive; there is"
        " always a next one, after a wait",
    ),
    7: Row(
        "HTTP 404, 401, 503 or a redirect in place of the upgrade",
        "A typed error with the status; never final, tried again from a second on;"
        " redirects are not followed",
    ),
    8: Row(
        "Silence for longer than the activity timeout",
        "`pusher:ping` goes out: a WebSocket ping would not count",
    ),
    9: Row(
        "The pong does not come",
        "Another connection within activity timeout and pong timeout",
    ),
    10: Row(
        "Events arrive steadily for five minutes",
        "Pings go out as in silence, and behind events one in two seconds",
    ),
    11: Row(
        "`pusher:ping` from the server, and a WebSocket ping",
        "Each is answered",
    ),
    12: Row(
        "Nothing is published for 320 s, on soketi",
        "The connection stays",
    ),
    13: Row(
        "Whoever takes the events stands still for 200 s",
        "The socket is read on and pings are answered; what the buffer had no room for"
        " is a gap",
    ),
    14: Row(
        "The server answers every connection with 4200",
        "One retry at once, then growing waits with jitter; no ten seconds see more"
        " than ten connects",
    ),
    15: Row(
        "soketi is shut down, or killed, and started again",
        "Subscribed again by itself; one loss, one gap",
    ),
    16: Row(
        "4100: the app has no room",
        "A second or more before each retry, growing to a cap, with jitter",
    ),
    17: Row(
        "Closed with 4001, 4003 or 4009",
        "A typed error that says which setting to check ends a start that never"
        " worked; what once worked is tried slowly",
    ),
    18: Row(
        "4004: the app is over its quota",
        "Tried slowly, for quotas are refilled",
    ),
    19: Row(
        "4000: only TLS is accepted",
        "A typed error; only the operator sets `wss://`",
    ),
    20: Row(
        "A code from 4300 on, or one that no table has",
        "Retried at a pace that harms nobody",
    ),
    21: Row(
        "`pusher:error`, then the end of TCP without a close frame",
        "Judged by the error's code",
    ),
    22: Row(
        "`pusher:error` with 4200, 4009 or 4301, and the connection stays open",
        "It is kept; the error is logged",
    ),
    23: Row(
        "`pusher:error` whose `data` is a string, an object, null, or has no code",
        "Read as far as it can be, tolerated otherwise",
    ),
    24: Row(
        "The end within a frame, a reset, or a bare end of TCP",
        "A loss like any other; no part of an event is delivered",
    ),
    25: Row(
        "A connection that was made, but not for long",
        "Waits begin from the first again only after a stable uptime",
    ),
    26: Row(
        "A reconnect",
        "The new socket id gets a signature of its own, and the channel is"
        " acknowledged again",
    ),
    27: Row(
        "A signature arrives for a connection that is gone",
        "It is never sent",
    ),
    28: Row(
        "The auth endpoint answers 500 or 429, or too late",
        "The connection fails; the next one asks again, after `Retry-After` where it is"
        " given and sane, and every request has a deadline",
    ),
    29: Row(
        "The auth endpoint answers 401",
        "One more request if the token was exchanged meanwhile, then final",
    ),
    30: Row(
        "The auth endpoint answers 403",
        "Final for the account; other accounts live on",
    ),
    31: Row(
        "A redirect, a page, broken JSON, no `auth` or a huge body from the auth"
        " endpoint",
        "A typed error that quotes nothing of it; no more than a cap is read",
    ),
    32: Row(
        "`subscription_error`, with or without a `type`",
        "Tried once more with a new signature, which may work; then a typed error",
    ),
    33: Row(
        "A subscription that nobody answers",
        "Sent once more after a timeout, then another connection",
    ),
    34: Row(
        "Reverb's 4009, which names no channel",
        "Taken for the answer to the subscription that waits",
    ),
    35: Row(
        "An acknowledgement without `data`, and a second one",
        "Accepted, and changes nothing",
    ),
    36: Row(
        "An account is wanted, not wanted and wanted again in quick succession",
        "The last wish wins: one subscription, each event once and to the last run",
    ),
    37: Row(
        "A control event that somebody published into a channel",
        "Data like any other: no state changes",
    ),
    38: Row(
        "An event of another channel, of another name, or with more members",
        "Counted and dropped; more members do no harm",
    ),
    39: Row(
        "Frames that are no events: null, an array, a number, no name, nested too"
        " deeply, bad UTF-8, binary, or any bytes at all",
        "Counted, or the connection is made anew; no error gets out and nothing grows",
    ),
    40: Row(
        "`data` of any JSON type, or a string that is no JSON",
        "Delivered, with its own bytes beside it",
    ),
    41: Row(
        "15 MB in one message, a message in fragments, one above the cap",
        "Delivered; above the cap a typed error, a loss and a gap",
    ),
    42: Row(
        "The receiver raises, or the session is cancelled at any step",
        "Other accounts don't notice, no task and no socket is left, no secret is in"
        " any log line",
    ),
}
"""The rows by their numbers."""
