"""What happens to everything around the bridge, and to it, during a soak.

Owns the faults and the chance behind them; what happened when is written into a
`fault_log`. Several lanes of faults run side by side, so that faults overlap; each
lane's chance depends on the seed alone.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TypeAlias
from urllib.parse import urlsplit

import trio

from tests.chaos.cable import Cable
from tests.chaos.fault_log import Fault, FaultLog
from tests.e2e.auth_endpoint import AuthEndpoint, AuthRequest, Reply
from tests.kit.bridge_process import BridgeProcess
from tests.kit.kafka import KafkaServer
from tests.kit.soketi import SoketiServer


__all__ = ["Faults", "restart_soketi"]

# As `make chaos` waits: its deadline of 20 s, and the graces of relay and outbox.
_STOP_SECONDS = 32.0

# How long the bridge stays down when it has ended by itself, as a supervisor has it.
_RESTART_SECONDS = 1.0

_LOOK_SECONDS = 0.02


_Go: TypeAlias = Callable[[Random], Awaitable[None]]


@dataclass(frozen=True)
class Lane:
    """
    Faults of one thing, one after the other.

    Attributes:
        name: Of what.
        calm_seconds: The mean time between two.
        choices: How often each is chosen, and what it does.
    """

    name: str
    calm_seconds: float
    choices: Sequence[tuple[int, _Go]] = field(repr=False)

    async def run(self, seed: int) -> None:
        """Let faults happen until cancelled."""
        random = Random(f"{seed}/{self.name}")
        weights = [weight for weight, _ in self.choices]
        while True:
            await trio.sleep(random.uniform(0.2, 1.8) * self.calm_seconds)
            ((_, go),) = random.choices(self.choices, weights)
            # Its own chance: what it draws must not depend on how long it takes.
            await go(Random(random.getrandbits(64)))


async def restart_soketi(
    soketi: SoketiServer, log: FaultLog, how: str, down_seconds: float
) -> Fault:
    """End soketi, wait, and start it again; tells when it was up."""
    with log.during(f"soketi {how}") as fault:
        try:
            if how == "terminated":
                await trio.to_thread.run_sync(soketi.stop)
            else:
                await trio.to_thread.run_sync(soketi.kill)
            await trio.sleep(down_seconds)
        finally:
            with trio.CancelScope(shield=True):  # a start has its own deadline
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.to_thread.run_sync, _start(soketi))
                    fault.up = await _accepting(soketi.url)
    return fault


def _start(soketi: SoketiServer) -> Callable[[], None]:
    # Its signature has an argument of its own, which a nursery would not give.
    return lambda: soketi.start()  # noqa: PLW0108


async def _accepting(url: str) -> float:
    """Wait until a server accepts connections; its start has a deadline."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    while True:
        try:
            stream = await trio.open_tcp_stream(parts.hostname, parts.port)
        except OSError:
            await trio.sleep(_LOOK_SECONDS)
        else:
            await stream.aclose()
            return time.time()


class Faults:
    """
    All faults of a soak.

    Args:
        bridge: The bridge; it runs.
        soketi: Where events come from.
        kafka: Where they go.
        cable: What lies between the bridge and soketi.
        endpoint: The auth endpoint.
        log: Where to note what happens.
    """

    def __init__(  # noqa: PLR0917 - the things that fail
        self,
        bridge: BridgeProcess,
        soketi: SoketiServer,
        kafka: KafkaServer,
        cable: Cable,
        endpoint: AuthEndpoint,
        log: FaultLog,
    ) -> None:
        self._bridge = bridge
        self._soketi = soketi
        self._kafka = kafka
        self._cable = cable
        self._endpoint = endpoint
        self._answer = endpoint.answer
        self._log = log
        self._down_on_purpose = False
        # Means chosen so that the bridge hears more than half of what is emitted, and
        # that one fault in four meets another.
        self._lanes = [
            Lane(
                "soketi",
                60.0,
                [
                    (3, partial(self._soketi_restarts, "terminated")),
                    (3, partial(self._soketi_restarts, "killed")),
                    (2, self._soketi_pauses),
                ],
            ),
            Lane(
                "cable",
                60.0,
                [
                    (3, self._cable_resets),
                    (2, self._cable_loses),
                    (2, self._cable_stops_up),
                    (3, self._cable_slows),
                ],
            ),
            Lane(
                "bridge",
                80.0,
                [
                    (2, self._bridge_is_killed),
                    (2, self._bridge_is_terminated),
                    (4, self._bridge_pauses),
                ],
            ),
            Lane(
                "kafka",
                75.0,
                [
                    (2, partial(self._kafka_restarts, "killed")),
                    (2, partial(self._kafka_restarts, "stopped")),
                    (1, self._kafka_pauses),
                ],
            ),
            Lane("auth", 120.0, [(1, self._auth_fails)]),
        ]

    async def run(self, seed: int) -> None:
        """Let faults happen until cancelled; each is then brought to its end."""
        async with trio.open_nursery() as nursery:
            for lane in self._lanes:
                nursery.start_soon(lane.run, seed)

    async def supervise(self) -> None:
        """Start a bridge that ended by itself, until cancelled."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            if self._down_on_purpose or self._bridge.running:
                continue
            with self._log.during("bridge ended"):
                code = await self._bridge.wait_exit()
                # It may have asked before the endpoint was well again.
                refused = any(
                    self._log.under_way(f"auth {status}", _STOP_SECONDS)
                    for status in (401, 403)
                )
                if code != 3 or not refused:
                    said = " ".join(self._bridge.sentences)
                    self._log.findings.append(f"it ended with {code}: {said}")
                await trio.sleep(_RESTART_SECONDS)
                if not self._down_on_purpose:
                    self._bridge.start()

    # -- soketi ---------------------------------------------------------------

    async def _soketi_restarts(self, how: str, random: Random) -> None:
        # Half of them are quick; the others are as long as a deployment.
        most = random.choice((2.0, 40.0))
        await restart_soketi(self._soketi, self._log, how, random.uniform(0.0, most))

    async def _soketi_pauses(self, random: Random) -> None:
        with self._log.during("soketi paused"):
            self._soketi.pause()
            try:
                await trio.sleep(random.uniform(1.0, 20.0))
            finally:
                self._soketi.resume()

    # -- The cable ------------------------------------------------------------

    async def _cable_resets(self, _random: Random) -> None:
        with self._log.during("cable reset"):
            self._cable.reset()
            await trio.lowlevel.checkpoint()

    async def _cable_loses(self, _random: Random) -> None:
        with self._log.during("cable lost"):
            self._cable.lose()
            await trio.lowlevel.checkpoint()

    async def _cable_stops_up(self, random: Random) -> None:
        with self._log.during("cable stopped up"):
            self._cable.stop_up()
            try:
                await trio.sleep(random.uniform(1.0, 60.0))
            finally:
                self._cable.heal()

    async def _cable_slows(self, random: Random) -> None:
        """Slow it down, and as often as not reset it while it is slow."""
        with self._log.during("cable slow"):
            self._cable.delay_seconds = random.uniform(0.02, 0.6)
            try:
                await trio.sleep(random.uniform(5.0, 30.0))
                if random.random() < 0.5:
                    await self._cable_resets(random)
            finally:
                self._cable.heal()

    # -- The bridge -----------------------------------------------------------

    async def _bridge_is_killed(self, random: Random) -> None:
        if not self._bridge.running:
            return  # it has ended by itself, and is started in a second
        with self._log.during("bridge killed"), self._down():
            self._bridge.kill()
            await trio.sleep(random.uniform(0.0, random.choice((1.0, 15.0))))

    async def _bridge_is_terminated(self, random: Random) -> None:
        if not self._bridge.running:
            return
        with self._log.during("bridge terminated"), self._down():
            self._bridge.send(signal.SIGTERM)
            code = await self._bridge.wait_exit(_STOP_SECONDS)
            if code != 0:
                self._log.findings.append(f"it ended with {code} after SIGTERM")
            await trio.sleep(random.uniform(0.0, random.choice((1.0, 15.0))))

    @contextmanager
    def _down(self) -> Iterator[None]:
        self._down_on_purpose = True
        try:
            yield
        finally:
            self._bridge.kill()
            self._bridge.start()
            self._down_on_purpose = False

    async def _bridge_pauses(self, random: Random) -> None:
        with self._log.during("bridge paused"):
            self._bridge.send(signal.SIGSTOP)
            try:
                # The longest is beyond soketi's 120 s and its buffers.
                most = random.choices((10.0, 40.0, 150.0), (5, 3, 1))[0]
                await trio.sleep(random.uniform(2.0, most))
            finally:
                self._bridge.send(signal.SIGCONT)

    # -- Kafka ----------------------------------------------------------------

    async def _kafka_restarts(self, how: str, random: Random) -> None:
        with self._log.during(f"kafka {how}"):
            end = self._kafka.kill if how == "killed" else self._kafka.stop
            await trio.to_thread.run_sync(end)
            try:
                await trio.sleep(random.uniform(5.0, 30.0))
            finally:
                with trio.CancelScope(shield=True):  # a start has its own deadline
                    await trio.to_thread.run_sync(self._kafka.start)

    async def _kafka_pauses(self, random: Random) -> None:
        with self._log.during("kafka paused"):
            self._kafka.pause()
            try:
                await trio.sleep(random.uniform(5.0, 30.0))
            finally:
                self._kafka.resume()

    # -- The auth endpoint ----------------------------------------------------

    async def _auth_fails(self, random: Random) -> None:
        """Let it refuse, and reset the cable, so that somebody asks."""
        status = random.choice((500, 500, 401, 403))

        def refuse(_request: AuthRequest) -> Reply:
            return Reply(status, b'{"message": "no"}')

        with self._log.during(f"auth {status}"):
            self._endpoint.answer = refuse
            try:
                await self._cable_resets(random)
                await trio.sleep(random.uniform(1.0, 30.0))
            finally:
                self._endpoint.answer = self._answer
