"""A collector that is away, or takes and says nothing: nobody waits for it."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from contextlib import closing

import pytest
import trio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: TID251 - its thread is to end here
    OTLPSpanExporter,
)
from opentelemetry.sdk.trace.export import SpanExporter  # noqa: TID251 - likewise

from bridge.events.record import Envelope, Record
from bridge.operations import logs
from bridge.text import hide
from bridge.tracing import secrets_in
from bridge.tracing.sdk import Tracing


_CANARY = "canary7d1f"
_ENVELOPE = Envelope("https://api.dryapi.dev/clients/42", "type", "socket", "json")

# More than the queue holds, so that some must go.
_EVENTS = 5_000


def _end(exporter: SpanExporter, before: set[threading.Thread]) -> None:
    """Let the exporter's thread go, which a process that ends leaves behind."""
    exporter.shutdown()
    for thread in set(threading.enumerate()) - before:
        # Those that trio keeps for later stay.
        if thread.name.startswith("Otel"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("listens", [False, True])
async def test_nobody_waits_for_a_collector(
    listens: bool,  # noqa: FBT001 - a parameter
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events go on at once, the log tells it in a few lines, a stop is soon over."""
    out = io.StringIO()
    logs.configure("json", "debug", out)
    with closing(socket.socket()) as port:
        port.bind(("127.0.0.1", 0))
        if listens:
            # It never answers: nobody accepts what connects.
            port.listen(8)
        environ = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": (
                f"http://127.0.0.1:{port.getsockname()[1]}/?token={_CANARY}"
            ),
            "OTEL_BSP_SCHEDULE_DELAY": "10",
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        for text in secrets_in(environ):
            hide(text)
        before = set(threading.enumerate())
        exporter = OTLPSpanExporter()
        tracing = Tracing("bridge-1", exporter)
        taken: list[Record] = []
        offer = tracing.offering(taken.extend)
        longest = 0.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tracing.run)
            for number in range(_EVENTS // 10):
                began = time.monotonic()
                offer([Record("jobs", b"job-1", b"{}", number + 1, _ENVELOPE)] * 10)
                longest = max(longest, time.monotonic() - began)
                await trio.lowlevel.checkpoint()
            # Its exporter has tried once, and waits to try again.
            await trio.sleep(0.3)
            ending = time.monotonic()
            nursery.cancel_scope.cancel()
        # One that is silent would be waited for for 10 s.
        assert time.monotonic() - ending < 8
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    _end(exporter, before)
    assert len(taken) == _EVENTS
    # Far below what a connection to it would wait.
    assert longest < 5
    assert len(lines) < 10
    # One that is silent is given up after 10 s, and told then.
    assert lines or listens
    assert {line["level"] for line in lines} <= {"warning", "error"}
    assert _CANARY not in out.getvalue()
