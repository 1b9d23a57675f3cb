"""The dryAPI of `make healing`: it remembers what happened, and to whom."""

from __future__ import annotations

from collections.abc import Callable

import httpx  # noqa: TID251 - the test is the bridge
import trio

from tests.chaos.fates import Fate
from tests.chaos.upstream import Member, Upstream, serving
from tests.kit.publisher import Soketi
from tests.kit.soketi import SoketiServer


_STATUS = "/api/v1/client/request-status/"
_ONE, _TWO = Member("one", "token-1", "basic"), Member("two", "token-2")


async def _wait(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what it waits for makes no event
            await trio.sleep(0.01)


async def _ended(upstream: Upstream, member: Member, job: str) -> Fate:
    fates = upstream.accounts[member.client_id].truth.fates
    await _wait(lambda: job in fates and fates[job].end is not None)
    fate = fates[job]
    await _wait(
        lambda: all(step.ended or step.status == "error" for step in fate.steps)
    )
    return fate


async def test_a_jobs_steps_are_remembered_and_what_soketi_said(
    own_soketi: SoketiServer,
) -> None:
    """Each step with its progress; a failure has no event; a dead soketi took none."""
    async with serving(own_soketi, [_ONE, _TWO], seed=1) as upstream:
        account = upstream.accounts["one"]
        done = await _ended(upstream, _ONE, account.start_job(2, 0.05, fails=False))
        failed = await _ended(upstream, _ONE, account.start_job(2, 0.05, fails=True))
        own_soketi.kill()
        missed = await _ended(upstream, _ONE, account.start_job(0, 0.05, fails=False))
        assert upstream.accounts["two"].truth.fates == {}
    statuses = [step.status for step in done.steps]
    assert statuses == ["processing", "in_progress", "in_progress", "done"]
    assert all(step.taken for step in done.steps)
    assert done.steps[0].progress == "0.00" < done.steps[1].progress
    assert done.steps[-1].progress == "100.00"
    assert failed.end is not None
    assert (failed.end.status, failed.end.taken, failed.end.begun) == (
        "error",
        False,
        None,
    )
    assert failed.error_code
    assert [step.taken for step in missed.steps] == [False, False]


async def test_an_account_sees_its_own_jobs_and_every_call_is_noted(
    soketi: Soketi,
) -> None:
    """The token tells whose status endpoint is asked; it fails when it is told to."""
    async with (
        serving(soketi, [_ONE, _TWO], seed=1) as upstream,
        httpx.AsyncClient(base_url=upstream.url, trust_env=False) as client,
    ):
        job = upstream.accounts["two"].start_job(0, 3600, fails=False)

        async def ask(token: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}"}
            return await client.get(_STATUS + job, headers=headers)

        codes = [(await ask(token)).status_code for token in ("token-1", "token-2")]
        assert codes == [404, 200]
        assert (await ask("token-1")).headers["X-RateLimit-Limit"] == "50"
        assert (await ask("token-2")).headers["X-RateLimit-Limit"] == "300"
        await upstream.fail_status(60.0, 1.0)
        assert (await ask("token-2")).status_code == 503
        await upstream.fail_status(0.0, 0.0)
        assert (await ask("token-2")).status_code == 200
        calls = upstream.accounts["two"].truth.calls
    assert [call.code for call in calls] == [200, 200, 503, 200]
    assert {call.request_id for call in calls} == {job}


async def test_webhooks_that_nobody_takes_are_counted(soketi: Soketi) -> None:
    """Each is tried until it is given up; the judge must know of it."""
    hooked = Member(
        "hooked", "token-3", webhook_url="http://127.0.0.1:9/", retry_scale=0.0
    )
    async with serving(soketi, [hooked], seed=1) as upstream:
        account = upstream.accounts["hooked"]
        await _ended(upstream, hooked, account.start_job(0, 0.0, fails=False))
        await _wait(lambda: account.statistics.webhooks.failed == 2)
        account.close_books()
        assert account.truth.undelivered == 2
        assert account.truth.retry_waits is not None
