"""The command that writes `schemas/` and the generated parts of their page."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bridge.generated import table, write_or_check
from bridge.schemas.asyncapi import INTRODUCTION, TOPICS, Topic, build_document
from bridge.schemas.json_schema import SCHEMAS, Schema, as_text, text_of


_PAGE = Path("docs/consume/records.md")
_PART = re.compile(
    r"(<!-- Generated: (.+?)\. [^\n]*-->\n).*?(<!-- End -->\n)", re.DOTALL
)

# What a cell of a table can show.
_LONGEST_PATTERN = 40
_LONGEST_CELL = 100


def _page() -> str:
    """Return the page with its generated parts as the schemas have them."""
    parts = {
        "topics": _topics(),
        "every record": _members("header", "", _common(TOPICS)),
        "events": _members("header", "", _less(_common(_EVENTS), _common(TOPICS))),
        **{topic.name: "\n".join(_section(topic)) for topic in TOPICS},
    }
    text = _PART.sub(
        lambda found: f"{found[1]}\n{parts.pop(found[2])}\n{found[3]}",
        _PAGE.read_text(encoding="utf-8"),
    )
    assert not parts, f"{_PAGE} has no part for {', '.join(parts)}"
    return text


def _topics() -> str:
    rows = [(f"`{one.name}`", one.summary, one.key["description"]) for one in TOPICS]
    return f"{INTRODUCTION}\n" + table(("topic", "a record", "key"), rows)


# The topics whose records are made from an event.
_EVENTS = tuple(topic for topic in TOPICS if topic.name != "jobs.gaps")


def _common(topics: Sequence[Topic]) -> Schema:
    """Return what the headers of these topics have in common."""
    first, *others = (SCHEMAS[topic.headers] for topic in topics)
    return {
        "required": first["required"],
        "properties": {
            name: member
            for name, member in first["properties"].items()
            if all(other["properties"].get(name) == member for other in others)
            and len({name in one["required"] for one in (first, *others)}) == 1
        },
    }


def _less(schema: Schema, *others: Schema) -> Schema:
    """Return a schema without the members of others."""
    known = {name for other in others for name in other["properties"]}
    members = {n: m for n, m in schema["properties"].items() if n not in known}
    return schema | {"properties": members}


def _section(topic: Topic) -> Iterator[str]:
    of_value = SCHEMAS.get(topic.value)
    yield f"{topic.description}\n"
    if of_value is None:
        yield f"Value: {topic.value[0].lower()}{topic.value[1:]}\n"
    else:
        yield _members("member", "of the value", of_value)
    common = [_common(TOPICS), *([_common(_EVENTS)] if topic in _EVENTS else [])]
    yield _members("header", "", _less(SCHEMAS[topic.headers], *common))
    if of_value is not None:
        _, summary, example, value = next(topic.records())
        headers = "\n".join(f"{name}: {text}" for name, text in example.items())
        text = f"{headers}\n\n{json.dumps(value, indent=2)}"
        yield f"{summary}\n\n```text\n{text}\n```\n"


def _members(kind: str, whose: str, schema: Schema) -> str:
    rows = [
        (
            f"`{name}`",
            # Every header is a string.
            _form(member).removeprefix("string, " if kind == "header" else "")
            + ("" if name in schema["required"] else ", optional"),
            member["description"],
        )
        for name, member in schema["properties"].items()
    ]
    return table((f"{kind} {whose}".strip(), "form", "meaning"), rows)


def _form(schema: dict[str, Any]) -> str:
    """Describe in few words what is valid."""
    if "anyOf" in schema:
        return " or ".join(map(_form, schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        words = schema.get("enum") or [schema["const"]]
        text = ", ".join(f"`{word}`" for word in words)
        return text if len(text) <= _LONGEST_CELL else f"one of {len(words)} values"
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


if __name__ == "__main__":
    files = {Path(f"schemas/{name}.schema.json"): text_of(name) for name in SCHEMAS}
    files[Path("schemas/asyncapi.json")] = as_text(build_document())
    sys.exit(write_or_check(files | {_PAGE: _page()}, "make schemas"))
