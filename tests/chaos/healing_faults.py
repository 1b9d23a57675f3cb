"""What makes gaps during `make healing`, and keeps them from being healed.

Owns the faults and the chance behind them: soketi, the cable and the bridge one after
the other, since two gaps at once are one, and the status endpoint beside them.
"""

from __future__ import annotations

import signal
from random import Random

import trio

from tests.chaos.cable import Cable
from tests.chaos.fault_log import FaultLog
from tests.chaos.soak_faults import restart_soketi
from tests.chaos.upstream import Upstream
from tests.kit.bridge_process import BridgeProcess
from tests.kit.soketi import SoketiServer


__all__ = ["HealingFaults"]

# As `make soak` waits: its deadline of 20 s, and the graces of relay and outbox.
_STOP_SECONDS = 32.0

# Short ones as often as long ones; a job lasts half a minute at most.
_AWAY_SECONDS = ((1.0, 5.0), (5.0, 30.0))

# Some gaps begin while the one before is being healed.
_CALM_SECONDS = ((2.0, 8.0), (8.0, 25.0))

# Often enough to meet the end of one gap in three.
_STATUS_CALM_SECONDS = (8.0, 25.0)
_STATUS_FAILS_SECONDS = (3.0, 12.0)
_STATUS_SHARES = (0.5, 1.0)


class HealingFaults:
    """
    The faults.

    Args:
        bridge: The bridge; it runs.
        soketi: Where events come from.
        cable: What lies between the bridge and soketi.
        upstream: Whose status endpoint fails.
        log: Where to note what happens.
    """

    def __init__(
        self,
        bridge: BridgeProcess,
        soketi: SoketiServer,
        cable: Cable,
        upstream: Upstream,
        log: FaultLog,
    ) -> None:
        self._bridge = bridge
        self._soketi = soketi
        self._cable = cable
        self._upstream = upstream
        self._log = log

    async def run(self, seed: int) -> None:
        """Let faults happen until cancelled; each is then brought to its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._make_gaps, Random(f"{seed}/gaps"))
            nursery.start_soon(self._fail_status, Random(f"{seed}/status"))

    async def _make_gaps(self, random: Random) -> None:
        while True:
            await trio.sleep(_draw(random, _CALM_SECONDS))
            seconds = _draw(random, _AWAY_SECONDS)
            # One that has begun goes to its end: the run must end whole.
            with trio.CancelScope(shield=True):
                match random.choice(("soketi", "soketi", "cable", "bridge", "bridge")):
                    case "soketi":
                        how = random.choice(("terminated", "killed"))
                        await restart_soketi(self._soketi, self._log, how, seconds)
                    case "cable":
                        await self.cut(seconds)
                    case _:
                        await self.end_bridge(
                            seconds, killed=random.choice((True, False))
                        )

    async def cut(self, seconds: float) -> None:
        """Cut the cable: what is connected is reset, what comes anew gets nowhere."""
        with self._log.during("cable cut"):
            self._cable.stop_up()
            self._cable.reset()
            try:
                await trio.sleep(seconds)
            finally:
                self._cable.heal()

    async def end_bridge(self, seconds: float, *, killed: bool) -> None:
        """End the bridge, and start it after so long; it is back when it is ready."""
        kind = "bridge killed" if killed else "bridge terminated"
        with self._log.during(kind):
            if killed:
                self._bridge.kill()
            else:
                self._bridge.send(signal.SIGTERM)
                code = await self._bridge.wait_exit(_STOP_SECONDS)
                if code != 0:
                    self._log.findings.append(f"it ended with {code} after SIGTERM")
            await trio.sleep(seconds)
            await self._bridge.start_and_wait()

    async def _fail_status(self, random: Random) -> None:
        while True:
            await trio.sleep(random.uniform(*_STATUS_CALM_SECONDS))
            seconds = random.uniform(*_STATUS_FAILS_SECONDS)
            share = random.choice(_STATUS_SHARES)
            with self._log.during("status endpoint failing"):
                try:
                    await self._upstream.fail_status(seconds, share)
                    await trio.sleep(seconds)
                finally:
                    # The sandbox is in this process, and answers at once.
                    with trio.CancelScope(shield=True):
                        await self._upstream.fail_status(0.0, 0.0)


def _draw(
    random: Random, ranges: tuple[tuple[float, float], tuple[float, float]]
) -> float:
    return random.uniform(*random.choice(ranges))
