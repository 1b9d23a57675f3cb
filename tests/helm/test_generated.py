"""The chart's generated files: what they are made from, and that they are fresh."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.settings import describe
from helm import page, schema
from helm.__main__ import main
from helm.values import CHART, Value, ValuesError, read, variable


def test_files_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    """What lies in the chart is what its values and the settings make."""
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_stale_file_is_named_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is stale is named by --check, and written without it."""
    values = tmp_path / "values.yaml"
    values.write_text((CHART / "values.yaml").read_text("utf-8"), "utf-8")

    assert main(["--check", "--chart", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "values.schema.json is stale: run `make chart`" in said
    assert "VALUES.md is stale: run `make chart`" in said
    assert list(tmp_path.iterdir()) == [values]

    assert main(["--chart", str(tmp_path)]) == 0
    assert main(["--check", "--chart", str(tmp_path)]) == 0


def test_value_without_a_shape_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that is no setting and of which nothing else is known is refused."""
    (tmp_path / "values.yaml").write_text("# -- What?\nunheard: 1\n", "ascii")

    assert main(["--chart", str(tmp_path)]) == 1

    assert "unheard is no setting of the bridge (BRIDGE_UNHEARD)" in (
        capsys.readouterr().out
    )


def test_values_are_read_with_their_comments() -> None:
    """A value is a key with a marked comment, which may have several lines."""
    text = """
# Not a value's comment.

group:
  # -- First line,
  # and second.
  one: 1
  # -- A mapping that is one value.
  two:
    a: b
# -- Nothing in it.
three: {}
"""

    assert read(text) == (
        Value("group.one", 1, "First line, and second."),
        Value("group.two", {"a": "b"}, "A mapping that is one value."),
        Value("three", {}, "Nothing in it."),
    )


def test_value_without_comment_is_an_error() -> None:
    """A value that nothing is said of is refused, and named."""
    with pytest.raises(ValuesError, match=r"group\.two has no comment"):
        read("group:\n  # -- One.\n  one: 1\n  two: 2\n")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("topic", "BRIDGE_TOPIC"),
        ("kafka.maxBatchBytes", "BRIDGE_KAFKA_MAX_BATCH_BYTES"),
        ("kafka.sasl.mechanism", "BRIDGE_KAFKA_SASL_MECHANISM"),
        ("schemaRegistry.url", "BRIDGE_SCHEMA_REGISTRY_URL"),
        ("dryapi.clientId", "BRIDGE_CLIENT_ID"),
    ],
)
def test_variable_follows_from_the_path(path: str, name: str) -> None:
    """A value that is a setting has its name, in the spelling of values."""
    assert variable(path) == name


def test_limits_are_the_settings() -> None:
    """Types, limits and words of a setting are those of its value."""
    settings = {setting.environment: setting for setting in describe()}
    compared = 0
    for value in read((CHART / "values.yaml").read_text("utf-8")):
        setting = settings.get(variable(value.path))
        if setting is None:
            continue
        shape = schema.shape_of(value)
        for word, limit in (
            ("minimum", setting.minimum),
            ("exclusiveMinimum", setting.exclusive_minimum),
            ("maximum", setting.maximum),
        ):
            assert shape.get(word) == limit, value.path
            compared += limit is not None
        if setting.choices:
            assert set(shape["enum"]) - {""} == set(setting.choices)
            compared += 1
    assert compared > 40


def test_patterns_are_without_lookaround() -> None:
    """Helm's schemas are matched by RE2, which knows no lookaround."""
    text = (CHART / "values.schema.json").read_text("utf-8")

    assert "(?" not in text
    assert '"not": {' in text  # what a topic's lookahead became


def test_page_has_every_value_with_its_default() -> None:
    """Each value has a row; a bar in its comment doesn't end the cell."""
    values = read("# -- One | two.\na: x\ng:\n  # -- Three.\n  replicaCount: 1\n")
    named = (Value("image.tag", *_rest(values[0])), Value("replicaCount", 1, "Three."))

    made = page.build(named)

    assert '| `image.tag` | string | `"x"` | One \\| two. |' in made
    assert "| `replicaCount` | integer | `1` | Three. |" in made
    assert made.index("`replicaCount`") < made.index("## `image`")


def _rest(value: Value) -> tuple[object, str]:
    return value.default, value.description
