"""Kills the bridge again and again, and looks each time at what was on disk.

Owns the ways of ending it and the memory of what its file showed. An event counts
as committed when a copy of the file, taken while the bridge is dead, has it.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio

from tests.chaos.stage import Stage
from tests.chaos.traffic import NumberedEvent, read_event
from tests.chaos.verdict import Verdict, judge
from tests.kit.bridge_process import BridgeProcess, rows_in


__all__ = ["Killer"]

# Its deadline of 20 s, and the graces of relay and outbox.
_STOP_SECONDS = 32.0

# Nothing is slow here but the machine.
_DRAIN_SECONDS = 60.0


@dataclass
class _Way:
    """A way to end the bridge, and how often it is chosen."""

    name: str
    weight: int
    go: Callable[[], Awaitable[str | None]]


class Killer:
    """
    Ends and starts one bridge.

    Args:
        stage: The bridge and its surroundings; nothing runs yet.
        random: What decides when and how.
        folder: For copies of the outbox's file.
        say: Takes lines for people.

    Attributes:
        committed: Which event each `ce_id` was in the outbox's file.
        findings: What was wrong on the way.
    """

    def __init__(
        self, stage: Stage, random: Random, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._stage = stage
        self._bridge: BridgeProcess = stage.bridge
        self._random = random
        self._folder = folder
        self._say = say
        self._ways = [
            _Way("under load", 8, self._under_load),
            _Way("with a batch under way", 4, self._with_batch_under_way),
            _Way("while Kafka is dead", 2, self._while_kafka_is_dead),
            _Way("right after its start", 4, self._after_start),
            _Way("while it resumes", 4, self._while_resuming),
            _Way("while it stops", 2, self._while_stopping),
            _Way("by SIGTERM", 3, self._by_sigterm),
        ]
        self.committed: dict[str, NumberedEvent] = {}
        self.findings: list[str] = []

    async def run(self, kills: int) -> Verdict:
        """End the bridge so many times, let it finish, and judge the topic."""
        async with self._stage.load() as load:
            for number in range(1, kills + 1):
                way = self._choose(number)
                async with trio.open_nursery() as nursery:
                    self._bridge.start()
                    if number > 1:
                        nursery.start_soon(self._look_at_copy)
                    wrong = await way.go()
                self._bridge.kill()
                self._bridge.copy_file(self._copy)
                if wrong is not None:
                    self.findings.append(f"kill {number}, {way.name}: {wrong}")
                self._say(
                    f"{number:>4}/{kills}  {way.name:<24}"
                    f"{load.emitted:>9,} emitted {len(self.committed):>9,} committed"
                    f" before{'' if wrong is None else f'  FINDING: {wrong}'}"
                )
            await self._look_at_copy()
            await self._bridge.start_and_wait()
            await load.stop()
        await self._bridge.wait_metrics(
            lambda now: now.waiting == 0 and now.read > 0, _DRAIN_SECONDS
        )
        wrong = await self._end_in_order()
        if wrong is not None:
            self.findings.append(wrong)
        self._bridge.copy_file(self._copy)
        await self._look_at_copy()
        verdict = judge(await self._stage.records(), self.committed)
        dead = await self._stage.dead_letters()
        verdict.findings += [f"a dead letter at {record.offset}" for record in dead]
        verdict.findings[:0] = self.findings
        return verdict

    # -- Ways to end it -------------------------------------------------------

    def _choose(self, number: int) -> _Way:
        # The first start makes the file that the others look at.
        if number == 1:
            return self._ways[0]
        (way,) = self._random.choices(self._ways, [way.weight for way in self._ways])
        return way

    async def _under_load(self) -> str | None:
        await self._bridge.wait_ready()
        return await self._sleep_and_kill(0.05, 3.0)

    async def _with_batch_under_way(self) -> str | None:
        """The broker stands still, so that batches land when the bridge is dead."""
        kafka = self._stage.servers.kafka
        await self._bridge.wait_ready()
        await trio.sleep(self._random.uniform(0.05, 1.0))
        kafka.pause()
        try:
            return await self._sleep_and_kill(0.02, 0.8)
        finally:
            kafka.resume()

    async def _while_kafka_is_dead(self) -> str | None:
        """Nobody knows whether what was under way has been taken."""
        kafka = self._stage.servers.kafka
        await self._bridge.wait_ready()
        await trio.sleep(self._random.uniform(0.05, 1.0))
        kafka.kill()
        wrong = await self._sleep_and_kill(0.02, 1.5)
        await trio.to_thread.run_sync(kafka.start)
        return wrong

    async def _after_start(self) -> str | None:
        return await self._sleep_and_kill(0.0, 1.5)

    async def _while_resuming(self) -> str | None:
        """Within the quiet time, the reading of the log or the first sending."""
        await self._bridge.wait_logged("service.started")
        return await self._sleep_and_kill(0.0, 3.0)

    async def _while_stopping(self) -> str | None:
        await self._bridge.wait_ready()
        await trio.sleep(self._random.uniform(0.2, 1.5))
        self._bridge.send(signal.SIGTERM)
        await trio.sleep(self._random.uniform(0.0, 0.1))
        # It may have been quick.
        self._bridge.kill()
        return None

    async def _by_sigterm(self) -> str | None:
        await self._bridge.wait_ready()
        await trio.sleep(self._random.uniform(0.05, 1.5))
        return await self._end_in_order()

    async def _end_in_order(self) -> str | None:
        self._bridge.send(signal.SIGTERM)
        code = await self._bridge.wait_exit(_STOP_SECONDS)
        return None if code == 0 else f"it ended with {code} after SIGTERM"

    async def _sleep_and_kill(self, least: float, most: float) -> str | None:
        await trio.sleep(self._random.uniform(least, most))
        if not self._bridge.running:
            return f"it had ended by itself with {await self._bridge.wait_exit()}"
        self._bridge.kill()
        return None

    # -- What was on disk -----------------------------------------------------

    @property
    def _copy(self) -> Path:
        return self._folder / "copy"

    async def _look_at_copy(self) -> None:
        await trio.to_thread.run_sync(self._take_copy)

    def _take_copy(self) -> None:
        for row in rows_in(self._copy):
            if row.ce_id in self.committed or row.topic != self._stage.topic:
                continue
            self.committed[row.ce_id] = read_event(row.value)
        shutil.rmtree(self._copy)
