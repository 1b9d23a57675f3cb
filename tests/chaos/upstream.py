"""A dryAPI of several accounts in front of one soketi, that remembers everything."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import httpx  # noqa: TID251 - the publisher's errors; no part of the bridge raises them
import trio
import trio.lowlevel
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bridge.http.server import serve
from bridge.http.streams import open_socket
from bridge.sandbox import Sandbox, SandboxConfig
from bridge.sandbox.api import STATUS_PATH, Answer
from bridge.sandbox.config import Plan
from bridge.sandbox.jobs import Job, JobRequest, Status
from bridge.sandbox.simulation import Emission
from tests.chaos.truth import AccountTruth, Call, Limits, Step, UpstreamJob
from tests.kit.publisher import Event, Publisher, Soketi, SoketiError


_NAME = "request.status.updated"

# Pusher's HTTP API takes ten events a call.
_BATCH = 10

# Three quarters of 50 calls a minute and 200 a day, and of 300 a minute.
_LIMITS: dict[Plan, Limits] = {
    "basic": Limits(37, 150),
    "premium": Limits(225, math.inf),
}

WEBHOOK_SECRET = "whsec_made-up-for-this-run-only"

# The documented waits between the tries of a webhook, and what they are multiplied by.
_WAITS_SECONDS = (60, 120, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200)
_RETRY_SCALE = 0.01

# A picture is in an event as upstream has it, and costs the machine little.
_PREVIEW_BYTES = 700

_AUTH_PATH = "/broadcasting/auth"

# Jobs last from less than a second to half a minute: some end before a gap, some
# begin and end within one, some go on over it.
_STEPS = (0, 20)
_INTERVAL_SECONDS = (0.2, 1.5)
_FAIL_SHARE = 0.25


@dataclass(frozen=True)
class Member:
    """An account of dryAPI; where jobs are started for it, so many a second."""

    client_id: str
    token: str
    plan: Plan = "premium"
    webhooks: bool = False
    job_rate: float = 1.0


class _NotingPublisher:
    """The sandbox's publisher to soketi, one request at a time so that order is kept.

    It notes each step, and what soketi said to its event.
    """

    def __init__(self, publisher: Publisher, channel: str, truth: AccountTruth) -> None:
        self._publisher = publisher
        self._channel = channel
        self._truth = truth
        # Steps whose events are on their way, in the order of their making.
        self._unsent: dict[str, deque[Step]] = defaultdict(deque)
        # What lies in it is small, and soketi answers or refuses within seconds.
        self._into, self._out_of = trio.open_memory_channel[Emission](100_000)

    def note(self, job: Job, _previous: Status) -> None:
        """Note a step."""
        noted = self._truth.jobs.setdefault(job.request_id, UpstreamJob(job.request_id))
        step = Step(job.status, time.time(), f"{job.progress:.2f}")
        noted.steps.append(step)
        if job.error is not None:
            noted.error_code = job.error.error_code
        else:
            self._unsent[job.request_id].append(step)

    async def run(self) -> None:
        """Publish until cancelled."""
        async for first in self._out_of:
            batch = [first]
            try:
                while len(batch) < _BATCH:
                    batch.append(self._out_of.receive_nowait())
            except trio.WouldBlock:
                pass
            await self._publish(batch)

    async def wait_for_subscriber(self) -> None:
        """Return: jobs don't wait for a subscriber."""

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """Take events."""
        for emission in emissions:
            await self._into.send(emission)

    async def aclose(self) -> None:
        """Return: the publisher is closed by its owner."""

    async def _publish(self, batch: Sequence[Emission]) -> None:
        events = [Event(self._channel, _NAME, each.data) for each in batch]
        begun = time.time()
        taken: bool | None = True
        try:
            await self._publisher.publish_batch(events)
        except (SoketiError, httpx.ConnectError, httpx.ConnectTimeout):
            # It refused, or did not run. dryAPI replays nothing.
            taken = False
        except httpx.TransportError:
            taken = None
        ended = time.time()
        for each in batch:
            step = self._unsent[each.request_id].popleft()
            step.begun, step.ended, step.taken = begun, ended, taken


class UpstreamAccount:
    """One account: its jobs, its status endpoint, its webhooks and their truth."""

    def __init__(
        self,
        member: Member,
        soketi: Soketi,
        publisher: Publisher,
        *,
        base: str,
        webhook_url: str,
        seed: int,
    ) -> None:
        self.member = member
        waits = [_RETRY_SCALE * wait for wait in _WAITS_SECONDS]
        self.truth = AccountTruth(
            member.client_id, _LIMITS[member.plan], waits if member.webhooks else None
        )
        config = SandboxConfig(
            client_id=member.client_id,
            api_token=member.token,
            app_key=soketi.app.key,
            app_secret=soketi.app.secret,
            rate=0,
            preview_bytes=_PREVIEW_BYTES,
            wait_for_subscriber=False,
            webhook_url=f"{webhook_url}/{member.client_id}"
            if member.webhooks
            else None,
            webhook_secret=WEBHOOK_SECRET,
            webhook_retry_scale=_RETRY_SCALE,
            seed=seed,
            plan=member.plan,
        )
        self._publisher = _NotingPublisher(publisher, config.channel, self.truth)
        self.sandbox = Sandbox(config, base=base, publisher=self._publisher)
        self.sandbox.simulation.observers.append(self._publisher.note)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run its jobs until cancelled; `nursery.start` waits until some may start."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publisher.run)
            await nursery.start(self.sandbox.run)
            task_status.started()

    async def start_jobs(self, random: Random) -> None:
        """Start jobs until cancelled."""
        while True:
            self.start_job(
                random.randint(*_STEPS),
                random.uniform(*_INTERVAL_SECONDS),
                fails=random.random() < _FAIL_SHARE,
            )
            await trio.sleep(random.expovariate(self.member.job_rate))

    def start_job(self, steps: int, interval_seconds: float, *, fails: bool) -> str:
        """Start a job; give its name."""
        request = JobRequest(steps=steps, interval_seconds=interval_seconds, fail=fails)
        return self.sandbox.simulation.start_requested(request).request_id

    @property
    def running(self) -> int:
        """How many jobs have not ended."""
        return self.sandbox.statistics.jobs_running

    @property
    def open_webhooks(self) -> int:
        """How many webhooks wait for a try, or for its answer."""
        return self.sandbox.statistics.webhooks.open

    def close_books(self) -> AccountTruth:
        """Note how many webhooks were not delivered; give all that is known."""
        counts = self.sandbox.statistics.webhooks
        self.truth.undelivered = (
            counts.open + counts.failed + counts.dropped + counts.silenced
        )
        return self.truth

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and note it if the status endpoint was asked."""
        path = str(scope["path"])

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                job, code = path.removeprefix(STATUS_PATH), message["status"]
                self.truth.calls.append(Call(time.time(), job, code))
            await send(message)

        is_status = path.startswith(STATUS_PATH)
        await self.sandbox.app(scope, receive, note if is_status else send)


class Upstream:
    """The accounts behind one address, recognized by their tokens."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.accounts: dict[str, UpstreamAccount] = {}
        self.auth_status: int | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in the name of the account whose token it is; of any, if none."""
        if self.auth_status is not None and scope["path"] == _AUTH_PATH:
            refusal = Response(b'{"message": "no"}', self.auth_status)
            await refusal(scope, receive, send)
            return
        given = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
        accounts = list(self.accounts.values())
        account = next(
            (each for each in accounts if given == f"Bearer {each.member.token}"),
            accounts[0],
        )
        await account.serve(scope, receive, send)

    def fail_status(self, seconds: float, share: float) -> None:
        """Let such a share of the status endpoint's answers fail, for so long."""
        for account in self.accounts.values():
            fault = Answer(STATUS_PATH, seconds=seconds, share=share, status=503)
            account.sandbox.answers.order(fault)


@asynccontextmanager
async def serving(
    soketi: Soketi, members: Sequence[Member], webhook_url: str, seed: int
) -> AsyncIterator[Upstream]:
    """Serve a dryAPI as long as the block runs."""
    with await open_socket("127.0.0.1:0", "listen") as listening:
        port = listening.getsockname()[1]
        upstream = Upstream(f"http://127.0.0.1:{port}")
        async with soketi.publisher() as publisher, trio.open_nursery() as nursery:
            for number, member in enumerate(members):
                upstream.accounts[member.client_id] = account = UpstreamAccount(
                    member,
                    soketi,
                    publisher,
                    base=upstream.url,
                    webhook_url=webhook_url,
                    seed=seed + number,
                )
                await nursery.start(account.run)
            nursery.start_soon(serve, upstream, listening)
            yield upstream
            nursery.cancel_scope.cancel()
