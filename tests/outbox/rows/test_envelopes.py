"""An envelope stands in the file once, however many objects say the same."""

from __future__ import annotations

from pathlib import Path

from bridge.record import Envelope, Record
from tests.outbox.making import append, open_jobs, read_all, stored


def _enveloped(source: str) -> Record:
    envelope = Envelope(source, "a.type", "socket", "application/json")
    return Record("jobs", b"k", b"v", 1, envelope)


def test_equal_envelopes_are_one(tmp_path: Path) -> None:
    """Ten thousand objects of two kinds are two envelopes, and little memory."""
    path = tmp_path / "outbox.sqlite3"
    records = [_enveloped(f"source-{number % 2}") for number in range(10_000)]
    with stored(path) as store:
        open_jobs(store)
        append(store, records)
        assert len(store._envelopes.by_number) == 2
        assert len(store._envelopes.number_by_id) <= 1024
    with stored(path) as store:
        open_jobs(store)
        append(store, [_enveloped("source-1"), _enveloped("source-2")])
        sources = [row.envelope.ce_source for row in read_all(store)]
        assert len(store._envelopes.by_number) == 3
    assert sources[:10_000] == [record.envelope.ce_source for record in records]
    assert sources[10_000:] == ["source-1", "source-2"]
