"""Tries, waits and the end of patience, under trio's clock."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx  # noqa: TID251 - the tests are the receiver
import pytest
import trio
from trio.testing import MockClock

from bridge.sandbox import SandboxConfig, Statistics
from bridge.sandbox.addresses import Addresses
from bridge.sandbox.channels import Channels
from bridge.sandbox.deliveries import Deliveries
from bridge.sandbox.jobs import JobBook
from bridge.sandbox.publisher import ChannelPublisher
from bridge.sandbox.simulation import Simulation
from bridge.sandbox.statistics import WebhookStatistics
from bridge.sandbox.webhooks import Delivery, Webhooks
from tests.sandbox.test_webhooks import PICTURES


# The documented waits in minutes, and when the ten tries are due.
_WAITS = [60.0 * minutes for minutes in (1, 2, 5, 10, 30, 60, 180, 360, 720)]
_DUE = list(itertools.accumulate(_WAITS, initial=0.0))
_EPOCH = 1_800_000_000.0

_Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]
_Begin = Callable[..., "_Receiver"]


class _Receiver:
    """
    Deliveries to a receiver that answers as it is told.

    Attributes:
        calls: When each request came, and the request.
    """

    def __init__(self, answer: _Answer, **options: Any) -> None:
        self.calls: list[tuple[float, httpx.Request]] = []
        self.statistics = WebhookStatistics()
        self._answer = answer
        self._begun = trio.current_time()
        self._names = itertools.count()
        self.config = SandboxConfig(webhook_url="http://receiver/hook", **options)
        self.deliveries = Deliveries(
            self.config,
            self.statistics,
            transport=httpx.MockTransport(self._take),
            now=lambda: _EPOCH + self.seconds,
        )

    @property
    def seconds(self) -> float:
        return trio.current_time() - self._begun

    @property
    def times(self) -> list[float]:
        return [round(at, 3) for at, _ in self.calls]

    async def _take(self, request: httpx.Request) -> httpx.Response:
        self.calls.append((self.seconds, request))
        return await self._answer(request)

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            name = f"delivery-{next(self._names)}"
            self.deliveries.send(Delivery("job.completed", name, name.encode()))

    def check(self, **expected: object) -> None:
        """Compare counters; whatever happened, each delivery is in one place."""
        counts = self.statistics.as_dict()
        assert {name: counts[name] for name in expected} == expected
        places = ("delivered", "failed", "dropped", "silenced", "open")
        assert sum(counts["by_event"].values()) == sum(counts[each] for each in places)
        under_way = len(self.calls) - counts["tries"]
        assert 0 <= under_way <= 16


async def _ok(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(204)


async def _broken(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(500)


async def _never(_request: httpx.Request) -> httpx.Response:
    await trio.sleep_forever()
    raise AssertionError


@pytest.fixture
async def begin(
    nursery: trio.Nursery,
) -> AsyncIterator[_Begin]:
    """Start deliveries to a scripted receiver."""

    def start(answer: _Answer, **options: Any) -> _Receiver:
        receiver = _Receiver(answer, **options)
        nursery.start_soon(receiver.deliveries.run)
        return receiver

    yield start
    nursery.cancel_scope.cancel()


async def test_what_gets_2xx_is_delivered_at_once(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """One try, by POST, with the raw body and its signature."""
    receiver = begin(_ok)
    receiver.send()
    await trio.sleep(80_000)
    receiver.check(delivered=1, tries=1, retries=0, open=0, failed_in_a_row=0)
    ((at, request),) = receiver.calls
    assert at == 0
    assert (request.method, str(request.url)) == ("POST", "http://receiver/hook")
    assert request.content == b"delivery-0"
    assert request.headers["User-Agent"] == "DryAPI-Webhook/1.0"
    assert request.headers["X-DryAPI-Signature"].startswith("sha256=")


async def test_ten_tries_come_at_the_documented_times(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """Id and body stay; timestamp and signature are those of the try."""
    receiver = begin(_broken)
    receiver.send()
    await trio.sleep(10 * _DUE[-1])
    assert receiver.times == _DUE
    requests = [request for _, request in receiver.calls]
    assert {request.content for request in requests} == {b"delivery-0"}
    assert {each.headers["X-DryAPI-Delivery-Id"] for each in requests} == {"delivery-0"}
    stamps = [int(request.headers["X-DryAPI-Timestamp"]) for request in requests]
    assert stamps == [int(_EPOCH + due) for due in _DUE]
    assert len({each.headers["X-DryAPI-Signature"] for each in requests}) == 10
    receiver.check(failed=1, tries=10, retries=9, open=0, failed_in_a_row=1)
    receiver.check(switched_off=False)


async def test_a_later_try_delivers(begin: _Begin, autojump_clock: MockClock) -> None:
    """The fourth try gets 2xx, and no fifth one comes."""
    answers = iter([500, 404, 302])

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(next(answers, 200))

    receiver = begin(answer)
    receiver.send()
    await trio.sleep(_DUE[-1])
    assert receiver.times == _DUE[:4]
    receiver.check(delivered=1, failed=0, tries=4, retries=3)
    assert receiver.statistics.faults["status"] == 2
    assert receiver.statistics.faults["redirect"] == 1


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_every_2xx_counts(
    begin: _Begin, autojump_clock: MockClock, status: int
) -> None:
    """Any answer of that class will do."""

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status)

    receiver = begin(answer)
    receiver.send()
    await trio.sleep(1)
    receiver.check(delivered=1, tries=1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(
    begin: _Begin, autojump_clock: MockClock, status: int
) -> None:
    """An answer that sends elsewhere is a fault, and nobody asks there."""

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/hook":
            return httpx.Response(200)
        return httpx.Response(status, headers={"Location": "http://receiver/other"})

    receiver = begin(answer)
    receiver.send()
    await trio.sleep(1)
    receiver.check(tries=1, delivered=0, open=1)
    assert receiver.statistics.faults["redirect"] == 1
    assert len(receiver.calls) == 1


@pytest.mark.parametrize("status", [304, 400, 401, 404, 410, 429, 500, 502, 503])
async def test_nothing_else_counts(
    begin: _Begin, autojump_clock: MockClock, status: int
) -> None:
    """Even what says that it will never work is tried again."""

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"Retry-After": "1"})

    receiver = begin(answer)
    receiver.send()
    await trio.sleep(61)
    assert receiver.times == [0, 60]
    receiver.check(delivered=0, tries=2, open=1)


async def test_an_answer_has_ten_seconds(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """At 9.9 s it counts; past 10 s the try has ended and the wait begins."""
    delays = iter([10.1, 9.9])

    async def answer(_request: httpx.Request) -> httpx.Response:
        await trio.sleep(next(delays))
        return httpx.Response(200)

    receiver = begin(answer)
    receiver.send()
    await trio.sleep(1_000)
    assert receiver.times == [0, 70]
    receiver.check(delivered=1, tries=2)
    assert receiver.statistics.faults["timeout"] == 1


async def test_an_endless_body_is_not_read(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """The status decides, whatever follows it."""

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await trio.sleep(1)
                yield b"x"

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Endless())

    receiver = begin(answer)
    receiver.send()
    await trio.sleep(0.5)
    receiver.check(delivered=1)


async def test_an_unreachable_receiver_is_tried_again(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """A refused connection and a broken answer are faults like others."""
    errors = iter([httpx.ConnectError("refused"), httpx.RemoteProtocolError("cut")])

    async def answer(_request: httpx.Request) -> httpx.Response:
        for error in errors:
            raise error
        return httpx.Response(200)

    receiver = begin(answer)
    receiver.send()
    await trio.sleep(1_000)
    receiver.check(delivered=1, tries=3)
    assert receiver.statistics.faults["unreachable"] == 2


async def test_ten_failed_deliveries_in_a_row_switch_webhooks_off(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """Not nine and not ninety tries; then nothing is sent until somebody says so."""
    working = False

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if working else 500)

    receiver = begin(answer)
    receiver.send(9)
    await trio.sleep(_DUE[-1] + 1)
    receiver.check(failed=9, failed_in_a_row=9, switched_off=False)
    working = True
    receiver.send()
    await trio.sleep(1)
    receiver.check(failed_in_a_row=0, delivered=1)
    working = False
    receiver.send(10)
    await trio.sleep(_DUE[-2])
    receiver.send()
    await trio.sleep(_DUE[-1] - _DUE[-2] + 1)
    receiver.check(failed=19, switched_off=True, switched_off_total=1, open=1)
    before = len(receiver.calls)
    receiver.send(3)
    await trio.sleep(2 * _DUE[-1])
    # What waited for its next try ends as well.
    receiver.check(silenced=4, open=0)
    assert len(receiver.calls) == before
    working = True
    receiver.deliveries.switch_on()
    receiver.send()
    await trio.sleep(1)
    receiver.check(delivered=2, switched_off=False, failed_in_a_row=0)


async def test_a_retry_that_is_due_after_the_switching_on_comes(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """What waited through the time without webhooks goes on as if nothing was."""
    receiver = begin(_broken)
    receiver.send(10)
    await trio.sleep(_DUE[-1] - 30)
    receiver.send()
    await trio.sleep(31)
    receiver.check(failed=10, switched_off=True, open=1)
    receiver.deliveries.switch_on()
    await trio.sleep(_DUE[-1])
    receiver.check(failed=11, failed_in_a_row=1, switched_off=False, silenced=0)


async def test_tries_are_bounded_and_others_wait(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """Sixteen at once; a receiver that never answers gets sixteen in ten seconds."""
    receiver = begin(_never)
    receiver.send(40)
    await trio.sleep(9)
    assert receiver.times == [0.0] * 16
    await trio.sleep(20)
    assert receiver.times == [0.0] * 16 + [10.0] * 16 + [20.0] * 8
    receiver.check(open=40, tries=32)


async def test_what_waits_is_bounded_and_the_rest_is_counted(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """The ten thousand and first delivery is dropped; it comes at no time."""
    receiver = begin(_never)
    receiver.send(10_007)
    receiver.check(open=10_000, dropped=7)
    await trio.sleep(1)
    receiver.check(open=10_000, dropped=7, tries=0)


async def test_the_waits_can_be_shortened(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """Each wait is multiplied by the scale; the ten seconds of a try are not."""
    receiver = begin(_broken, webhook_retry_scale=0.001)
    receiver.send()
    await trio.sleep(100)
    assert receiver.times == [pytest.approx(due / 1000) for due in _DUE]


async def test_no_waits_at_all(begin: _Begin, autojump_clock: MockClock) -> None:
    """With a scale of 0 ten tries follow each other, and then it has failed."""
    receiver = begin(_broken, webhook_retry_scale=0)
    receiver.send(3)
    await trio.sleep(0.001)
    receiver.check(failed=3, tries=30)


async def test_a_slow_receiver_holds_no_job_up(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The event rate is kept while a receiver takes its ten seconds each time."""
    receiver = _Receiver(_never)
    statistics = Statistics()
    config = SandboxConfig(rate=200, seed=3, wait_for_subscriber=False)
    addresses = Addresses("http://s", config.app)
    book = JobBook(config, PICTURES, addresses, statistics)
    simulation = Simulation(
        config,
        book,
        ChannelPublisher(config.channel, Channels(), statistics),
        Webhooks(addresses, receiver.deliveries.send).announce,
    )
    nursery.start_soon(receiver.deliveries.run)
    nursery.start_soon(simulation.run)
    await trio.sleep(30)
    assert statistics.events_emitted == pytest.approx(200 * 30, rel=0.02)
    by_event = receiver.statistics.by_event
    assert by_event["job.completed"] == statistics.jobs_done > 100
    assert by_event["job.failed"] == statistics.jobs_failed > 0
    assert by_event["job.processing"] <= statistics.jobs_started
    receiver.check(delivered=0, dropped=0)
    nursery.cancel_scope.cancel()
