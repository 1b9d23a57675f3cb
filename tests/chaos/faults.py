"""One table of everything that happens to the bridge and to its neighbors.

A row has a fault's name, the causes of gaps that it explains, what it does, and how
often and for how long each command draws it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeAlias
from urllib.parse import urlsplit

import trio

from tests.chaos.course import Course, Happened


NODES = 3

# Between two brokers' deaths: the first must be back in all replica sets.
_SETTLE_SECONDS = 8.0

_LOOK_SECONDS = 0.02

# How long the bridge stays down when it has ended by itself, as a supervisor has it.
_RESTART_SECONDS = 1.0

# How long after the auth endpoint is well again a start may still be refused.
_REFUSED_SECONDS = 32.0

# A time is drawn from one of the ranges, in seconds; each is as likely.
_Ranges: TypeAlias = Sequence[tuple[float, float]]

# What a fault does for so long. It returns when a server accepted connections again.
_Act: TypeAlias = Callable[[Course, Random, float], Awaitable[float | None]]


@dataclass(frozen=True)
class Fault:
    """A row."""

    name: str
    causes: frozenset[str]
    act: _Act
    draws: Mapping[str, tuple[int, _Ranges]]
    copies: int = -1
    in_sync: int = 0


# -- soketi and the network -----------------------------------------------


def _end_soketi(how: str) -> _Act:
    async def act(course: Course, _: Random, seconds: float) -> float:
        soketi = course.servers.soketi
        await trio.to_thread.run_sync(getattr(soketi, how))
        try:
            await trio.sleep(seconds)
        finally:
            with trio.CancelScope(shield=True):  # a start has its own deadline
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.to_thread.run_sync, partial(soketi.start))
                    up = await _accepting(soketi.url)
        return up

    return act


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


def _for_a_time(
    begin: Callable[[Course], object],
    end: Callable[[Course], object] = lambda _: None,
) -> _Act:
    """Do something, and undo it after a time."""

    async def act(course: Course, _: Random, seconds: float) -> None:
        begin(course)
        try:
            await trio.sleep(seconds)
        finally:
            end(course)

    return act


_pause_soketi = _for_a_time(
    lambda course: course.servers.soketi.pause(),
    lambda course: course.servers.soketi.resume(),
)
_pause_bridge = _for_a_time(
    lambda course: course.bridge.send(signal.SIGSTOP),
    lambda course: course.bridge.send(signal.SIGCONT),
)
_reset = _for_a_time(lambda course: course.proxy.reset())
_lose = _for_a_time(lambda course: course.proxy.lose())
_hang = _for_a_time(
    lambda course: course.proxy.hang(), lambda course: course.proxy.resume()
)


async def _cut(course: Course, random: Random, seconds: float) -> None:
    """Reset what is connected, and let new connections hang."""
    course.proxy.reset()
    await _hang(course, random, seconds)


async def _slow_down(course: Course, random: Random, seconds: float) -> None:
    """Delay everything, and as often as not reset it while it is slow."""
    course.proxy.delay_seconds = random.uniform(0.02, 0.6)
    try:
        await trio.sleep(seconds)
        if random.random() < 0.5:
            await strike(course, named("network reset"), random, 0.0)
    finally:
        course.proxy.resume()


# -- The bridge -----------------------------------------------------------


def _restart_bridge(number: signal.Signals) -> _Act:
    async def act(course: Course, _: Random, seconds: float) -> None:
        course.down_on_purpose = True
        try:
            if number is signal.SIGTERM:
                # Shielded: at the end of the course too it is a stop, not a kill.
                with trio.CancelScope(shield=True):
                    await course.stop_bridge()
            else:
                course.bridge.kill()
            await trio.sleep(seconds)
        finally:
            course.bridge.kill()
            course.bridge.start()
            course.down_on_purpose = False
        if course.faults_finish:
            await course.bridge.wait_ready()

    return act


def _end_bridge(wait: str = "", kafka: str = "", how: str = "kill") -> _Act:
    """End it for good at a moment of its start, of its work or of Kafka's absence."""

    async def act(course: Course, random: Random, seconds: float) -> None:
        bridge, broker = course.bridge, course.kafka
        if wait == "ready":
            await bridge.wait_ready()
        elif wait == "started":
            await bridge.wait_logged("service.started")
        if kafka:
            await trio.sleep(random.uniform(0.05, 1.0))
            getattr(broker, kafka)()
        await trio.sleep(seconds)
        if not bridge.running:
            code = await bridge.wait_exit()
            course.findings.append(f"it had ended by itself with {code}")
        if how == "stop":
            await course.stop_bridge()
        elif how == "stop and kill":
            bridge.send(signal.SIGTERM)
            await trio.sleep(random.uniform(0.0, 0.1))
        # It may have been quick.
        bridge.kill()
        if kafka:
            broker.resume()
            await trio.to_thread.run_sync(partial(broker.start))

    return act


_kill_ready, _kill_started = _end_bridge("ready"), _end_bridge("started")
_kill_in_a_batch = _end_bridge("ready", "pause")
_kill_without_kafka = _end_bridge("ready", "kill")
_kill_stopping = _end_bridge("ready", how="stop and kill")
_stop = _end_bridge("ready", how="stop")


# -- Kafka and dryAPI -----------------------------------------------------


def _fail_brokers(how: str, *nodes: int) -> _Act:
    async def act(course: Course, _: Random, seconds: float) -> None:
        broker = course.kafka
        for node in nodes or [None]:
            await trio.to_thread.run_sync(getattr(broker, how), node)
        try:
            await trio.sleep(seconds)
        finally:
            with trio.CancelScope(shield=True):  # a start has its own deadline
                undo = broker.resume if how == "pause" else partial(broker.start)
                await trio.to_thread.run_sync(undo)

    return act


async def _kill_brokers_in_turn(course: Course, random: Random, seconds: float) -> None:
    for node in range(1, NODES + 1):
        await _fail_brokers("kill", node)(course, random, seconds)
        await trio.sleep(_SETTLE_SECONDS)


def _fail_auth(status: int) -> _Act:
    async def act(course: Course, random: Random, seconds: float) -> None:
        course.dryapi.auth_status = status
        try:
            # So that the bridge asks.
            await strike(course, named("network reset"), random, 0.0)
            await trio.sleep(seconds)
        finally:
            course.dryapi.auth_status = None

    return act


async def _fail_status(course: Course, random: Random, seconds: float) -> None:
    # It ends by itself.
    course.dryapi.fail_status(seconds, random.choice((0.5, 1.0)))
    await trio.sleep(seconds)


# -- The table ------------------------------------------------------------


def _draw(
    command: str, weight: int, *ranges: tuple[float, float]
) -> dict[str, tuple[int, _Ranges]]:
    return {command: (weight, ranges)}


def _brokers(seconds: float) -> dict[str, tuple[int, _Ranges]]:
    """Let it last as long as an outage takes, by the goal that this measures."""
    return _draw("brokers", 1, (seconds, seconds))


_soak, _kills = partial(_draw, "soak"), partial(_draw, "kills")
# A job of `healing` lasts half a minute at most: short gaps as often as long ones.
_HEALING = _draw("healing", 1, (1, 5), (5, 30))
# Half are quick; the others are as long as a deployment.
_SOKETI_ENDS = (
    _soak(3, (0, 2), (0, 40)) | _HEALING | _draw("restarts", 1, *7 * [(0, 8)], (8, 35))
)
_BRIDGE_ENDS = _soak(2, (0, 1), (0, 15)) | _HEALING

# It varies around 30 s of uptime, after which waits begin again.
RESTARTS_UP_SECONDS: _Ranges = [*7 * [(0.5, 6.0)], (25.0, 35.0)]

_NOTHING = frozenset[str]()
_SESSION = frozenset({"disconnected", "deaf"})
_RESET, _REFUSED = frozenset({"disconnected"}), frozenset({"refused"})
_CRASH, _STOP = frozenset({"crashed"}), frozenset({"stopped"})

FAULTS = (
    Fault("soketi terminated", _SESSION, _end_soketi("stop"), _SOKETI_ENDS),
    Fault("soketi killed", _SESSION, _end_soketi("kill"), _SOKETI_ENDS),
    Fault("soketi paused", _SESSION, _pause_soketi, _soak(2, (1, 20))),
    Fault("network reset", _RESET, _reset, _soak(3, (0, 0))),
    Fault("network lost", _SESSION, _lose, _soak(2, (0, 0))),
    Fault("network hangs", _SESSION, _hang, _soak(2, (1, 60))),
    # It is slower than that of a satellite, and breaks nothing.
    Fault("network slow", _NOTHING, _slow_down, _soak(3, (5, 30))),
    Fault("network cut", _SESSION, _cut, _HEALING),
    Fault("bridge killed", _CRASH, _restart_bridge(signal.SIGKILL), _BRIDGE_ENDS),
    Fault("bridge terminated", _STOP, _restart_bridge(signal.SIGTERM), _BRIDGE_ENDS),
    Fault(
        "bridge paused",
        _SESSION | {"suspended"},
        _pause_bridge,
        # The longest is beyond soketi's 120 s and its buffers.
        _soak(4, *5 * [(2, 10)], *3 * [(2, 40)], (2, 150)),
    ),
    Fault("killed under load", _CRASH, _kill_ready, _kills(8, (0.05, 3))),
    # The broker is paused, so that batches are written when the bridge is dead.
    Fault("killed in a batch", _CRASH, _kill_in_a_batch, _kills(4, (0.02, 0.8))),
    # Whether what was under way has been written is not known.
    Fault("killed without Kafka", _CRASH, _kill_without_kafka, _kills(2, (0.02, 1.5))),
    Fault("killed at its start", _CRASH, _end_bridge(), _kills(4, (0, 1.5))),
    # Within the quiet time, the reading of the log or the first sending.
    Fault("killed in resuming", _CRASH, _kill_started, _kills(4, (0, 3))),
    Fault("killed in stopping", _CRASH | _STOP, _kill_stopping, _kills(2, (0.2, 1.5))),
    Fault("ended by SIGTERM", _STOP, _stop, _kills(3, (0.05, 1.5))),
    # Kafka's faults cost no event.
    Fault("kafka killed", _NOTHING, _fail_brokers("kill"), _soak(2, (5, 30))),
    Fault("kafka stopped", _NOTHING, _fail_brokers("stop"), _soak(2, (5, 30))),
    Fault("kafka paused", _NOTHING, _fail_brokers("pause"), _soak(1, (5, 30))),
    # It keeps a session away that something else has ended.
    Fault("auth 500", _REFUSED, _fail_auth(500), _soak(2, (1, 30))),
    Fault("auth 401", _REFUSED, _fail_auth(401), _soak(1, (1, 30))),
    Fault("auth 403", _REFUSED, _fail_auth(403), _soak(1, (1, 30))),
    # It answers about jobs, and brings no event.
    Fault("status fails", _NOTHING, _fail_status, _draw("healing", 1, (3, 12))),
    # Of three brokers.
    Fault("in-turn", _NOTHING, _kill_brokers_in_turn, _brokers(_SETTLE_SECONDS)),
    Fault("all-away", _NOTHING, _fail_brokers("kill"), _brokers(60)),
    Fault("two-stopped", _NOTHING, _fail_brokers("stop", 1, 2), _brokers(30)),
    Fault("frozen", _NOTHING, _fail_brokers("pause", 2), _brokers(30)),
    # The only replica of some partitions.
    Fault("leaderless", _NOTHING, _fail_brokers("kill", 2), _brokers(30), 1, 1),
    Fault("frozen-leader", _NOTHING, _fail_brokers("pause", 2), _brokers(30), 1, 1),
    # Three must be in sync.
    Fault("few-insync", _NOTHING, _fail_brokers("stop", 1), _brokers(30), in_sync=3),
)

# Faults of one lane follow each other, lanes run side by side: the time between two
# faults, and what fails. The means of a soak are chosen so that the bridge receives
# more than half of what is emitted, and that one fault in four meets another. In
# `healing` two gaps at once would be one; some begin while the one before is being
# healed, and the status endpoint fails at the end of one gap in three.
_LANES: Mapping[str, Sequence[tuple[_Ranges, str]]] = {
    "soak": [
        ([(12, 108)], "soketi"),
        ([(12, 108)], "network"),
        ([(16, 144)], "bridge"),
        ([(15, 135)], "kafka"),
        ([(24, 216)], "auth"),
    ],
    "healing": [([(2, 8), (8, 25)], "soketi network bridge"), ([(8, 25)], "status")],
}


# -- Chance ---------------------------------------------------------------


def named(name: str) -> Fault:
    """Give a row by its name."""
    (found,) = [fault for fault in FAULTS if fault.name == name]
    return found


def drawn_by(command: str) -> list[Fault]:
    """Give the rows that a command draws."""
    return [fault for fault in FAULTS if command in fault.draws]


def choose(
    command: str, random: Random, faults: Sequence[Fault]
) -> tuple[Fault, float]:
    """Choose a fault by a command's weights, and its duration."""
    (fault,) = random.choices(faults, [fault.draws[command][0] for fault in faults])
    return fault, random.uniform(*random.choice(fault.draws[command][1]))


async def strike(
    course: Course, fault: Fault, random: Random, seconds: float
) -> Happened:
    """Let a fault happen, and note it."""
    with (
        trio.CancelScope(shield=course.faults_finish),
        course.during(fault.name, fault.causes) as happened,
    ):
        happened.up = await fault.act(course, random, seconds)
    return happened


async def run_lanes(course: Course, command: str, seed: int) -> None:
    """Let faults happen until cancelled; each undoes what it did."""
    async with trio.open_nursery() as nursery:
        for calm, failing in _LANES[command]:
            words = failing.split()
            faults = [f for f in drawn_by(command) if f.name.split()[0] in words]
            random = Random(f"{seed}/{failing}")
            nursery.start_soon(_run_lane, course, command, calm, faults, random)


async def _run_lane(
    course: Course, command: str, calm: _Ranges, faults: Sequence[Fault], random: Random
) -> None:
    while True:
        await trio.sleep(random.uniform(*random.choice(calm)))
        # Its own chance: what it draws must not depend on how long it takes.
        own = Random(random.getrandbits(64))
        fault, seconds = choose(command, own, faults)
        # A bridge that has ended by itself is started in a second.
        if not fault.name.startswith("bridge") or course.bridge.running:
            await strike(course, fault, own, seconds)


async def supervise(course: Course) -> None:
    """Start a bridge that ended by itself, until cancelled."""
    while True:
        await trio.sleep(_LOOK_SECONDS)
        if course.down_on_purpose or course.bridge.running:
            continue
        # A start that the auth endpoint refuses ends by design.
        with course.during("bridge ended", _STOP | _CRASH):
            code = await course.bridge.wait_exit()
            # It may have asked before the endpoint was well again.
            least = time.time() - _REFUSED_SECONDS
            refused = any(
                fault.name in {"auth 401", "auth 403"}
                and (fault.ended is None or fault.ended >= least)
                for fault in course.faults
            )
            if code != 3 or not refused:
                sentences = " ".join(course.bridge.sentences)
                course.findings.append(f"it ended with {code}: {sentences}")
            await trio.sleep(_RESTART_SECONDS)
            if not course.down_on_purpose:
                course.bridge.start()
