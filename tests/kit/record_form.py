"""Whether one record has the form of its topic: schemas, CloudEvents, bridge headers.

It imports nothing of the bridge. What records say together is for `tests.kit.judge`.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import jsonschema

from tests.kit.expected import Expected, Kind, ReadTopic
from tests.kit.reader import Record


_SCHEMAS = Path(__file__).parents[2] / "schemas"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# A process's random name, and that process's counter.
CE_ID = re.compile(rb"([0-9a-f]{16})-([1-9][0-9]*)")

_MARKS = ("bridge_anomaly", "bridge_normalized")
_TRUNCATION = ("bridge_truncated", "bridge_original_size", "bridge_sha256")
_REFUSAL = tuple(
    f"bridge_refused_{name}" for name in ("topic", "partition", "sequence", "ce_id")
)

_HEADERS = {
    Kind.JOBS: "job-status-headers",
    Kind.DEAD_LETTERS: "dead-letter-headers",
    Kind.GAPS: "gap-headers",
    Kind.PREVIEWS: "preview-headers",
}
_VALUES = {Kind.JOBS: "job-status", Kind.GAPS: "gap"}


class Form:
    """The form of one topic's records: schemas, CloudEvents, the bridge's headers."""

    def __init__(self, topic: ReadTopic, expected: Expected) -> None:
        self._kind = topic.kind
        self._expected = expected
        self._secrets = [text.encode() for text in expected.secrets]
        schema = _schema(_HEADERS[topic.kind])
        optional = {*expected.headers, *_MARKS, *_TRUNCATION, *_REFUSAL}
        optional |= {"bridge_replayed_from", "bridge_replayed_ce_id"}
        # A missing subject is for `_key`.
        self._known = {*schema["required"], *optional, "ce_subject"}
        self._headers = jsonschema.Draft202012Validator(schema)
        values = _VALUES.get(topic.kind)
        self._values = (
            None if values is None else jsonschema.Draft202012Validator(_schema(values))
        )

    def check(self, record: Record) -> tuple[list[str], Mapping[str, Any] | None]:
        """Give what is wrong with a record, and its value if the rest can be judged."""
        found = list(self._secret(record))
        try:
            headers = {name: text.decode() for name, text in record.headers.items()}
        except UnicodeDecodeError as error:
            return [*found, f"a header isn't text: {error}"], None
        broken = [
            f"headers: {each.message}" for each in self._headers.iter_errors(headers)
        ]
        if not broken and not CE_ID.fullmatch(record.headers["ce_id"]):
            broken.append(f"ce_id {headers['ce_id']!r} has another form")
        value, wrong = self._value(record, headers)
        broken += wrong
        if broken:
            return found + broken, None
        found += self._own(headers)
        found += self._key(record, headers, value)
        moment = datetime.fromisoformat(headers["ce_time"])
        if record.timestamp != (moment - _EPOCH) // timedelta(milliseconds=1):
            found.append(f"timestamp {record.timestamp}, not that of ce_time")
        return found, value

    def _secret(self, record: Record) -> Iterator[str]:
        texts = [record.key or b"", record.value or b""]
        texts += [
            part
            for name, text in record.headers.items()
            for part in (name.encode(), text)
        ]
        for secret in self._secrets:
            if any(secret in text for text in texts):
                yield "it contains a secret"

    def _value(
        self, record: Record, headers: Mapping[str, str]
    ) -> tuple[Mapping[str, Any], list[str]]:
        """Decode a value by its topic's schema."""
        if record.value is None:
            return {}, ["a tombstone"]
        if self._values is None:
            return {}, list(_digest(self._kind, record.value, headers))
        content, kind = record.value, "application/json"
        if self._expected.framed:
            if content[:1] != b"\0":
                return {}, ["it has no prefix of a Schema Registry"]
            content, kind = content[5:], "application/octet-stream"
        if headers.get("content-type") != kind:
            return {}, [f"content-type is not {kind}"]
        try:
            value = json.loads(
                content, object_pairs_hook=_unique, parse_constant=_no_number
            )
        except ValueError as error:
            return {}, [f"value: {error}"]
        wrong = [f"value: {each.message}" for each in self._values.iter_errors(value)]
        return value, wrong

    def _own(self, headers: Mapping[str, str]) -> Iterator[str]:
        """Judge headers by what the scene expects."""
        expected = self._expected
        for name in sorted(headers.keys() - self._known):
            yield f"an unexpected header {name}"
        for name in _MARKS:
            words = set(headers.get(name, "").split(",")) - {""}
            for word in sorted(words.difference(expected.marks)):
                yield f"an unexpected mark {word}"
        if headers["bridge_origin"] not in expected.origins:
            yield f"an unexpected origin {headers['bridge_origin']}"
        outbox = headers["bridge_outbox"]
        if outbox != str(uuid.UUID(outbox)):
            yield f"an outbox of another form, {outbox}"
        if headers["ce_source"] not in (expected.sources or {headers["ce_source"]}):
            yield f"an unexpected source {headers['ce_source']}"
        for names in (_TRUNCATION, _REFUSAL):
            if 0 < len(headers.keys() & set(names)) < len(names):
                yield f"only some of {', '.join(names)}"
        if ("bridge_refused_topic" in headers) != (
            headers.get("bridge_reason") == "refused_by_broker"
        ):
            yield "refused_by_broker and bridge_refused_topic do not go together"

    def _key(
        self, record: Record, headers: Mapping[str, str], value: Mapping[str, Any]
    ) -> Iterator[str]:
        """The key is the subject, and that is the job or the account."""
        subject = headers.get("ce_subject")
        if record.key != (None if subject is None else subject.encode()):
            yield f"its key is {record.key!r}, its subject {subject!r}"
        if self._kind is Kind.JOBS and value["request_id"] != subject:
            yield f"its subject is {subject!r}, its job {value['request_id']!r}"
        if self._kind is Kind.GAPS:
            if value["client_id"] != subject:
                yield f"its subject is {subject!r}, its account {value['client_id']!r}"
            if not headers["ce_source"].endswith(f"/clients/{subject}"):
                yield f"its source is {headers['ce_source']}"


def _digest(kind: Kind, value: bytes, headers: Mapping[str, str]) -> Iterator[str]:
    if kind is Kind.PREVIEWS:
        digest = hashlib.sha256(value).hexdigest()
        if headers.get("bridge_preview_sha256") != digest:
            yield f"its digest is {digest}"


def _schema(name: str) -> Any:
    return json.loads((_SCHEMAS / f"{name}.schema.json").read_text())


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        message = "a name occurs twice"
        raise ValueError(message)
    return members


def _no_number(text: str) -> NoReturn:
    message = f"{text} isn't a number"
    raise ValueError(message)
