"""The board as a process on a real Kafka: its page shows what the topics hold."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.board.records import preview
from tests.board.test_command import Board, command, produce
from tests.browser.conftest import Open
from tests.browser.scenes import preview_of
from tests.conftest import Topic
from tests.consumer.letters import Sent, sent, write
from tests.consumer.test_gaps import value as gap_value
from tests.kit.kafka import KafkaServer


# For a start of a broker; all cores may be busy.
_PATIENCE_SECONDS = 40.0


@pytest.fixture
def real_board(topic: Topic) -> Iterator[Board]:
    """A board of the topic, as a process."""
    running = Board(command(topic))
    yield running
    assert running.end(signal.SIGTERM)[0] == 0


@pytest.mark.timeout(120)
def test_what_the_topics_hold_is_seen(
    own_kafka: KafkaServer, topic: Topic, real_board: Board, open_page: Open
) -> None:
    """Jobs, an error, a dead letter, a gap, and Kafka's absence."""
    page = open_page(real_board.address)
    page.wait_state("Live", _PATIENCE_SECONDS)
    produce(topic, "fine", "in_progress", progress="45.50", preview=preview())
    card = page.card("fine")
    expect(card.locator(".percent")).to_have_text("45 %")
    produce(topic, "fine", "in_progress", preview=preview(preview_of(6)))
    expect(card.locator("img")).to_have_count(1)
    assert card.locator("img").evaluate("(image) => image.naturalWidth") > 0
    produce(topic, "fine", "done", result_url="https://r.example/a.png")
    expect(card.locator(".word")).to_have_text("Done")
    produce(topic, "bad", "error", error_code="OOM", error_message="<b>no memory</b>")
    error = page.card("bad").locator(".error")
    expect(error).to_have_text("OOM: <b>no memory</b>")

    write(topic, [sent(b"<b>dancing</b>", "not_json")], name=topic.dead_letter)
    reason = page.find("#reasons li")
    expect(reason).to_have_count(1)
    reason.locator("summary").click()
    expect(reason.locator(".text")).to_have_text("<b>dancing</b>")
    write(topic, [Sent(gap_value("gap-1", until=None), b"c", {})], name=topic.gaps)
    expect(page.find("#gaps-summary")).to_contain_text("1 open")
    expect(page.find("tbody tr").first).to_have_attribute("data-kind", "open")
    page.check_accessible()

    own_kafka.stop()
    page.wait_state("Kafka unavailable", _PATIENCE_SECONDS)
    expect(page.find("#notice")).to_contain_text("Kafka has been unavailable since")
    assert page.find(".card").count() == 2
    own_kafka.start()
    page.wait_state("Live", _PATIENCE_SECONDS)
    expect(page.find("#notice")).to_be_empty()
