"""A dryAPI of several accounts in front of one soketi, that remembers everything.

Owns how the sandbox's parts are put together for more than one account, and the
noting down of each step, event and call. What jobs there are decides `healing`.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx  # noqa: TID251 - the publisher's errors; no part of the bridge raises them
import trio
import trio.lowlevel
from starlette.types import Message, Receive, Scope, Send

from bridge.sandbox import SandboxConfig, application
from bridge.sandbox.addresses import Addresses
from bridge.sandbox.config import Plan
from bridge.sandbox.control import Control, Doors
from bridge.sandbox.deliveries import Deliveries
from bridge.sandbox.dryapi import DryApi
from bridge.sandbox.jobs import Job, JobBook, JobError, JobRequest, Status
from bridge.sandbox.previews import Pictures, paint
from bridge.sandbox.publisher import Emission
from bridge.sandbox.server import Server, open_listeners
from bridge.sandbox.simulation import Simulation
from bridge.sandbox.statistics import Statistics
from bridge.sandbox.webhooks import Webhooks
from tests.chaos.fates import AccountTruth, Call, Fate, Limits, Step
from tests.kit.publisher import Event, Publisher, Soketi, SoketiError


__all__ = ["Member", "Upstream", "UpstreamAccount", "serving"]

_NAME = "request.status.updated"

# Pusher's HTTP API takes ten events a call.
_BATCH = 10

_LIMITS: dict[Plan, Limits] = {"basic": Limits(50, 200), "premium": Limits(300, None)}

# The documented waits between the tries of a webhook.
_WAITS_SECONDS = (60, 120, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200)

# A picture is in an event as upstream has it, and costs the machine little.
_PREVIEW_BYTES = 700

_STATUS_PATH = "/api/v1/client/request-status/"


@dataclass(frozen=True)
class Member:
    """
    An account of dryAPI.

    Attributes:
        client_id: Its name.
        token: Its API token.
        plan: `basic` or `premium`.
        webhook_url: Where its webhooks go; None for none.
        webhook_secret: What signs them.
        retry_scale: What the waits between tries are multiplied by.
        job_rate: How many jobs it starts a second, where jobs are started for it.
    """

    client_id: str
    token: str
    plan: Plan = "premium"
    webhook_url: str | None = None
    webhook_secret: str = "whsec_made-up-for-this-run-only"
    retry_scale: float = 0.01
    job_rate: float = 1.0


class _Notes:
    """Writes down what happens to an account's jobs."""

    def __init__(self, truth: AccountTruth) -> None:
        self._truth = truth
        # Steps whose events are under way, in the order of their making.
        self._unsent: dict[str, deque[Step]] = defaultdict(deque)

    def step(self, job: Job) -> None:
        """Note a step."""
        fate = self._truth.fates.setdefault(job.request_id, Fate(job.request_id))
        step = Step(job.status, time.time(), f"{job.progress:.2f}")
        fate.steps.append(step)
        if job.error is not None:
            fate.error_code = job.error.error_code
        else:
            self._unsent[job.request_id].append(step)

    def sent(
        self, request_ids: Sequence[str], begun: float, *, taken: bool | None
    ) -> None:
        """Note what soketi said to the next event of each of these jobs, in order."""
        ended = time.time()
        for request_id in request_ids:
            step = self._unsent[request_id].popleft()
            step.begun, step.ended, step.taken = begun, ended, taken


class _NotingPublisher:
    """The sandbox's publisher to soketi: one lane, so that order is kept over all."""

    def __init__(self, publisher: Publisher, channel: str, notes: _Notes) -> None:
        self._publisher = publisher
        self._channel = channel
        self._notes = notes
        # What lies in it is small, and soketi answers or refuses within seconds.
        self._into, self._out_of = trio.open_memory_channel[Emission](100_000)

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
        """Return: jobs don't wait for anybody."""

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """Take events."""
        for emission in emissions:
            await self._into.send(emission)

    async def flush(self) -> None:
        """Return: nobody asks what is under way."""

    async def _publish(self, batch: Sequence[Emission]) -> None:
        events = [Event(self._channel, _NAME, each.data) for each in batch]
        begun = time.time()
        taken: bool | None
        try:
            await self._publisher.publish_batch(events)
        except (SoketiError, httpx.ConnectError, httpx.ConnectTimeout):
            # It said no, or nobody was there to hear it. dryAPI replays nothing.
            taken = False
        except httpx.TransportError:
            taken = None
        else:
            taken = True
        self._notes.sent([each.request_id for each in batch], begun, taken=taken)


class UpstreamAccount:
    """
    One account: its jobs, its status endpoint and its webhooks.

    Attributes:
        member: Who it is.
        truth: What happened.
    """

    def __init__(
        self,
        member: Member,
        soketi: Soketi,
        publisher: Publisher,
        pictures: Pictures,
        base: str,
        *,
        seed: int,
    ) -> None:
        self.member = member
        waits = [member.retry_scale * wait for wait in _WAITS_SECONDS]
        self.truth = AccountTruth(
            member.client_id,
            _LIMITS[member.plan],
            waits if member.webhook_url else None,
        )
        config = SandboxConfig(
            client_id=member.client_id,
            api_token=member.token,
            app_id=soketi.app.id,
            app_key=soketi.app.key,
            app_secret=soketi.app.secret,
            pusher_url=soketi.url,
            rate=0,
            preview_bytes=_PREVIEW_BYTES,
            wait_for_subscriber=False,
            webhook_url=member.webhook_url,
            webhook_secret=member.webhook_secret,
            webhook_retry_scale=member.retry_scale,
            keep_finished_jobs=1_000_000,
            seed=seed,
            plan=member.plan,
        )
        self.statistics = Statistics()
        addresses = Addresses(base, config.app)
        book = JobBook(config, pictures, addresses, self.statistics)
        self._book = book
        self._deliveries = Deliveries(config, self.statistics.webhooks)
        self._webhooks = Webhooks(addresses, self._deliveries.send)
        self._notes = _Notes(self.truth)
        noting = _NotingPublisher(publisher, config.channel, self._notes)
        self._simulation = Simulation(config, book, noting, self._announce)
        api = DryApi(
            config,
            book,
            self._simulation,
            pictures,
            addresses,
            statistics=self.statistics,
        )
        doors = Doors(
            simulation=self._simulation,
            statistics=self.statistics,
            book=book,
            status_faults=api.faults,
            endpoint=None,
            webhooks=self._webhooks if member.webhook_url else None,
            deliveries=self._deliveries,
        )
        self._app = application.build([*api.routes(), *Control(doors).routes()])

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run its jobs until cancelled; `nursery.start` waits until some may start."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._simulation.run)
            if self.member.webhook_url:
                nursery.start_soon(self._deliveries.run)
            # It waits for nobody: a few turns of the loop.
            while not self._simulation.emitting:
                await trio.lowlevel.checkpoint()
            task_status.started()

    def start_job(self, steps: int, interval_seconds: float, *, fails: bool) -> str:
        """Start a job; give its name."""
        request = JobRequest(steps=steps, interval_seconds=interval_seconds, fail=fails)
        return self._simulation.start_requested(request).request_id

    async def end_job(self, request_id: str, *, fails: bool) -> None:
        """End a job that runs, now."""
        job = self._book.get(request_id)
        assert job is not None
        error = JobError("PROCESSING_ERROR", "It was told to.") if fails else None
        assert await self._simulation.end(job, error)

    @property
    def running(self) -> int:
        """How many jobs have not ended."""
        return self.statistics.jobs_running

    @property
    def open_webhooks(self) -> int:
        """How many webhooks wait for a try, or for its answer."""
        return self.statistics.webhooks.open

    def close_books(self) -> None:
        """Note what webhooks came to."""
        counts = self.statistics.webhooks
        self.truth.undelivered = (
            counts.open + counts.failed + counts.dropped + counts.silenced
        )

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and note it if the status endpoint was asked."""
        path = str(scope["path"])
        if not path.startswith(_STATUS_PATH):
            await self._app(scope, receive, send)
            return

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                call = Call(
                    time.time(), path.removeprefix(_STATUS_PATH), message["status"]
                )
                self.truth.calls.append(call)
            await send(message)

        await self._app(scope, receive, note)

    def _announce(self, job: Job, previous: Status) -> None:
        self._notes.step(job)
        if self.member.webhook_url:
            self._webhooks.announce(job, previous)


class Upstream:
    """
    The accounts behind one address, told apart by their tokens.

    Attributes:
        url: dryAPI's base URL.
        accounts: The accounts by their names.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.accounts: dict[str, UpstreamAccount] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in the name of the account whose token it is; of any, if none."""
        given = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
        accounts = list(self.accounts.values())
        account = next(
            (each for each in accounts if given == f"Bearer {each.member.token}"),
            accounts[0],
        )
        await account.serve(scope, receive, send)

    async def fail_status(self, seconds: float, share: float) -> None:
        """Let such a share of the status endpoint's answers fail, for so long."""
        async with httpx.AsyncClient(trust_env=False) as client:
            for account in self.accounts.values():
                answer = await client.post(
                    f"{self.url}/sandbox/status-endpoint",
                    json={"seconds": seconds, "share": share},
                    headers={"Authorization": f"Bearer {account.member.token}"},
                )
                assert answer.status_code == httpx.codes.OK


@asynccontextmanager
async def serving(
    soketi: Soketi, members: Sequence[Member], seed: int
) -> AsyncIterator[Upstream]:
    """Serve a dryAPI as long as the block runs."""
    listeners = await open_listeners("127.0.0.1:0")
    try:
        port = listeners[0].socket.getsockname()[1]
        upstream = Upstream(f"http://127.0.0.1:{port}")
        pictures = await trio.to_thread.run_sync(paint, _PREVIEW_BYTES)
        async with soketi.publisher() as publisher, trio.open_nursery() as nursery:
            for number, member in enumerate(members):
                account = UpstreamAccount(
                    member,
                    soketi,
                    publisher,
                    pictures,
                    upstream.url,
                    seed=seed + number,
                )
                upstream.accounts[member.client_id] = account
                await nursery.start(account.run)
            nursery.start_soon(Server(upstream, None).serve, listeners)
            yield upstream
            nursery.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.socket.close()
