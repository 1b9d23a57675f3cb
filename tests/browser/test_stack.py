"""The board on the real stack: what happens to the servers is seen in the browser."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.screenshots import take
from tests.browser.stack import Stack, stack
from tests.browser.watched import MARKER, Watched
from tests.conftest import Topic
from tests.kit.kafka import KafkaServer
from tests.kit.soketi import SoketiServer


# A job's life, a restart of each server, and their starts; all cores may be busy.
pytestmark = pytest.mark.timeout(300)

# For what goes through all of it and waits for a restart on its way.
_PATIENCE_MS = 40_000

_STEPS = 8

_WATCH_MS = 25_000

_SCRIPT = f"window.{MARKER} = 1; alert(1)"

# Collects what a card shows, in the order in which it does.
_FOLLOW = """(card) => {
  const seen = window.seen = [];
  const look = () => {
    const image = card.querySelector("img");
    const version = Number(image?.src.split("?v=")[1] ?? 0);
    if (version && version !== seen.at(-1)) seen.push(version);
  };
  look();
  new MutationObserver(look).observe(card, { childList: true, subtree: true });
}"""


def _a_job_sharpens_and_is_done(made: Stack, page: Watched) -> None:
    """A job appears, its preview gets sharper, it ends as done."""
    job_id = made.start_job(steps=_STEPS, seconds=0.7, fails=False)
    card = page.card(job_id)
    expect(card.locator(".word")).to_have_text("In progress", timeout=_PATIENCE_MS)
    card.evaluate(_FOLLOW)
    expect(card.locator("progress")).to_be_visible()
    expect(card.locator(".word")).to_have_text("Done", timeout=_PATIENCE_MS)
    expect(card.locator(".took")).to_contain_text("in ")
    expect(card.locator("img")).to_have_count(1)

    seen = page.ask("window.seen")
    assert len(seen) >= 3, f"too few pictures: {seen}"
    assert seen == sorted(seen)
    assert card.locator("img").evaluate("(image) => image.naturalWidth") > 0


def _another_ends_as_error(made: Stack, page: Watched) -> None:
    """A job's failure is reported by its webhook, with the reason."""
    card = page.card(made.start_job(steps=2, seconds=0.3, fails=True))
    expect(card.locator(".word")).to_have_text("Error", timeout=_PATIENCE_MS)
    expect(card.locator(".error")).to_be_visible()
    expect(card.locator(".origin")).to_have_text("from a webhook")


def _a_dead_letter_appears(made: Stack, page: Watched) -> None:
    """An unknown status is shown as a dead letter, as it was sent."""
    expect(page.find("#dead-letters-summary")).to_have_text("none")
    made.publish({"request_id": "unknown", "status": "<b>dancing</b>"})
    reason = page.find("#reasons li")
    expect(reason).to_have_count(1, timeout=_PATIENCE_MS)
    reason.locator("summary").click()
    expect(reason.locator(".text")).to_contain_text("<b>dancing</b>")
    reason.locator("summary").click()


def _a_hostile_job_is_harmless(made: Stack, page: Watched) -> None:
    """A job whose every text is script, with an SVG as preview, is shown as text."""
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" onload="{_SCRIPT}"/>'
    address = f"data:image/svg+xml;base64,{b64encode(drawing.encode()).decode()}"
    job_id = f'"><img src=x onerror="{_SCRIPT}">'
    made.publish(
        {
            "request_id": job_id,
            "status": "in_progress",
            "preview": address,
            "result_url": f"javascript:{_SCRIPT}",
            "progress": "50.00",
        }
    )
    card = page.card(job_id)
    expect(card.locator(".percent")).to_have_text("50 %", timeout=_PATIENCE_MS)
    expect(card.locator(".blank")).to_contain_text("No preview")
    expect(card.locator("a")).to_be_hidden()
    made.publish({"request_id": job_id, "status": "done", "progress": "100.00"})
    expect(card.locator(".word")).to_have_text("Done", timeout=_PATIENCE_MS)
    page.check()


def _soketi_restarts(page: Watched, soketi: SoketiServer) -> None:
    """The gap opens while soketi is away, closes when it is back, and is settled."""
    before = page.find("tbody tr").count()
    soketi.kill()
    gap = page.find("tbody tr").first
    expect(gap).to_have_attribute("data-kind", "open", timeout=_PATIENCE_MS)
    expect(gap).to_contain_text("disconnected")
    expect(page.find("#gaps-summary")).to_contain_text("1 open")
    soketi.start()
    expect(page.find("#gaps-summary")).not_to_contain_text("open", timeout=_PATIENCE_MS)
    expect(page.find("tbody tr")).to_have_count(before + 1)
    # Each of its jobs continues, ends by a webhook, or is asked for.
    expect(gap).not_to_contain_text("recovering", timeout=_PATIENCE_MS)


def _kafka_goes_and_comes(page: Watched, kafka: KafkaServer) -> None:
    """While Kafka is away the page says so, and keeps what it has."""
    cards = page.find(".card").count()
    kafka.stop()
    page.wait_state("Kafka unavailable", _PATIENCE_MS / 1000)
    expect(page.find("#notice")).to_contain_text("Kafka has been unavailable since")
    assert page.find(".card").count() >= cards
    kafka.start()
    page.wait_state("Live", _PATIENCE_MS / 1000)
    expect(page.find("#notice")).to_be_empty()


@pytest.fixture
def jobs_topic(own_kafka: KafkaServer) -> Iterator[Topic]:
    """The topics by the names that everybody gives them, for the pictures."""
    made = Topic("jobs", "jobs.dlq", "jobs.gaps", 3, own_kafka.bootstrap_servers)
    own_kafka.create_topic(made.name, made.partitions)
    own_kafka.create_topic(made.dead_letter, 1)
    own_kafka.create_topic(made.gaps, 1)
    yield made
    own_kafka.start()  # should the test have ended while it was away
    own_kafka.delete_topics(made.name, made.dead_letter, made.gaps)


def test_what_happens_is_seen(
    own_kafka: KafkaServer,
    own_soketi: SoketiServer,
    jobs_topic: Topic,
    tmp_path: Path,
    open_page: Open,
) -> None:
    """Jobs, an error, a dead letter, a gap, and Kafka's absence, from end to end."""
    with stack(tmp_path, own_kafka, own_soketi, jobs_topic) as made:
        page = open_page(made.url)
        page.wait_state("Live", _PATIENCE_MS / 1000)
        expect(page.find("#empty")).to_contain_text("No job on the topic")
        _a_job_sharpens_and_is_done(made, page)
        _another_ends_as_error(made, page)
        _a_hostile_job_is_harmless(made, page)
        _a_dead_letter_appears(made, page)
        made.emit(20)
        expect(page.find(".card")).not_to_have_count(3, timeout=_PATIENCE_MS)
        _soketi_restarts(page, own_soketi)
        page.check_accessible()
        # So that the lines of the figures have something to show.
        page.page.wait_for_timeout(_WATCH_MS)
        _another_ends_as_error(made, page)
        take(page.page)
        made.emit(0)
        _kafka_goes_and_comes(page, own_kafka)
        job_id = made.start_job(steps=2, seconds=0.3, fails=False)
        card = page.card(job_id)
        expect(card.locator(".word")).to_have_text("Done", timeout=_PATIENCE_MS)
        page.check()
