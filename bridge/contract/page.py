"""
The contract as a page for people, made of the AsyncAPI document.

Owns the page's layout alone: every sentence about a topic, a header or a member comes
from the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from bridge.contract.asyncapi import FILE_NAME


__all__ = ["PAGE_NAME", "build_page"]

PAGE_NAME: Final = "contract-reference.md"

_HEAD: Final = f"""\
# Topics, headers and values

<!-- Written by `make schemas` from schemas/{FILE_NAME}: change the types, not this. -->

The contract of this version, as a page. [{FILE_NAME}](../schemas/{FILE_NAME}) is the
same for programs. [Contract](contract.md) says what may change, and what won't.
"""

# Longer patterns say less than the words beside them.
_SHOWN_PATTERN: Final = 40


def build_page(document: dict[str, Any]) -> str:
    """
    Make the page's text.

    Args:
        document: The AsyncAPI document, decoded.

    Returns:
        Markdown, with a newline at its end.
    """
    channels = [
        _resolved(document, channel) for channel in document["channels"].values()
    ]
    blocks = [_HEAD, document["info"]["description"], _overview(channels)]
    for channel in channels:
        blocks += _section(channel)
    return "\n".join(blocks)


def _resolved(document: dict[str, Any], value: Any) -> Any:
    """Put what a reference names in its place, all the way down."""
    if isinstance(value, list):
        return [_resolved(document, item) for item in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if reference is None:
        return {name: _resolved(document, item) for name, item in value.items()}
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return _resolved(document, found)


def _overview(channels: list[dict[str, Any]]) -> str:
    rows = [
        (
            f"`{channel['address']}`",
            channel["summary"],
            _message(channel)["bindings"]["kafka"]["key"]["description"],
        )
        for channel in channels
    ]
    return _table(("topic", "a record", "key"), rows)


def _message(channel: dict[str, Any]) -> dict[str, Any]:
    """Give the channel's kind of record: each has one."""
    (message,) = channel["messages"].values()
    assert isinstance(message, dict)
    return message


def _section(channel: dict[str, Any]) -> Iterator[str]:
    message = _message(channel)
    kafka = channel["bindings"]["kafka"]
    made = [f"partitions: {kafka['partitions']}", f"replicas: {kafka['replicas']}"]
    for name, value in kafka["topicConfiguration"].items():
        text = ",".join(value) if isinstance(value, list) else value
        made.append(f"`{name}={text}`")
    yield f"## {channel['address']}\n"
    yield f"{channel['description']}\n"
    yield f"{message['description']} {message['correlationId']['description']}\n"
    yield f"Where the bridge creates it, by default: {', '.join(made)}.\n"
    yield f"### Headers of {channel['address']}\n"
    yield _members(message["headers"], "header")
    yield f"### Value of {channel['address']}\n"
    payload = message["payload"]
    if "properties" in payload:
        yield _members(payload, "member")
    else:
        yield f"{payload['description']}\n"
    yield f"### Examples of {channel['address']}\n"
    for example in message["examples"]:
        yield _shown(example)


def _members(schema: dict[str, Any], head: str) -> str:
    always = set(schema["required"])
    rows = [
        (
            f"`{name}`",
            "yes" if name in always else "",
            _form(member),
            member["description"],
        )
        for name, member in schema["properties"].items()
    ]
    return _table((head, "always", "form", "meaning"), rows)


def _form(schema: dict[str, Any]) -> str:
    """Say in few words what may stand there."""
    if "anyOf" in schema:
        return " or ".join(_form(part) for part in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{word}`" for word in schema["enum"])
    said = [str(schema["type"])]
    if "format" in schema:
        said.append(schema["format"])
    elif len(schema.get("pattern", "")) in range(1, _SHOWN_PATTERN):
        said.append(f"`{schema['pattern']}`")
    if "maxLength" in schema:
        said.append(f"at most {schema['maxLength']} characters")
    if "minimum" in schema:
        said.append(f"at least {schema['minimum']}")
    return ", ".join(said)


def _shown(example: dict[str, Any]) -> str:
    lines = [f"{name}: {text}" for name, text in example["headers"].items()]
    payload = example["payload"]
    if not isinstance(payload, str):
        payload = json.dumps(payload, indent=2, ensure_ascii=False)
    text = "\n".join([*lines, "", payload])
    return f"{example['summary']}\n\n```text\n{text}\n```\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = [head, ("---",) * len(head), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n"
        for row in cells
    )
