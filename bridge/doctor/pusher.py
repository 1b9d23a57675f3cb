"""
The way to the Pusher server: name, TCP, TLS, upgrade, and its greeting.

Owns one connection and hands it to the accounts. What codes mean stands in
`bridge.pusher.closing`.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit

import trio

from bridge.doctor.branch import Branch, Found
from bridge.doctor.conversation import Conversation
from bridge.doctor.network import Place, connect, resolve, secure, unanswered_name
from bridge.doctor.remedies import ProblemError, problem_of, sentence
from bridge.errors import BridgeError, ConfigError, ExitCode, SessionError
from bridge.pusher import outgoing
from bridge.pusher.closing import Verdict
from bridge.pusher.ending import Ending
from bridge.pusher.protocol import Established
from bridge.pusher.websocket import connect_websocket
from bridge.settings import Settings


__all__ = ["problem_of_ending", "pusher_branch", "walk_pusher"]

_SETTING: Final = "pusher.url (BRIDGE_PUSHER_URL)"
_REMEDY: Final = (
    f"See that {_SETTING} names dryAPI's Pusher server, and that no proxy or load"
    " balancer between answers in its place"
)
_HANDSHAKE_SECONDS: Final = 3.0


def pusher_branch(settings: Settings, end: float) -> Branch:
    """Give the branch to the server."""
    parts = urlsplit(settings.pusher.url)
    steps = ["pusher.dns", "pusher.tcp", "pusher.handshake"]
    if parts.scheme == "wss":
        steps.insert(2, "pusher.tls")
    silence = {
        "pusher.dns": unanswered_name(_SETTING),
        "pusher.tcp": ProblemError(
            "packets are lost on the way",
            f"See that a firewall or network policy lets this machine out to"
            f" {_SETTING}",
        ),
        "pusher.tls": ProblemError("it takes connections and says nothing", _REMEDY),
    }
    return Branch(str(_place(parts)), steps, end, silence)


def _place(parts: SplitResult) -> Place:
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    return Place(
        parts.hostname or "",
        port,
        _SETTING,
        "pusher.ca_file (BRIDGE_PUSHER_CA_FILE)",
        f"if it is meant to speak none, begin {_SETTING} with ws://",
    )


async def walk_pusher(
    branch: Branch,
    settings: Settings,
    tls: ssl.SSLContext,
    then: Callable[[Conversation, Established], Awaitable[None]],
) -> None:
    """
    Go to the server and greet it.

    Args:
        branch: Where its steps are noted.
        settings: All settings.
        tls: Whom to trust.
        then: What is done over the connection; it raises nothing of its own.
    """
    parts = urlsplit(settings.pusher.url)
    place = _place(parts)
    with branch:
        with branch.step("pusher.dns") as found:
            await resolve(place, found)
        with branch.step("pusher.tcp") as found:
            stream = await connect(place, found)
        try:
            if parts.scheme == "wss":
                with branch.step("pusher.tls") as found:
                    await secure(stream, place, tls, found)
        finally:
            await trio.aclose_forcefully(stream)
        await _shake_hands(branch, settings, tls, then)


async def _shake_hands(
    branch: Branch,
    settings: Settings,
    tls: ssl.SSLContext,
    then: Callable[[Conversation, Established], Awaitable[None]],
) -> None:
    opening = trio.CancelScope(deadline=branch.until(_HANDSHAKE_SECONDS))
    conversation = None
    try:
        with opening:
            url = outgoing.url(settings.pusher.url, settings.pusher.app_key)
            async with connect_websocket(
                url, max_message_bytes=settings.pusher.max_message_bytes, tls=tls
            ) as connection:
                conversation = Conversation(connection)
                greeting = await conversation.greeting()
                if isinstance(greeting, Ending):
                    branch.fail("pusher.handshake", problem_of_ending(greeting))
                    return
                found = Found()
                found.detail = (
                    "the app key is known; the server wants a ping every"
                    f" {greeting.activity_timeout_seconds:g} s"
                )
                branch.passed("pusher.handshake", found)
                opening.deadline = branch.until(float("inf"))
                await then(conversation, greeting)
    except (ConfigError, SessionError) as error:
        if not branch.has("pusher.handshake"):
            branch.fail("pusher.handshake", _problem_of_error(error))
    if opening.cancelled_caught and not branch.has("pusher.handshake"):
        said = f"no greeting within {_HANDSHAKE_SECONDS:g} s"
        if conversation is None:
            problem = ProblemError(
                f"no answer to the upgrade within {_HANDSHAKE_SECONDS:g} s: it takes"
                " connections and says nothing",
                _REMEDY,
            )
        else:
            problem = problem_of_ending(conversation.last_words.unanswered(said))
        branch.fail("pusher.handshake", problem)


def _problem_of_error(error: BridgeError) -> ProblemError:
    problem = problem_of(error)
    return ProblemError(problem.detail, problem.remedy or _REMEDY, problem.exit_code)


def problem_of_ending(ending: Ending) -> ProblemError:
    """Tell of a connection's end what it means at a start."""
    code = "" if ending.code is None else str(ending.code)
    told = "" if code in ending.message else f", {code}"
    remedy = _REMEDY
    if ending.advice:
        remedy = sentence(ending.advice)
    elif ending.code is not None and 4000 <= ending.code < 4300:
        remedy = "It may pass: the bridge tries again. If it stays, ask dryAPI"
    is_final = ending.verdict is Verdict.TERMINAL
    return ProblemError(
        f"{ending.message}{told}",
        remedy,
        ExitCode.REFUSED_BY_DRYAPI if is_final else ExitCode.FAILED,
    )
