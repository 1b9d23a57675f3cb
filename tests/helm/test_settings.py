"""What the chart passes on are settings that the bridge has, with its defaults."""

from __future__ import annotations

import re

from bridge.settings import Setting, all_settings
from helm.values import variable
from tests.helm import chart


# Settings without a value of their own, each for a reason.
_NO_VALUE = {
    "outbox.dir",  # where the chart mounts the volume
    "operations.listen",  # operations.address and operations.port
    "webhook.listen",  # webhook.address and webhook.port, where it is enabled
    "board.listen",  # board.address and board.port
    "board.hosts",  # names of Service and Ingress, and board.extraHosts
}

# Settings that are the path of a file: the chart mounts it from a Secret by name.
_FILES = {
    "pusher.ca_file",
    "kafka.ssl_ca_file",
    "kafka.ssl_cert_file",
    "kafka.ssl_key_file",
    "kafka.sasl_oauth_ca_file",
    "schema_registry.ca_file",
    "webhook.tls_cert_file",
    "webhook.tls_key_file",
}

# Values whose default differs from the setting's, each for a reason.
_OWN_DEFAULT = {
    "kafka.bootstrapServers",  # the pod itself is never the broker: required
    "log.format",  # nobody looks at a pod's terminal
}


def _settings() -> dict[str, Setting]:
    return {name: known for known in all_settings() for name in known.variables}


def _passed_on() -> dict[str, Setting]:
    """Give the setting that each value is, by its path."""
    settings = _settings()
    return {
        value.path: settings[variable(value.path)]
        for value in chart.listed()
        if variable(value.path) in settings
    }


def test_every_variable_is_a_setting() -> None:
    """Every BRIDGE_* name in a template or an example is one that the bridge reads."""
    texts = [
        path.read_text("utf-8")
        for folder in ("templates", "ci")
        for path in (chart.CHART / folder).iterdir()
        if path.is_file()
    ]
    named = {name for text in texts for name in re.findall(r"BRIDGE_\w+", text)}
    # A comment names what a Service called "bridge" would add.
    named.discard("BRIDGE_PORT")
    # The family of variables, in comments.
    named.discard("BRIDGE_")

    assert len(named) > 20
    assert named - set(_settings()) == set()


def test_every_setting_has_a_value() -> None:
    """A setting is a value of its own, a mounted file, or left out for a reason."""
    given = {known.path for known in _passed_on().values()}
    missing = {
        known.path
        for known in all_settings()
        if known.path not in given | _NO_VALUE | _FILES and not known.is_secret
    }

    # Give it one in values.yaml and _settings.tpl, and run `make chart`.
    assert missing == set()


def test_defaults_are_the_settings() -> None:
    """A value that is passed on has the default of its setting."""
    defaults = dict(chart.leaves(chart.values()))

    differing = set()
    for path, setting in _passed_on().items():
        # Empty is the chart's word for none: the variable is left out.
        if defaults[path] != ("" if setting.default is None else setting.default):
            differing.add(path)

    assert differing == _OWN_DEFAULT
