"""What stands on a topic, judged against the design and against what was published.

Owns the claims that every end-to-end test makes of a topic: once, in order, dense,
typed. It imports nothing of the bridge: the claims must not be the bridge's own.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import trio

from tests.kit.broker import KafkaBroker
from tests.kit.reader import Record, read_topic


__all__ = [
    "by_key",
    "check_dense",
    "check_exactly",
    "check_job_records",
    "check_prefixes",
    "read",
]

_SCHEMAS = Path(__file__).parents[2] / "schemas"

_READ_SECONDS = 30.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_CE_ID = re.compile(r"[0-9a-f]{16}-[1-9][0-9]*")

# Every record on `jobs` carries these and no others, as long as nothing had to be
# changed.
_JOB_HEADERS = {
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_subject",
    "content-type",
    "bridge_outbox",
    "bridge_sequence",
    "bridge_origin",
}


async def read(
    kafka: KafkaBroker, topic: str, expected: int | None = None
) -> list[Record]:
    """Read a topic to its end with confluent-kafka; see `read_topic`."""
    return await trio.to_thread.run_sync(
        read_topic, kafka.bootstrap_servers, topic, expected, _READ_SECONDS
    )


def by_key(records: Sequence[Record]) -> dict[str, list[bytes]]:
    """Give the values of each key in the order of its partition."""
    found: dict[str, list[bytes]] = defaultdict(list)
    places: dict[str, int] = {}
    for record in records:
        assert record.key is not None
        assert record.value is not None
        key = record.key.decode()
        assert places.setdefault(key, record.partition) == record.partition
        found[key].append(record.value)
    return dict(found)


def check_exactly(
    records: Sequence[Record], accepted: Mapping[str, Sequence[bytes]]
) -> None:
    """Every accepted event stands there once, in order per key, and nothing else."""
    found = by_key(records)
    assert found.keys() == accepted.keys()
    for key, values in accepted.items():
        assert found[key] == values
    check_dense(records)


def check_prefixes(
    records: Sequence[Record], accepted: Mapping[str, Sequence[bytes]]
) -> None:
    """Of each job, what was read before some moment stands there, and no more."""
    for key, values in by_key(records).items():
        assert values == accepted[key][: len(values)]
    check_dense(records)


def check_dense(records: Sequence[Record]) -> None:
    """Each partition's sequence goes 1, 2, 3, ..., and no identity comes twice."""
    last: dict[tuple[bytes, int], int] = defaultdict(int)
    for record in records:
        lane = record.headers["bridge_outbox"], record.partition
        last[lane] += 1
        assert record.headers["bridge_sequence"] == b"%d" % last[lane]
    identities = [record.headers["ce_id"] for record in records]
    assert len(set(identities)) == len(identities)


def check_job_records(
    records: Sequence[Record], *, ce_source: str, outbox: str
) -> None:
    """Every record has the designed key, headers, time and a value by the schema."""
    schema = json.loads((_SCHEMAS / "job-status.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for record in records:
        assert record.value is not None
        value = json.loads(record.value)
        validator.validate(value)
        headers = {name: text.decode() for name, text in record.headers.items()}
        assert headers.keys() == _JOB_HEADERS
        assert record.key == value["request_id"].encode()
        assert headers["ce_subject"] == value["request_id"]
        assert headers["ce_specversion"] == "1.0"
        assert headers["ce_type"] == "dev.dryapi.request.status.updated"
        assert headers["ce_source"] == ce_source
        assert headers["content-type"] == "application/json"
        assert headers["bridge_origin"] == "socket"
        assert headers["bridge_outbox"] == str(uuid.UUID(outbox))
        assert _CE_ID.fullmatch(headers["ce_id"])
        assert _CE_TIME.fullmatch(headers["ce_time"])
        moment = datetime.fromisoformat(headers["ce_time"])
        assert record.timestamp == (moment - _EPOCH) // timedelta(milliseconds=1)
