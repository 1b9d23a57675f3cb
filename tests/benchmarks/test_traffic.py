"""What `traffic` promises: events that can be told apart, in frames that are valid."""

from __future__ import annotations

import json

import pytest
from wsproto.frame_protocol import FrameProtocol, Opcode

from benchmarks.traffic import (
    CHANNEL,
    CLIENT_ID,
    EVENT,
    Traffic,
    frame_of,
    text_frame,
)
from bridge.job_status import parse


def test_every_event_is_found_again() -> None:
    """An event's request id and progress lead back to its number."""
    traffic = Traffic(events=5000, jobs=7)

    for index, payload in enumerate(traffic.payloads()):
        fields = json.loads(payload)
        assert traffic.index_of(fields["request_id"], fields["progress"]) == index


def test_progress_of_a_job_rises() -> None:
    """A job's events come in the order of their progress."""
    traffic = Traffic(events=30, jobs=3)
    fields = [json.loads(payload) for payload in traffic.payloads()]

    first_job = [one for one in fields if one["request_id"] == fields[0]["request_id"]]

    progress = [float(one["progress"]) for one in first_job]
    assert progress == sorted(set(progress))
    assert len(progress) == 10


@pytest.mark.parametrize("preview_bytes", [0, 20_000])
def test_payload_conforms(preview_bytes: int) -> None:
    """The bridge passes a payload on as it is: the benchmark sends nothing odd."""
    traffic = Traffic(events=2000, preview_bytes=preview_bytes)

    status = parse(traffic.payload(1999))

    assert not status.normalized
    assert status.value == traffic.payload(1999).encode()
    assert len(json.loads(status.value)["preview"] or "") == preview_bytes


def test_one_payload_is_that_of_all() -> None:
    """A payload made alone equals the one made among all."""
    traffic = Traffic(events=12, jobs=5, preview_bytes=40)

    assert list(traffic.payloads()) == [traffic.payload(index) for index in range(12)]


@pytest.mark.parametrize(
    ("request_id", "progress"),
    [
        ("somebody else's", "0.01"),
        ("5f6d1c2e-8b3a-4d70-9c15-000000000003", "0.01"),  # there are jobs 0 to 2
        ("5f6d1c2e-8b3a-4d70-9c15-000000000000", "0.00"),
        ("5f6d1c2e-8b3a-4d70-9c15-000000000000", "0.11"),
    ],
)
def test_foreign_event_is_refused(request_id: str, progress: str) -> None:
    """What no event of the run says is an error."""
    with pytest.raises(ValueError, match="of this run"):
        Traffic(events=30, jobs=3).index_of(request_id, progress)


def test_too_many_events_are_refused() -> None:
    """More events than progress can number are an error."""
    Traffic(events=20_000, jobs=2)
    with pytest.raises(ValueError, match="2 jobs have no 20001 events"):
        Traffic(events=20_001, jobs=2)


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_frame_is_read_by_others(length: int) -> None:
    """A frame of any size is one whole text message to wsproto."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(text_frame("x" * length))

    (frame,) = protocol.received_frames()

    assert frame.opcode is Opcode.TEXT
    assert frame.message_finished
    assert frame.payload == "x" * length


def test_frame_holds_the_event() -> None:
    """A frame's message is the Pusher event whose data is the payload's text."""
    payload = Traffic(events=1).payload(0)

    message = json.loads(frame_of(payload)[4:])

    assert message == {"event": EVENT, "channel": CHANNEL, "data": payload}


def test_jobs_are_dealt_to_accounts_evenly() -> None:
    """All events of a job are of one account, and accounts have as many jobs each."""
    traffic = Traffic(events=40, jobs=10, accounts=5)

    owners = {traffic.request_id(index): set[int]() for index in range(10)}
    for index in range(traffic.events):
        owners[traffic.request_id(index)].add(traffic.account_of(index))

    assert all(len(accounts) == 1 for accounts in owners.values())
    assert sorted(min(accounts) for accounts in owners.values()) == sorted(
        [*range(5)] * 2
    )
    assert len(set(traffic.client_ids)) == 5
    assert Traffic(1).client_ids == [CLIENT_ID]


def test_jobs_that_cannot_be_dealt_evenly_are_an_error() -> None:
    """An account with more jobs than others would have more events."""
    with pytest.raises(ValueError, match="can't be dealt"):
        Traffic(events=1, jobs=10, accounts=3)
