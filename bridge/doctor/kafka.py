"""
The way to Kafka: each address, its brokers, then topics, sizes and rights.

What is asked is in `bridge.kafka.probe` and `bridge.kafka.topics`, what topics must be
like in `bridge.kafka.topic_checks`. Here it becomes lines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

import trio

from bridge.doctor.branch import Branch
from bridge.doctor.network import Place, branch_to, reached
from bridge.doctor.remedies import ProblemError, problem_of, split
from bridge.doctor.topics import Told, Topic, tell_writing
from bridge.errors import ExitCode, KafkaError
from bridge.kafka.loop import run_in_thread
from bridge.kafka.probe import Knock, knock, places_of
from bridge.kafka.security import tls_context
from bridge.kafka.topic_checks import report
from bridge.kafka.topics import survey, topic_needs
from bridge.settings import KafkaSettings, Settings


__all__ = ["Cluster"]

_SETTING: Final = "kafka.bootstrap_servers (BRIDGE_KAFKA_BOOTSTRAP_SERVERS)"
_PROTOCOL: Final = "kafka.security_protocol (BRIDGE_KAFKA_SECURITY_PROTOCOL)"
_REMEDY: Final = f"See that {_SETTING} names brokers, and {_PROTOCOL} is theirs"
_REFUSED: Final = ExitCode.REFUSED_BY_KAFKA

# A broker answers within milliseconds, a new one within a second.
_KNOCK_SECONDS: Final = 2.0
_TOPICS_SECONDS: Final = 6.0


class Cluster:
    """
    The cluster, as it is found step by step.

    Args:
        settings: All settings.
        end: When the check ends (trio's clock).
    """

    def __init__(self, settings: Settings, end: float) -> None:
        self._settings = settings
        self._kafka = kafka = settings.kafka
        self._needs = topic_needs(settings)
        steps = ["kafka.broker"]
        if _has_sasl(kafka):
            steps.append("kafka.sasl")
        self._servers = [
            branch_to(place, "kafka", steps, end, _REMEDY, _REFUSED)
            for place in _places(kafka)
        ]
        silence = dict.fromkeys(
            ("kafka.brokers", "kafka.lookup"),
            ProblemError(
                "a broker takes requests and says nothing",
                "See to the brokers' logs",
            ),
        )
        self._brokers = Branch("", ["kafka.brokers"], end, silence, _REFUSED)
        self._looking = Branch("", ["kafka.lookup"], end, silence, _REFUSED)
        self._topics = [Topic(name, end) for name in self._needs]
        steps = ["kafka.producer"]
        if settings.delivery == "transactional":
            steps.append("kafka.transactions")
        self._writing = Branch("", steps, end, None, _REFUSED)
        self._known: frozenset[tuple[str, int]] = frozenset()

    @property
    def branches(self) -> Iterable[Branch]:
        """All of it, in walking order."""
        yield from self._servers
        yield self._brokers
        yield self._looking
        for topic in self._topics:
            yield from topic.branches
        yield self._writing

    async def walk(self, outbox_id: Callable[[], Awaitable[str | None]]) -> None:
        """Go there; `outbox_id` gives that after which transactional ids are named."""
        places = _places(self._kafka)
        async with trio.open_nursery() as nursery:
            for branch, place in zip(self._servers, places, strict=True):
                nursery.start_soon(self._reach, branch, place)
        failed = [branch for branch in self._servers if branch.failed]
        if len(failed) == len(self._servers):
            self._leave(failed[0].failed)
            return
        for branch in failed:
            branch.soften("others of the list answer")
        await self._reach_others({(place.host, place.port) for place in places})
        if self._brokers.failed:
            self._leave(self._brokers.failed)
            return
        await self._look(outbox_id)

    def _leave(self, why: str | None) -> None:
        for branch in (self._brokers, self._looking, self._writing):
            branch.failed = branch.failed or why
        for topic in self._topics:
            topic.leave(why)

    # -- Addresses ----------------------------------------------------------------

    async def _reach(self, branch: Branch, place: Place) -> None:
        kafka = self._kafka
        with branch:
            async with reached(branch, "kafka", place, lambda: tls_context(kafka)):
                pass
            await self._sign_in(branch, place)

    async def _sign_in(self, branch: Branch, place: Place) -> None:
        kafka = self._kafka
        # Two questions, and a moment for their thread.
        seconds = 2 * _KNOCK_SECONDS + 0.5
        with branch.step("kafka.broker", seconds) as found:
            answer = await _knock(kafka, place.host, place.port)
            error = answer.error
            if error is not None and answer.is_tls and branch.has("kafka.tls"):
                branch.blame("kafka.tls", problem_of(error))
            if error is not None and not answer.is_sign_in:
                raise await _no_broker(place, error)
            found.detail = (
                "speaks Kafka"
                if answer.is_asked
                else "takes connections; without a token it isn't asked"
            )
        if _has_sasl(kafka):
            with branch.step("kafka.sasl") as found:
                if error is not None:
                    raise error
                found.detail = f"let in with {kafka.sasl_mechanism}"
        self._known |= answer.brokers

    async def _reach_others(self, first: set[tuple[str, int]]) -> None:
        """Knock at the addresses that the brokers send their clients on to."""
        others = sorted(self._known - first)
        problems: dict[str, KafkaError] = {}

        async def try_one(host: str, port: int) -> None:
            answer = await _knock(self._kafka, host, port)
            if answer.error is not None:
                problems[f"{host}:{port}"] = answer.error

        seconds = 2 * _KNOCK_SECONDS + 0.5
        with self._brokers as branch, branch.step("kafka.brokers", seconds) as found:
            async with trio.open_nursery() as nursery:
                for host, port in others:
                    nursery.start_soon(try_one, host, port)
            if problems:
                raise _sent_astray(problems)
            count = len(self._known)
            found.detail = "the one broker answers" if count == 1 else f"{count} answer"

    # -- Topics and rights --------------------------------------------------------

    async def _look(self, outbox_id: Callable[[], Awaitable[str | None]]) -> None:
        id_prefix = None
        if self._settings.delivery == "transactional":
            # As `transactional` names them; without an outbox the rest isn't known yet.
            own = await outbox_id()
            id_prefix = f"{self._kafka.client_id}."
            if own is not None:
                id_prefix += f"{own}."
        told: Told | None = None
        asking = partial(survey, self._kafka, self._needs, id_prefix, _TOPICS_SECONDS)
        # A moment for the question's thread.
        seconds = _TOPICS_SECONDS + 1.0
        with self._looking as branch, branch.step("kafka.lookup", seconds) as found:
            looked_up, rights = await run_in_thread(asking)
            findings = report(looked_up, self._needs, self._kafka)
            told = Told(self._kafka, looked_up, findings, rights)
            there, wanted = len(looked_up.facts), len(self._needs)
            found.detail = f"{there} of {wanted} topics are there"
        if told is None:
            self._leave(self._looking.failed)
            return
        for topic in self._topics:
            topic.tell(told)
        with self._writing as branch:
            tell_writing(branch, told.rights, id_prefix)


def _sent_astray(problems: Mapping[str, KafkaError]) -> ProblemError:
    told = "; ".join(
        f"{where}: {split(str(error))[0]}" for where, error in sorted(problems.items())
    )
    return ProblemError(
        f"the brokers send their clients on to {told}",
        "Set the brokers' advertised.listeners to addresses that this machine reaches,"
        f" or {_SETTING} to a listener whose addresses it does",
    )


def _places(kafka: KafkaSettings) -> list[Place]:
    plainly = f"if it is meant to speak none, set {_PROTOCOL} to " + (
        "SASL_PLAINTEXT" if _has_sasl(kafka) else "PLAINTEXT"
    )
    is_tls = kafka.security_protocol in {"SSL", "SASL_SSL"}
    ca_setting = "kafka.ssl_ca_file (BRIDGE_KAFKA_SSL_CA_FILE)"
    return [
        Place(host, port, is_tls, _SETTING, ca_setting, plainly)
        for host, port in places_of(kafka)
    ]


async def _knock(kafka: KafkaSettings, host: str, port: int) -> Knock:
    return await run_in_thread(partial(knock, kafka, host, port, _KNOCK_SECONDS))


def _has_sasl(kafka: KafkaSettings) -> bool:
    return kafka.security_protocol.startswith("SASL_")


async def _no_broker(place: Place, error: KafkaError) -> ProblemError:
    if await _is_web_server(place):
        return ProblemError("a web server (HTTP) answers, and no broker", _REMEDY)
    return problem_of(error)


async def _is_web_server(place: Place) -> bool:
    """Ask, without any secret, in HTTP."""
    answer = b""
    with trio.move_on_after(0.5):
        try:
            async with await trio.open_tcp_stream(place.host, place.port) as stream:
                await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
                answer = await stream.receive_some(5)
        except (OSError, trio.BrokenResourceError):
            pass
    return answer == b"HTTP/"
