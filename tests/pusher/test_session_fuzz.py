"""A session against servers that chance made up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pusher import fuzz


# An example takes some milliseconds; a busy machine may stop it for longer.
_quick = settings(max_examples=100)

_bytes = st.lists(st.binary(max_size=300), max_size=4)


@_quick
@given(_bytes, st.booleans())
def test_row_39_no_bytes_after_the_upgrade_do_harm(
    noise: list[bytes],
    greeted: bool,  # noqa: FBT001 - hypothesis gives it by position
) -> None:
    """Whatever a server sends, the session is subscribed to the next one."""
    script = fuzz.after_the_upgrade(noise, greeted=greeted)
    fuzz.survives(script, script)


@_quick
@given(st.binary(max_size=300))
def test_row_39_no_bytes_in_place_of_the_upgrade_do_harm(noise: bytes) -> None:
    """The same before the connection is one."""
    fuzz.survives(fuzz.in_place_of_the_upgrade(noise))


@_quick
@given(st.lists(fuzz.deeds, min_size=1, max_size=3))
def test_row_39_no_server_of_any_manners_does_harm(
    connections: list[list[fuzz.Deed]],
) -> None:
    """Valid, forged and mutated Pusher frames in any order, with waits and ends."""
    fuzz.survives(*map(fuzz.doing, connections))
