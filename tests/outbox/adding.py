"""Reads tallies, and sees that they add up."""

from __future__ import annotations

from bridge.outbox.tallies import Cell, Tallies, Tally


EVENTS = ("event", "socket")
PREVIEWS = ("preview", "socket")
WEBHOOKS = ("event", "webhook")
ANSWERS = ("event", "status-endpoint")


def adds_up(tallies: Tallies) -> dict[Cell, Tally]:
    """Give what is counted, having seen that it adds up."""
    found = tallies.read()
    for tally in found.values():
        came = tally.committed + tally.found + tally.resent
        went = tally.published + tally.dead_lettered + tally.quarantined + tally.lost
        assert came == went + tally.superseded + tally.waiting
    return found
