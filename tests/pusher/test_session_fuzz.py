"""A session against servers that chance made up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pusher import fuzz


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_row_39_no_bytes_in_place_of_the_upgrade_do_harm(noise: bytes) -> None:
    """Whatever a server sends, the session is subscribed to the next one."""
    fuzz.survives(fuzz.in_place_of_the_upgrade(noise))


@settings(max_examples=200)
@given(st.lists(fuzz.deeds, min_size=1, max_size=3))
def test_row_39_no_server_of_any_manners_does_harm(
    connections: list[list[fuzz.Deed]],
) -> None:
    """Valid, forged and mutated frames and any bytes, in any order, with waits."""
    fuzz.survives(*map(fuzz.doing, connections))
