"""
The JSON Schemas of what the bridge writes, made from its types.

Owns the list of published schemas and their shape on disk. What a record holds is
said where its type stands; nothing of it is repeated here.

    python -m bridge.schemas            writes schemas/
    python -m bridge.schemas --check    says what is stale and exits 1
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bridge.job_status import JobStatusRecord
from bridge.recovery.gap import GapCause, GapRecord


__all__ = ["PUBLISHED", "PublishedSchema", "build", "main"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

# Keywords in the order in which a reader wants them; others follow by name.
_KEYWORD_ORDER: Final = (
    "$schema",
    "$id",
    "$ref",
    "title",
    "description",
    "type",
    "enum",
    "pattern",
    "minimum",
    "minLength",
    "maxLength",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "examples",
    "$defs",
)


class PublishedSchema(msgspec.Struct, frozen=True):
    """
    One file of `schemas/`.

    Attributes:
        file_name: Its name there.
        urn: Its `$id`; the number at its end changes with an incompatible change.
        title: What a documentation page calls it.
        record: The type that says what is in it.
        examples: Records of that type.
    """

    file_name: str
    urn: str
    title: str
    record: type[msgspec.Struct]
    examples: tuple[msgspec.Struct, ...]


_OPENED: Final = GapRecord(
    gap_id="5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11",
    cause=GapCause.OUTBOX_FULL.value,
    client_id="client-42",
    since="2026-01-31T12:00:00.000000Z",
    until=None,
    duration_seconds=None,
    close_code=None,
    jobs_in_flight=None,
)
_CLOSED: Final = {"until": "2026-01-31T12:00:07.250000Z", "duration_seconds": 7.25}

PUBLISHED: Final = (
    PublishedSchema(
        file_name="job-status.schema.json",
        urn="urn:dryapi-kafka-bridge:job-status:1",
        title="Job status",
        record=JobStatusRecord,
        examples=(
            JobStatusRecord(
                request_id="123e4567-e89b-12d3-a456-426614174000",
                status="in_progress",
                preview="data:image/jpeg;base64,/9j/4AAQSkZJRg==",
                result_url=None,
                progress="45.50",
            ),
            JobStatusRecord(
                request_id="123e4567-e89b-12d3-a456-426614174000",
                status="done",
                preview=None,
                result_url="https://storage.dryapi.dev/results/1.png?signature=abc",
                progress="100.00",
            ),
            JobStatusRecord(
                request_id="9b2f61d0-7c1e-4c55-8f0b-6d7f3a0a2c11",
                status="error",
                preview=None,
                result_url=None,
                progress=None,
                error_code="WORKER_TIMEOUT",
                error_message="The worker did not answer in time.",
            ),
        ),
    ),
    PublishedSchema(
        file_name="gap.schema.json",
        urn="urn:dryapi-kafka-bridge:gap:1",
        title="Gap",
        record=GapRecord,
        examples=(_OPENED, msgspec.structs.replace(_OPENED, **_CLOSED)),
    ),
)


def build(published: PublishedSchema) -> str:
    """
    Make the text of one schema.

    Args:
        published: Which one.

    Returns:
        Indented JSON in a fixed order, with a newline at its end.
    """
    generated = msgspec.json.schema(published.record)
    definitions = generated["$defs"]
    # msgspec names the record's own definition and refers to it; a reader of the
    # file wants it at the root.
    root = definitions.pop(published.record.__name__)
    root |= {
        "$schema": _DIALECT,
        "$id": published.urn,
        "title": published.title,
        # A docstring's lines are broken for an editor; paragraphs stay.
        "description": "\n\n".join(
            " ".join(paragraph.split())
            for paragraph in root["description"].split("\n\n")
        ),
        "additionalProperties": True,
        "examples": [msgspec.to_builtins(example) for example in published.examples],
    }
    if definitions:
        root["$defs"] = definitions
    return json.dumps(_ordered(root), indent=2, ensure_ascii=False) + "\n"


def _ordered(schema: dict[str, Any]) -> dict[str, Any]:
    """Order the keywords of a schema and of those in it; members keep theirs."""
    ordered: dict[str, Any] = {}
    for keyword in sorted(schema, key=_rank):
        value = schema[keyword]
        if keyword in {"properties", "$defs"}:
            value = {name: _ordered(member) for name, member in value.items()}
        elif keyword == "anyOf":
            value = [_ordered(member) for member in value]
        ordered[keyword] = value
    return ordered


def _rank(keyword: str) -> tuple[int, str]:
    known = keyword in _KEYWORD_ORDER
    return (_KEYWORD_ORDER.index(keyword) if known else len(_KEYWORD_ORDER)), keyword


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Write the schemas, or check that those on disk are what would be written.

    Args:
        arguments: The command line without the program's name; None for the
            process's own.

    Returns:
        The exit code: 1 if `--check` found something stale.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bridge.schemas", description="Write the JSON Schemas."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if one is stale"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("schemas"),
        help="where they stand (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    stale = False
    for published in PUBLISHED:
        path = directory / published.file_name
        text = build(published)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            stale = True
            sys.stdout.write(f"{path} is stale: run `make schemas`\n")
        else:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            sys.stdout.write(f"{path} written\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
