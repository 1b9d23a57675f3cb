"""Which webhooks are taken, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from bridge.webhooks.delivery import Event
from trio.testing import MockClock

from bridge.settings import Secret
from tests.webhooks.conftest import Told
from tests.webhooks.house import NOW, PATH, House
from tests.webhooks.making import (
    SECRET,
    body_of,
    completed,
    failed,
    processing,
    signed,
    source_of,
)


# -- What is taken ------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["DryAPI", "DeAPI"])
@pytest.mark.parametrize(
    ("event", "data", "status"),
    [
        ("job.processing", processing(), "processing"),
        ("job.completed", completed(), "done"),
        ("job.failed", failed(), "error"),
    ],
)
async def test_what_is_genuine_is_taken(
    autojump_clock: MockClock, prefix: str, event: str, data: object, status: str
) -> None:
    """It is answered when it is kept, and due when its time is over."""
    house = House()
    await trio.sleep(7)
    house.now += 7.25
    body = body_of(event, data, delivery_id="d-1")
    headers = signed(body, house.now, secret=f"{SECRET}-42", prefix=prefix)
    answer = await house.post(body, headers)
    assert (answer.status_code, answer.json()) == (200, {"status": "taken"})
    assert answer.headers["content-type"] == "application/json"
    (delivery,) = house.shelf.deliveries
    assert delivery.delivery_id == "d-1"
    assert delivery.record.status == status
    assert delivery.record.received_at_us == (NOW * 10**6) + 7_250_000
    # By the steady clock, and not the one that was set.
    assert delivery.due_us == (NOW + 7 + 10) * 10**6
    assert house.expected == [delivery.due_us]
    assert house.outcomes() == {"taken": 1}
    assert house.events() == {Event(event): 1}


async def test_a_repeated_delivery_is_known() -> None:
    """The same id is taken once, and each time answered with 2xx."""
    house = House()
    body = body_of("job.completed", completed())
    answers = [await house.post(body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [each.json()["status"] for each in answers] == ["taken", "known", "known"]
    assert len(house.shelf.deliveries) == 1
    assert house.outcomes() == {"taken": 1, "known": 2}
    assert house.events() == {Event.COMPLETED: 1}


async def test_the_headers_name_and_id_do_not_count() -> None:
    """They are not signed: the body's are taken."""
    house = House()
    body = body_of("job.failed", failed(), delivery_id="d-1")
    forged = {
        **signed(body, NOW, secret=f"{SECRET}-42"),
        "X-DryAPI-Event": "webhook.validation",
        "X-DryAPI-Delivery-Id": "d-2",
    }
    await house.post(body, forged)
    assert [one.delivery_id for one in house.shelf.deliveries] == ["d-1"]


async def test_the_dashboards_test_is_answered() -> None:
    """After a right signature alone, and nothing is kept."""
    house = House()
    body = body_of("webhook.validation", {})
    answer = await house.post(body)
    assert (answer.status_code, answer.json()) == (200, {"status": "validation"})
    answer = await house.post(body, signed(body, NOW, secret="guessed"))
    assert answer.status_code == 401
    assert house.outcomes() == {"validation": 1, "wrong_signature": 1}
    assert house.shelf.deliveries == []


async def test_what_makes_no_sense_is_kept_and_answered(
    told: Told, autojump_clock: MockClock
) -> None:
    """A dead letter is due at once; dryAPI has no reason to send it again."""
    house = House()
    for status in ("taken", "known"):
        answer = await house.post(b"no JSON")
        assert (answer.status_code, answer.json()) == (200, {"status": status})
    (delivery,) = house.shelf.deliveries
    assert (delivery.record.topic, delivery.record.value) == ("jobs.dlq", b"no JSON")
    assert delivery.due_us == NOW * 10**6
    assert house.events() == {Event.UNREADABLE: 1}
    assert "webhook.unreadable" in told()


async def test_an_event_of_the_future_is_answered(
    told: Told,
) -> None:
    """It is counted under one name, logged with its own, and not kept."""
    house = House()
    answer = await house.post(body_of("job.paused" + "!" * 500, {}))
    assert (answer.status_code, answer.json()) == (200, {"status": "other_event"})
    assert house.outcomes() == {"other_event": 1}
    assert house.events() == {Event.OTHER: 1}
    assert "job.paused!" in told()
    assert "!" * 100 not in told()


async def test_when_the_last_end_came() -> None:
    """Of the ends of jobs, repeated or not, for each account."""
    house = House("a", "b")
    last = house.statistics.last_terminal_at_us
    steps = [
        (body_of("job.processing", processing()), None),
        (body_of("webhook.validation", {}), None),
        (body_of("job.failed", failed(), delivery_id="1"), 1_000_000),
        (body_of("job.processing", processing()), 1_000_000),
        (body_of("job.completed", completed(), delivery_id="1"), 3_000_000),
    ]
    at_us = None
    for body, later_us in steps:
        if later_us != at_us:
            house.now = NOW + (later_us or 0) / 10**6
            at_us = later_us
        await house.post(body, path=f"{PATH}/a", client_id="a")
        expected = None if later_us is None else NOW * 10**6 + later_us
        assert last == {"a": expected, "b": None}


# -- What is refused ----------------------------------------------------------------


async def test_a_refusal_says_no_more_than_its_status(
    told: Told,
) -> None:
    """Whatever is wrong, the sender is told the same; the log tells which."""
    house = House()
    body = body_of("job.completed", completed())
    right = dict(signed(body, NOW, secret=f"{SECRET}-42"))
    wrong = [
        {},
        right | {"X-DryAPI-Timestamp": "soon"},
        right | {"X-DeAPI-Timestamp": str(NOW)},
        right | {"X-DryAPI-Signature": "sha256=" + "0" * 64},
        dict(signed(body, NOW - 400, secret=f"{SECRET}-42")),
    ]
    answers = [await house.post(body, headers) for headers in wrong]
    assert {each.status_code for each in answers} == {401}
    assert len({tuple(each.headers.items()) for each in answers}) == 1
    assert {each.content for each in answers} == {b""}
    words = ["missing", "malformed", "repeated"]
    expected = {f"{one}_header" for one in words} | {"wrong_signature", "too_old"}
    assert house.outcomes() == dict.fromkeys(expected, 1)
    for word in expected:
        assert word in told()
    assert "compare webhook.secret" in told()
    assert "compare this machine's clock" in told()
    assert right["X-DryAPI-Signature"] not in told()
    assert SECRET not in told()


@pytest.mark.parametrize("host", ["[", "[::", "a:b:c", "\x7f", ""])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/x"])
async def test_any_host(host: str, path: str) -> None:
    """What a sender calls the bridge is not looked at."""
    house = House()
    body = body_of("job.completed", completed())
    headers = {**signed(body, NOW, secret=f"{SECRET}-42"), "Host": host}
    answer = await house.post(body, headers, path=path)
    assert answer.status_code == (200 if path == PATH else 404)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods(method: str) -> None:
    """They are told which one there is."""
    house = House()
    answer = await house.http.request(method, PATH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert len(answer.content) < 30


@pytest.mark.parametrize(
    "path", ["/", "/webhooks", f"{PATH}/", f"{PATH}/42", f"{PATH}/42/x", "/metrics"]
)
async def test_other_paths(path: str) -> None:
    """With one account there is one path, and no redirect to it."""
    house = House()
    answer = await house.post(body_of("job.completed", completed()), path=path)
    assert answer.status_code == 404
    assert house.shelf.deliveries == []
    assert house.outcomes() == {}


async def test_each_account_has_a_path_of_its_own(
    told: Told,
) -> None:
    """And a secret, and records; the plain path is nobody's."""
    house = House("a", "b@c=d,e.f;g")
    for client_id in ("a", "b@c=d,e.f;g"):
        body = body_of("job.completed", completed(), delivery_id="the same")
        path = f"{PATH}/{client_id}"
        answer = await house.post(body, path=path, client_id=client_id)
        assert answer.json() == {"status": "taken"}
        assert house.outcomes(client_id) == {"taken": 1}
    sources = [one.record.envelope.ce_source for one in house.shelf.deliveries]
    assert sources == [source_of("a"), source_of("b@c=d,e.f;g")]
    foreign = await house.post(body, path=f"{PATH}/a", client_id="b@c=d,e.f;g")
    assert foreign.status_code == 401
    for path in (PATH, f"{PATH}/c", f"{PATH}/{'c' * 5000}", f"{PATH}/a/", "/"):
        answer = await house.post(body, path=path, client_id="a")
        assert (answer.status_code, answer.content) == (404, b"")
    assert house.statistics.strangers == 5
    assert "unknown_account" in told()
    assert f"each account's path is {PATH}/{{client_id}}" in told()
    assert "c" * 200 not in told()
    # An address with one sign too many is told as well.
    assert f"'{PATH}/a/'" in told()


async def test_a_rotation_needs_no_restart(tmp_path: Path) -> None:
    """The secret's file is looked at for each delivery."""
    file = tmp_path / "secret"
    file.write_text("old")
    house = House(secret=Secret.from_file(file))

    async def answers() -> list[int]:
        body = body_of("job.completed", completed())
        return [
            (await house.post(body, signed(body, NOW, secret=one))).status_code
            for one in ("old", "new")
        ]

    assert await answers() == [200, 401]
    file.write_text("new old")
    assert await answers() == [200, 200]
    file.write_text("new")
    assert await answers() == [401, 200]
