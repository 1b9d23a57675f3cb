"""What the chart passes on are settings that the bridge has, with its defaults."""

from __future__ import annotations

import re
from typing import Any

from bridge.settings import SettingDescription, describe
from tests.helm import chart


# Values whose default differs from the setting's, each for a reason.
_OWN_DEFAULT = {
    "kafka.bootstrapServers",  # the pod itself is never the broker: required
    "log.format",  # nobody looks at a pod's terminal
}

_PASSED_ON = re.compile(
    r"- name: (BRIDGE_\w+)\n\s+value: \{\{ (?:int64 )?\.([\w.]+) \| quote \}\}"
)


def _settings() -> dict[str, SettingDescription]:
    return {name: known for known in describe() for name in known.environment_names}


def _template() -> str:
    return (chart.CHART / "templates" / "_settings.tpl").read_text("utf-8")


def _passed_on() -> dict[str, str]:
    """Give the path of the value that each variable is made from, where it is one."""
    return {
        # The Kafka variables' template gets that group of values alone.
        variable: path.removeprefix("Values.")
        if path.startswith("Values.")
        else f"kafka.{path}"
        for variable, path in _PASSED_ON.findall(_template())
    }


def _schema_of(path: str) -> Any:
    schema = chart.schema()
    for part in path.split("."):
        schema = schema["properties"][part]
    return schema


def test_every_variable_is_a_setting() -> None:
    """Every BRIDGE_* name in a template or an example is one that the bridge reads."""
    texts = [
        path.read_text("utf-8")
        for folder in ("templates", "ci")
        for path in (chart.CHART / folder).iterdir()
    ]
    named = {name for text in texts for name in re.findall(r"BRIDGE_\w+", text)}
    # A comment names what a Service called "bridge" would add.
    named.discard("BRIDGE_PORT")
    # The family of variables, in comments.
    named.discard("BRIDGE_")

    assert len(named) > 20
    assert named - set(_settings()) == set()


def test_defaults_are_the_settings() -> None:
    """A value that is passed on has the default of its setting."""
    defaults = dict(chart.leaves(chart.values()))
    settings = _settings()
    passed_on = _passed_on()
    assert len(passed_on) > 15

    differing = set()
    for variable, path in passed_on.items():
        default = settings[variable].default
        # Empty is the chart's word for none: the variable is left out.
        if defaults[path] != ("" if default is None else default):
            differing.add(path)

    assert differing == _OWN_DEFAULT


def test_choices_are_the_settings() -> None:
    """A value with a closed list of words allows those that its setting allows."""
    settings = _settings()
    checked = 0
    for variable, path in _passed_on().items():
        if choices := settings[variable].choices:
            assert set(_schema_of(path)["enum"]) - {""} == set(choices), path
            checked += 1

    assert checked >= 4


def test_no_secret_in_an_environment_value() -> None:
    """A secret setting is given by its *_FILE alone, never as a variable's value."""
    secrets = {known.environment for known in describe() if known.secret}
    assert secrets

    given = set(re.findall(r"- name: (BRIDGE_\w+)", _template()))

    assert given & secrets == set()
    assert {f"{name}_FILE" for name in secrets} <= given
