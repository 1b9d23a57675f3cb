"""
Whether whoever was promised an older schema can read what a newer one allows.

Owns the comparison of two schemas: each record that is valid under the newer one must
be valid under the older. Keywords are compared one by one, and what can't be proved is
reported as a breach: a false alarm costs a look, the opposite costs a consumer. Which
versions are compared is `released`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec


__all__ = ["Breach", "breaches"]

# They say something of a schema and nothing of a record.
_WORDS_ALONE: Final = frozenset(
    {
        "$schema",
        "$id",
        "$defs",
        "$comment",
        "title",
        "description",
        "examples",
        "default",
        "deprecated",
    }
)

# Of a newer schema these decide what its other keywords mean, so that an unknown one
# among them makes the rest unknown too. Any other keyword only forbids more.
_STRUCTURE: Final = frozenset({"patternProperties", "prefixItems", "$dynamicRef"})

_LOWER_BOUNDS: Final = frozenset({"minimum", "minLength", "minItems", "minProperties"})
_UPPER_BOUNDS: Final = frozenset({"maximum", "maxLength", "maxItems", "maxProperties"})

_ANYTHING: Final[dict[str, Any]] = {}

# Deeper than any record of the bridge; a schema that refers to itself has no end.
_DEEPEST: Final = 16

# What one of them says depends on the others beside it.
_OF_CONTENT: Final = frozenset({"properties", "additionalProperties", "items"})

Schema = dict[str, Any]
_Part = Schema | bool


class Breach(msgspec.Struct, frozen=True):
    """
    Something that a newer schema allows, or may allow, and the older one doesn't.

    Attributes:
        place: Which part of a record, as a path; empty for the record itself.
        what: What has changed, for people.
    """

    place: str
    what: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.place or 'the record'}: {self.what}"


def breaches(newer: Schema, older: Schema) -> list[Breach]:
    """
    Find what a newer schema allows beyond an older one.

    Args:
        newer: What records will be like.
        older: What was promised.

    Returns:
        One for each change that isn't proved to be harmless; none if all are.
    """
    return list(_Comparison(newer, older).compare(newer, older, ""))


class _Comparison:
    """One comparison, which knows both files for the references in them."""

    def __init__(self, newer: Schema, older: Schema) -> None:
        self._newer = newer
        self._older = older

    def compare(self, newer: _Part, older: _Part, place: str) -> Iterator[Breach]:
        if newer is False or older is True:
            return
        if older is False:
            yield Breach(place, "nothing was allowed here, and now something is")
            return
        new = _plain(_ANYTHING if newer is True else newer, self._newer)
        old = _plain(older, self._older)
        if new is None or old is None:
            yield Breach(place, "its references can't be followed")
        elif place.count(".") + place.count("[]") > _DEEPEST:
            yield Breach(place, "it is nested too deep to be judged")
        elif unknown := _STRUCTURE & new.keys():
            yield Breach(place, f"{', '.join(sorted(unknown))} can't be judged")
        else:
            options = _cases(old, self._older)
            for case in _cases(new, self._newer):
                yield from self._within_one(case, options, place)

    def _within_one(
        self, case: Schema, options: list[Schema], place: str
    ) -> Iterator[Breach]:
        """Find one of several older schemas that allows all of a newer one."""
        for option in options:
            found = list(self._keywords(case, option, place))
            if not found:
                return
        if len(options) == 1:
            yield from found
        else:
            yield Breach(place, f"{_shown(case)} is allowed now")

    def _keywords(self, new: Schema, old: Schema, place: str) -> Iterator[Breach]:
        """Prove each keyword of an older schema by the newer one."""
        for keyword, wanted in old.items():
            if keyword in _WORDS_ALONE:
                continue
            if keyword == "properties":
                yield from self._properties(new, old, place)
            elif keyword == "additionalProperties":
                yield from self._additional(new, old, place)
            elif keyword == "required":
                for name in sorted(set(wanted) - set(new.get("required", []))):
                    yield Breach(_within(place, name), "is no longer always there")
            elif keyword == "items":
                yield from self.compare(new.get("items", True), wanted, f"{place}[]")
            elif not _proves(new, keyword, wanted):
                yield Breach(place, _changed(keyword, wanted, new.get(keyword)))

    def _properties(self, new: Schema, old: Schema, place: str) -> Iterator[Breach]:
        """A member that the newer schema doesn't name is what any other may be."""
        members = new.get("properties", {})
        others = new.get("additionalProperties", True)
        for name, wanted in old["properties"].items():
            yield from self.compare(
                members.get(name, others), wanted, _within(place, name)
            )

    def _additional(self, new: Schema, old: Schema, place: str) -> Iterator[Breach]:
        """Members that only the newer schema names were other ones to the older."""
        wanted = old["additionalProperties"]
        for name, member in new.get("properties", {}).items():
            if name not in old.get("properties", {}):
                yield from self.compare(member, wanted, _within(place, name))
        others = new.get("additionalProperties", True)
        yield from self.compare(others, wanted, _within(place, "*"))


def _plain(schema: Schema, root: Schema) -> Schema | None:
    """Put what a reference within the file names in its place; None if it can't be."""
    for _ in range(_DEEPEST):
        if "$ref" not in schema:
            return schema
        kind, _, name = schema["$ref"].rpartition("/")
        # Keywords beside a reference would hold as well: not what is generated here.
        if kind != "#/$defs" or len(schema.keys() - _WORDS_ALONE) > 1:
            return None
        found = root.get("$defs", {}).get(name)
        if not isinstance(found, dict):
            return None
        schema = found
    return None


def _cases(schema: Schema, root: Schema) -> list[Schema]:
    """Split what is one of several into each: of `anyOf`, and of several types."""
    types = schema.get("type")
    if isinstance(types, list):
        return [schema | {"type": name} for name in types]
    if "anyOf" not in schema:
        return [schema]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    said = rest.keys() - _WORDS_ALONE
    cases: list[Schema] = []
    for part in schema["anyOf"]:
        if part is False:
            continue
        plain = _plain(_ANYTHING if part is True else part, root)
        # Where both speak of the same, they can't be written as one.
        if (
            plain is None
            or said & plain.keys()
            or (_OF_CONTENT & said and _OF_CONTENT & plain.keys())
        ):
            return [schema]
        cases += _cases(rest | plain, root)
    return cases


def _proves(new: Schema, keyword: str, wanted: Any) -> bool:
    """Tell whether a newer schema allows nothing that an older keyword forbids."""
    if keyword not in _KNOWN:
        return False
    has = new.get(keyword)
    if has is not None and _same(has, wanted):
        return True
    if keyword in _LOWER_BOUNDS:
        return has is not None and bool(has >= wanted)
    if keyword in _UPPER_BOUNDS:
        return has is not None and bool(has <= wanted)
    if keyword == "type" and (has, wanted) == ("integer", "number"):
        return True
    listed = [new["const"]] if "const" in new else new.get("enum")
    return listed is not None and all(_allows(keyword, wanted, item) for item in listed)


def _allows(keyword: str, wanted: Any, value: Any) -> bool:
    """Tell whether a keyword allows a value; also False where that isn't sure."""
    if keyword == "const":
        return _same(value, wanted)
    if keyword == "enum":
        return any(_same(value, item) for item in wanted)
    if keyword == "type":
        return type(value) in _PYTHON_TYPES[wanted]
    if keyword == "pattern":
        # Python's `$` lets a newline through at the end, JSON Schema's doesn't.
        return (
            isinstance(value, str)
            and "\n" not in value
            and re.search(wanted, value) is not None
        )
    return False


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


_PYTHON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
    "integer": (int,),
    "number": (int, float),
}


def _within(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _changed(keyword: str, wanted: Any, has: Any) -> str:
    if keyword not in _KNOWN:
        return f"{keyword} can't be judged"
    now = "nothing says so now" if has is None else f"now it is {has!r}"
    return f"{keyword} was {wanted!r}, {now}"


_KNOWN: Final = (
    _LOWER_BOUNDS
    | _UPPER_BOUNDS
    | {
        "const",
        "enum",
        "format",
        "pattern",
        "type",
    }
)


def _shown(case: Schema) -> str:
    said = {name: case[name] for name in case.keys() - _WORDS_ALONE}
    return repr(dict(sorted(said.items())))
