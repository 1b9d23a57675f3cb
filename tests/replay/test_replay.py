"""A replay against a real Kafka: what goes, how it looks, and what stays."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import trio
from confluent_kafka.admin import AclOperation

from bridge.consumer import replay, replay_outbox
from bridge.consumer.dead_letters import as_letter
from bridge.consumer.replay import Shaped, shaper
from bridge.settings import KafkaSettings, OutboxSettings, Settings
from tests.consumer.letters import (
    NOW_MS,
    SOURCE,
    Sent,
    consumed,
    payload,
    sent,
)
from tests.consumer.topics import report_on
from tests.kafka.security.granting import least
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.guest import Guest
from tests.kit.secure_kafka import SecureKafka
from tests.replay.scene import Scene


def numeric(job: str, status: str = "in_progress") -> bytes:
    """A payload that a version which takes strings alone for progress refuses."""
    return json.dumps(
        {"request_id": job, "status": status, "progress": 45.5, "preview": None}
    ).encode()


async def test_a_letter_that_can_be_read_now_becomes_a_record(scene: Scene) -> None:
    """As the bridge would write it, and marked with where it comes from."""
    await scene.write(sent(numeric("job-1"), key="job-1", ce_id="a-1"))
    assert await scene.outcomes() == {"replayed": 1}
    records = await scene.read()
    (record,) = records
    assert record.key == b"job-1"
    assert record.value is not None
    assert json.loads(record.value) == {
        "request_id": "job-1",
        "status": "in_progress",
        "preview": None,
        "result_url": None,
        "progress": "45.50",
    }
    assert record.timestamp == NOW_MS
    headers = dict(record.headers)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW_MS // 1000))
    assert headers.pop("ce_time").decode() == f"{moment}.000123Z"
    assert headers.pop("bridge_outbox") != b"0b6f4c5e-0000-4000-8000-000000000001"
    assert headers.pop("ce_id") != b"a-1"
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_source": SOURCE.encode(),
        "ce_type": b"dev.dryapi.request.status.updated",
        "ce_subject": b"job-1",
        "content-type": b"application/json",
        "bridge_sequence": b"1",
        "bridge_origin": b"replay",
        "bridge_normalized": b"missing_field,progress_number",
        "bridge_anomaly": b"replayed",
        "bridge_replayed_from": f"{scene.topic.dead_letter}-0@0".encode(),
        "bridge_replayed_ce_id": b"a-1",
    }
    # The letter itself stays.
    assert len(await scene.read(scene.topic.dead_letter)) == 1


async def test_each_kind_of_letter_has_its_outcome(scene: Scene) -> None:
    """What stays is counted by why it does, and what is invalid by its new reason."""
    refused = {"bridge_refused_topic": scene.topic.name.encode()}
    await scene.write(
        sent(payload("job-1"), "not_json"),
        sent(b"no JSON", "not_json"),
        sent(b"\xff\xfe", "not_json"),
        sent(b'{"status": "done"}', "missing_request_id"),
        sent(payload("job-2"), "after_terminal", key="job-2"),
        sent(b"\x89PNG", "invalid_preview", key="job-3"),
        sent(b'{"request', "too_large", more={"bridge_truncated": b"true"}),
        sent(payload("job-4"), "refused_by_broker", key="job-4", more=refused),
        sent(b'{"request_id": "job-7", "status": "asleep"}', "too_deep"),
        sent(payload("job-5"), "too_pretty"),
        Sent(payload("job-6")),
        Sent(None),
    )
    done = await scene.replay()
    assert {outcome.value: n for outcome, n in done.outcomes.items() if n} == {
        "replayed": 1,
        "still_invalid": 4,
        "after_terminal": 1,
        "invalid_preview": 1,
        "truncated": 1,
        "refused_by_broker": 1,
        "unknown_reason": 1,
        "foreign": 2,
    }
    assert done.invalid == {
        "not_json": 2,
        "missing_request_id": 1,
        "unknown_status": 1,
    }
    assert done.outcomes.total() == 12
    (record,) = await scene.read()
    assert (record.key, record.value) == (b"job-1", payload("job-1"))


async def test_no_mixture_of_runs_replays_a_letter_twice(scene: Scene) -> None:
    """Narrowed runs and whole ones, whatever stood where, and one letter twice."""
    old_ms = NOW_MS - 3_600_000
    await scene.write(
        sent(payload("job-1"), "not_json", ce_id="a-1"),
        sent(payload("job-2"), "invalid_field", ce_id="a-2", timestamp_ms=old_ms),
        sent(payload("job-3"), "invalid_field", ce_id="a-3"),
        sent(payload("job-3"), "invalid_field", ce_id="a-3"),
    )
    assert await scene.outcomes(reason="not_json") == {"replayed": 1, "not_chosen": 3}
    # The old one follows a younger one.
    assert await scene.outcomes(since_ms=NOW_MS - 1_800_000) == {
        "already_replayed": 2,
        "replayed": 1,
        "not_chosen": 1,
    }
    assert await scene.outcomes() == {"already_replayed": 3, "replayed": 1}
    await scene.write(sent(payload("job-4"), ce_id="a-4"))
    assert await scene.outcomes() == {"already_replayed": 4, "replayed": 1}
    assert await scene.sources() == dict.fromkeys((b"a-1", b"a-2", b"a-3", b"a-4"), 1)
    assert (await report_on(scene.topic)).clean


async def test_a_replay_whose_outbox_is_gone_repeats_nothing(scene: Scene) -> None:
    """The records themselves say which letters they come from."""
    await scene.write(
        sent(payload("job-1", "processing"), ce_id="a-1"),
        sent(payload("job-2", "processing"), ce_id="a-2"),
    )
    assert await scene.outcomes(reason="invalid_field") == {"replayed": 2}
    elsewhere = OutboxSettings(dir=scene.folder / "other")
    await scene.write(sent(payload("job-3"), ce_id="a-3"))
    assert await scene.outcomes(scene.settings(outbox=elsewhere)) == {
        "already_replayed": 2,
        "replayed": 1,
    }
    assert await scene.sources() == {b"a-1": 1, b"a-2": 1, b"a-3": 1}


async def test_a_job_that_went_on_is_left_alone(scene: Scene) -> None:
    """Its last record stays its last, and it makes no step back."""

    def on_topic(job: str, status: str, at_ms: int, *, prefix: bytes = b"") -> Sent:
        moment = sent(b"", timestamp_ms=at_ms).headers["ce_time"]
        value = prefix + payload(job, status)
        return Sent(value, job.encode(), {"ce_time": moment}, at_ms)

    await scene.write(
        on_topic("ended", "done", NOW_MS - 60_000),
        on_topic("framed", "done", NOW_MS, prefix=b"\0\0\0\0\7"),
        on_topic("ahead", "in_progress", NOW_MS + 1000),
        on_topic("behind", "in_progress", NOW_MS - 1000),
        on_topic("ahead-of-its-end", "in_progress", NOW_MS + 1000),
        name=scene.topic.name,
    )
    await scene.write(
        *(
            sent(numeric(job, status), key=job)
            for job, status in (
                ("ended", "done"),
                ("framed", "in_progress"),
                ("ahead", "in_progress"),
                ("behind", "in_progress"),
                ("ahead-of-its-end", "error"),
                # Two of a job that the topic doesn't know, and one behind its end.
                ("new", "processing"),
                ("new", "done"),
                ("new", "in_progress"),
            )
        )
    )
    assert await scene.outcomes() == {"overtaken": 4, "replayed": 4}
    replayed = [
        (record.key, json.loads(record.value or b"")["status"])
        for record in await scene.read()
        if "bridge_replayed_from" in record.headers
    ]
    assert sorted(replayed) == [
        (b"ahead-of-its-end", "error"),
        (b"behind", "in_progress"),
        (b"new", "done"),
        (b"new", "processing"),
    ]


async def test_many_jobs_are_replayed_part_by_part(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept in memory of jobs has a bound; all of them go, in their order."""
    monkeypatch.setattr(replay, "JOBS_AT_ONCE", 10)
    monkeypatch.setattr("bridge.kafka.reader.RUN_RECORDS", 7)
    monkeypatch.setattr(replay, "BATCH_BYTES", 300)
    steps = ("processing", "in_progress", "done")
    await scene.write(
        *(sent(numeric(f"job-{n}", step)) for step in steps for n in range(40)),
    )
    assert await scene.outcomes() == {"replayed": 120}
    found: dict[bytes, list[str]] = {}
    for record in await scene.read():
        status = json.loads(record.value or b"")["status"]
        found.setdefault(record.key or b"", []).append(status)
    assert len(found) == 40
    assert all(statuses == [*steps] for statuses in found.values())
    assert (await report_on(scene.topic)).clean
    assert await scene.outcomes() == {"already_replayed": 120}


async def test_what_the_broker_refused_goes_when_it_is_asked_for(scene: Scene) -> None:
    """With what had been changed of it before, which its new record says too."""
    letter = sent(
        payload("job-1"),
        "refused_by_broker",
        key="job-1",
        more={
            "bridge_refused_topic": scene.topic.name.encode(),
            "bridge_normalized": b"progress_number",
        },
    )
    of_gaps = {"bridge_refused_topic": scene.topic.gaps.encode()}
    await scene.write(letter, sent(b"{}", "refused_by_broker", more=of_gaps))
    untouched = {"refused_by_broker": 1, "other_topic": 1}
    assert await scene.outcomes() == untouched
    chosen = await scene.outcomes(reason="refused_by_broker")
    assert chosen == {"replayed": 1, "other_topic": 1}
    (record,) = await scene.read()
    assert record.headers["bridge_normalized"] == b"progress_number"


def shape(letter: Sent, **more: object) -> Shaped | str:
    """Make what a bridge with the usual settings makes of a letter."""
    settings = Settings(outbox=OutboxSettings(dir=Path("/nowhere")), **more)  # type: ignore[arg-type]
    return shaper(settings, "jobs.dlq")(as_letter(consumed(letter, offset=7)))


def test_halves_of_pairs_are_repaired_as_on_the_socket() -> None:
    """A dead letter keeps them as bytes that UTF-8 doesn't have."""
    text = '{"request_id": "job-1", "status": "done", "note": "\ud800"}'
    shaped = shape(sent(text.encode("utf-8", "surrogatepass")))
    assert isinstance(shaped, Shaped)
    (record,) = shaped.records
    assert "\ufffd" in record.value.decode()
    assert dict(record.extra)["bridge_normalized"] == b"invalid_unicode,missing_field"


def test_a_preview_of_its_own_is_marked_as_well() -> None:
    """Both records say which letter they come from."""
    pixel = (
        "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    )
    event = payload("job-1", "in_progress", preview=pixel)
    shaped = shape(sent(event, ce_id="a-1"), previews="topic")
    assert isinstance(shaped, Shaped)
    assert [record.topic for record in shaped.records] == ["jobs.previews", "jobs"]
    for record in shaped.records:
        assert dict(record.extra)["bridge_replayed_ce_id"] == b"a-1"


@pytest.mark.timeout(90)
@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
async def test_a_replay_needs_what_the_bridge_needs_of_two_topics(
    secure: SecureKafka,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    delivery: str,
) -> None:
    """Without one of them it ends with the sentence that names what to grant."""
    topic = topic_of(secure)
    secure.create_topic(topic.dead_letter, 1)
    scene = Scene(topic, tmp_path)
    await scene.write(*(sent(payload(f"job-{n}")) for n in range(20)))
    guest = await trio.to_thread.run_sync(Guest, secure)
    rights = [one for one in least(topic.name, delivery) if one.name != topic.gaps]
    (write,) = [
        one
        for one in rights
        if (one.name, one.operation) == (topic.name, AclOperation.WRITE)
    ]
    await trio.to_thread.run_sync(
        guest.allow, *(one for one in rights if one is not write)
    )
    quick = {"resume_quiet_seconds": 0.1}
    kafka = KafkaSettings(**{**guest.settings(), **quick})  # type: ignore[arg-type]
    settings = scene.settings(delivery=delivery, kafka=kafka)
    monkeypatch.setattr(replay_outbox, "STALLED_SECONDS", 1.0)
    done = await scene.replay(settings)
    assert done.waiting == 20
    assert "Grant the user Write on the topic" in str(done.trouble)
    monkeypatch.undo()
    await trio.to_thread.run_sync(guest.allow, write)
    assert await scene.outcomes(settings) == {"already_replayed": 20}
    assert len(await scene.read()) == 20
