"""What is read out of the answers of sandbox and bridge."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests.local_run.endpoints import Bridge, BridgeNumbers, EndpointError, Sandbox


_METRICS = """\
# TYPE bridge_events_received_total counter
bridge_events_received_total{client_id="a"} 120.0
bridge_events_received_total{client_id="b"} 3.0
# TYPE bridge_records_published_total counter
bridge_records_published_total{topic="jobs"} 121.0
bridge_records_published_total{topic="jobs.dlq"} 2.0
bridge_records_published_total{topic="jobs.gaps"} 4.0
# TYPE bridge_dlq_records_total counter
bridge_dlq_records_total{reason="not_json"} 2.0
bridge_dlq_records_total{reason="too_large"} 0.0
# TYPE bridge_outbox_rows gauge
bridge_outbox_rows 7.0
# TYPE bridge_outbox_held gauge
bridge_outbox_held 2.0
# TYPE bridge_rows_published_total counter
bridge_rows_published_total{kind="event",origin="socket"} 117.0
bridge_rows_published_total{kind="event",origin="webhook"} 3.0
bridge_rows_published_total{kind="event",origin="status-endpoint"} 1.0
# TYPE bridge_gaps_total counter
bridge_gaps_total{cause="first_start",client_id="a"} 1.0
bridge_gaps_total{cause="disconnected",client_id="a"} 2.0
bridge_gaps_total{cause="deaf",client_id="a"} 1.0
# TYPE bridge_rows_dead_lettered_total counter
bridge_rows_dead_lettered_total{kind="event",origin="webhook"} 1.0
"""


class Answers(BaseHTTPRequestHandler):
    """Answers by path, and keeps what was posted."""

    pages: ClassVar[dict[str, str]] = {
        "/metrics": _METRICS,
        "/sandbox/statistics": json.dumps(
            {"events_emitted": 42, "rate": 20.0, "webhooks": {"open": 3}}
        ),
        "/sandbox/emission": "{}",
    }
    posted: ClassVar[list[tuple[str, object]]] = []

    def do_GET(self) -> None:
        """Answer with the path's page, or 503."""
        page = self.pages.get(self.path)
        self.send_response(200 if page is not None else 503)
        self.end_headers()
        self.wfile.write((page or "").encode())

    def do_POST(self) -> None:
        """Keep the body and answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((self.path, json.loads(body)))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """A server's port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_bridges_numbers_are_sums_over_labels(port: int) -> None:
    """Accounts, topics and reasons add up; records of gaps are no events."""
    assert Bridge(port).numbers() == BridgeNumbers(
        read=123, published=123, dead_letters=2, waiting=9, healed=5, gaps=3
    )


def test_the_sandbox_is_asked_and_told(port: int) -> None:
    """Its count is read, and its rate is posted."""
    sandbox = Sandbox(port)
    assert sandbox.answers()
    assert sandbox.emitted() == 42
    assert sandbox.webhooks_under_way() == 3
    sandbox.emit(12.5)
    sandbox.emit(0)
    assert Answers.posted[-2:] == [
        ("/sandbox/emission", {"rate": 12.5}),
        ("/sandbox/emission", {"rate": 0}),
    ]


def test_what_does_not_answer_is_told(port: int) -> None:
    """An error status and a closed port are the same to the caller."""
    with pytest.raises(EndpointError, match="readyz"):
        Bridge(port).is_ready()
    with pytest.raises(EndpointError, match="statistics"):
        Sandbox(1).answers()  # nobody listens on tcpmux
