"""The command that writes `schemas/` and their page, or reports stale files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bridge.schemas.asyncapi import INTRODUCTION, TOPICS, Topic, build_document
from bridge.schemas.json_schema import SCHEMAS, Schema, as_text, text_of


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bridge.schemas",
        description="Write schemas/ and docs/contract-reference.md.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with 1 if a file is stale",
    )
    is_check = parser.parse_args().check
    files = {f"schemas/{name}.schema.json": text_of(name) for name in SCHEMAS}
    files["schemas/asyncapi.json"] = as_text(build_document())
    files["docs/contract-reference.md"] = "\n".join(_page())
    stale = []
    for name, text in files.items():
        path = Path(name)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if is_check:
            stale.append(f"{name} is stale: run `make schemas`\n")
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.writelines(stale)
    return 1 if stale else 0


# -- The page --------------------------------------------------------------------------

# Longer patterns say less than the words beside them.
_LONGEST_PATTERN = 40


def _page() -> Iterator[str]:
    """Write what the AsyncAPI document says, in Markdown, part by part."""
    yield (
        "# Topics, headers and values\n\n"
        "<!-- Written by `make schemas`. -->\n\n"
        "[asyncapi.json](../schemas/asyncapi.json) is the same for programs."
        " [Contract](contract.md) says what may change, and what won't.\n"
    )
    yield INTRODUCTION
    rows = [(f"`{one.name}`", one.summary, one.key["description"]) for one in TOPICS]
    yield _table(("topic", "a record", "key"), rows)
    for topic in TOPICS:
        yield from _section(topic)


def _section(topic: Topic) -> Iterator[str]:
    of_value = SCHEMAS.get(topic.value)
    names = [topic.headers] if of_value is None else [topic.value, topic.headers]
    links = [f"[{name}](../schemas/{name}.schema.json)" for name in names]
    yield f"## {topic.name}\n\n{topic.description}\n"
    yield f"JSON Schema: {' and '.join(links)}.\n"
    yield f"### Headers of {topic.name}\n"
    yield _members("header", SCHEMAS[topic.headers])
    yield f"### Value of {topic.name}\n"
    yield f"{topic.value}\n" if of_value is None else _members("member", of_value)
    yield f"### Examples of {topic.name}\n"
    for _, summary, headers, value in topic.records():
        lines = [f"{name}: {text}" for name, text in headers.items()]
        lines += ["", value if of_value is None else json.dumps(value, indent=2)]
        text = "\n".join(lines)
        yield f"{summary}\n\n```text\n{text}\n```\n"


def _members(kind: str, schema: Schema) -> str:
    rows = [
        (
            f"`{name}`",
            "yes" if name in schema["required"] else "",
            _form(member),
            member["description"],
        )
        for name, member in schema["properties"].items()
    ]
    return _table((kind, "always", "form", "meaning"), rows)


def _form(schema: dict[str, Any]) -> str:
    """Describe in few words what is valid."""
    if "anyOf" in schema:
        return " or ".join(map(_form, schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        words = schema.get("enum") or [schema["const"]]
        return ", ".join(f"`{word}`" for word in words)
    parts = [str(schema["type"])]
    if "format" in schema:
        parts.append(schema["format"])
    elif 0 < len(schema.get("pattern", "")) < _LONGEST_PATTERN:
        parts.append(f"`{schema['pattern']}`")
    if "maxLength" in schema:
        parts.append(f"at most {schema['maxLength']} characters")
    if "minimum" in schema:
        parts.append(f"at least {schema['minimum']}")
    return ", ".join(parts)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = [head, ("---",) * len(head), *rows]
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in cells]
    return "".join(f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(_main())
