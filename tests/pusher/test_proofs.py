"""What proves what: the arithmetic of proofs, without a session."""

from __future__ import annotations

from bridge.pusher.proofs import Proofs


def _begun(at_us: int = 1000) -> Proofs:
    proofs = Proofs()
    proofs.begin(at_us)
    return proofs


def test_nothing_is_proved_before_a_subscription() -> None:
    """Pongs of a connection that isn't subscribed count for nothing."""
    proofs = Proofs()
    proofs.answered_us = proofs.echoed_us = 500
    assert proofs.proved_us is None
    assert proofs.heard_us is None
    proofs.end()
    assert proofs.proved_us is None


def test_the_acknowledgement_is_the_least_that_is_proved() -> None:
    """A ping that was sent before it doesn't reach back behind it."""
    proofs = _begun()
    assert proofs.proved_us == proofs.heard_us == 1000
    proofs.answered_us = proofs.echoed_us = 700
    assert proofs.proved_us == proofs.heard_us == 1000
    proofs.answered_us = 2000
    assert (proofs.proved_us, proofs.heard_us) == (2000, 1000)


def test_only_echoes_and_acknowledgements_prove_the_subscription() -> None:
    """The latest of them counts."""
    proofs = _begun()
    proofs.answered_us = 9000
    proofs.echoed_us = 3000
    assert proofs.heard_us == 3000
    proofs.confirm(4000)
    assert proofs.heard_us == 4000
    proofs.echoed_us = 3500
    assert proofs.heard_us == 4000
    proofs.echoed_us = 5000
    assert proofs.heard_us == 5000
    assert proofs.proved_us == 9000


def test_a_wall_clock_that_was_set_back_is_believed() -> None:
    """What was proved by the old time lies in the future of the new one."""
    proofs = _begun(at_us=1_000_000)
    proofs.answered_us = proofs.echoed_us = 1_000_200
    proofs.confirm(1_000_300)
    proofs.believe(2_000_000)
    assert (proofs.proved_us, proofs.heard_us) == (1_000_200, 1_000_300)
    proofs.believe(2000)
    assert (proofs.proved_us, proofs.heard_us) == (2000, 2000)
    proofs.answered_us = 2500
    assert (proofs.proved_us, proofs.heard_us) == (2500, 2000)


def test_what_is_held_stays_until_it_is_released() -> None:
    """Holding twice keeps what the first one held."""
    proofs = _begun()
    proofs.answered_us = 2000
    proofs.hold()
    proofs.answered_us = proofs.echoed_us = 3000
    proofs.hold()
    assert (proofs.proved_us, proofs.heard_us) == (2000, 1000)
    assert proofs.release() == 2000
    assert (proofs.proved_us, proofs.heard_us) == (3000, 3000)


def test_a_release_may_raise_what_is_proved_at_least() -> None:
    """What comes before the floor was told as an interruption."""
    proofs = _begun()
    proofs.hold()
    proofs.answered_us = proofs.echoed_us = 2500
    proofs.confirm(2600)
    proofs.release(floor_us=2900)
    assert (proofs.proved_us, proofs.heard_us) == (2900, 2900)


def test_an_end_keeps_what_is_proved() -> None:
    """Pongs of the next connection change nothing, doubts do."""
    proofs = _begun()
    proofs.answered_us = 2000
    proofs.end()
    proofs.answered_us = 3000
    proofs.end()
    assert proofs.proved_us == 2000
    proofs.doubt(1500)
    assert proofs.proved_us == 1500
    proofs.begin(4000)
    assert proofs.proved_us == 4000


def test_a_new_subscription_begins_with_nothing_of_the_last_one() -> None:
    """Not even where the wall clock was set back between the two."""
    proofs = _begun(at_us=1000)
    proofs.answered_us = proofs.echoed_us = 9000
    proofs.confirm(9500)
    proofs.end()
    proofs.begin(2000)
    assert (proofs.proved_us, proofs.heard_us) == (2000, 2000)


def test_nothing_is_held_while_nothing_is_subscribed() -> None:
    """A process may stand still between two connections."""
    proofs = Proofs()
    proofs.hold()
    assert not proofs.held
