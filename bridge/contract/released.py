"""
The schemas that releases of the bridge have promised, and whether they still hold.

Owns `schemas/released/`: a folder for each release, with the schemas as they were.
What makes two schemas compatible is `compatibility`'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bridge.contract.compatibility import breaches


__all__ = ["FOLDER", "broken_promises", "named"]

FOLDER: Final = "released"


def broken_promises(folder: Path, current: Mapping[str, str]) -> Iterator[str]:
    """
    Find what the schemas of now allow, and a release with the same number didn't.

    Args:
        folder: `schemas/released/`.
        current: The texts of now, by the file's name.

    Yields:
        A line for people each.
    """
    for path in sorted(folder.glob("*/*.schema.json")):
        release = f"{path.parent.name}/{path.name}"
        older = _read(path.read_text(encoding="utf-8"))
        text = current.get(path.name)
        if text is None:
            yield f"{release}: no schema is called so any more"
            continue
        newer = _read(text)
        number, was = named(newer)[1], named(older)[1]
        if number < was:
            yield f"{release}: it had the number {was}, and now it is {number}"
        elif number == was:
            # A Schema Registry's subject may be called after it, see `registry`.
            if newer["title"] != older["title"]:
                title, before = newer["title"], older["title"]
                yield f"{release}: its title was {before!r}, now it is {title!r}"
            for breach in breaches(newer, older):
                yield f"{release}: {breach}"


def named(schema: Mapping[str, Any]) -> tuple[str, int]:
    """Give the name and the number that a schema's `$id` ends with."""
    name, number = schema["$id"].split(":")[-2:]
    return name, int(number)


def _read(text: str) -> dict[str, Any]:
    schema = json.loads(text)
    assert isinstance(schema, dict)
    return schema
