"""The table of transitions."""

from __future__ import annotations

import pytest

from bridge.pusher.state import TRANSITIONS, Lifecycle, LocalStep, RemoteStep, State


def test_a_connection_that_works_goes_through_every_state() -> None:
    """The way of a working connection is the one that the module describes."""
    lifecycle = Lifecycle()
    way = [lifecycle.state]
    for step in (
        LocalStep.DIALLED,
        LocalStep.OPENED,
        RemoteStep.ESTABLISHED,
        LocalStep.SUBSCRIBE_SENT,
        RemoteStep.ACKNOWLEDGED,
    ):
        assert lifecycle.advance(step)
        way.append(lifecycle.state)
    assert way == list(State)


def test_every_state_but_the_first_ends_in_disconnected() -> None:
    """A connection may be lost at any moment of its life."""
    for state, steps in TRANSITIONS.items():
        if state is not State.DISCONNECTED:
            assert steps[LocalStep.ENDED] is State.DISCONNECTED


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("step", list(RemoteStep))
def test_no_step_of_the_servers_raises_in_any_state(
    state: State, step: RemoteStep
) -> None:
    """What a server says at the wrong time changes nothing and is told."""
    lifecycle = Lifecycle()
    lifecycle.state = state
    fits = step in TRANSITIONS[state]
    assert lifecycle.advance(step) is fits
    assert fits or lifecycle.state is state


def test_a_step_of_our_own_that_does_not_fit_is_a_bug() -> None:
    """Subscribing without a connection raises."""
    with pytest.raises(RuntimeError, match="SUBSCRIBE_SENT doesn't fit state disc"):
        Lifecycle().advance(LocalStep.SUBSCRIBE_SENT)


def test_a_repeated_subscription_leaves_a_subscription_as_it_is() -> None:
    """Neither sending it, nor its answer, nor an error is a step away from it."""
    lifecycle = Lifecycle()
    lifecycle.state = State.SUBSCRIBED
    assert lifecycle.advance(LocalStep.SUBSCRIBE_SENT)
    assert lifecycle.advance(RemoteStep.ACKNOWLEDGED)
    assert not lifecycle.advance(RemoteStep.REJECTED)
    assert lifecycle.state is State.SUBSCRIBED


def test_a_refused_subscription_goes_back_to_authorising() -> None:
    """A rejection while subscribing asks for another signature."""
    lifecycle = Lifecycle()
    lifecycle.state = State.SUBSCRIBING
    assert lifecycle.advance(RemoteStep.REJECTED)
    assert lifecycle.state is State.AUTHORIZING
