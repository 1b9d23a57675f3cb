"""What the bridge makes of a rendered chart; skipped where there is no helm."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from bridge.settings import (
    Kind,
    Scope,
    Setting,
    all_settings,
    load,
)
from helm.values import variable
from tests.helm import chart


pytestmark = pytest.mark.skipif(
    chart.HELM is None, reason="no helm on the PATH: make chart-test runs these"
)


def _pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give the pods by the name of their one container: bridge, and perhaps board."""
    pods = [
        manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] in {"StatefulSet", "Deployment"}
    ]
    return {pod["containers"][0]["name"]: pod for pod in pods}


def _pod(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    return _pods(manifests)["bridge"]


def _environment(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def _files(pod: dict[str, Any]) -> set[str]:
    """Give the path of each file that the pod mounts from a Secret."""
    (container,) = pod["containers"]
    mounts = container.get("volumeMounts", [])
    folders = {mount["name"]: mount["mountPath"] for mount in mounts}
    found = set()
    for volume in pod.get("volumes", []):
        secrets = [source["secret"] for source in _sources(volume)]
        found |= {
            f"{folders[volume['name']]}/{item['path']}"
            for secret in secrets
            for item in secret["items"]
        }
    return found


def _sources(volume: dict[str, Any]) -> list[dict[str, Any]]:
    if "secret" in volume:
        return [volume]
    sources: list[dict[str, Any]] = volume.get("projected", {}).get("sources", [])
    return sources


def test_secrets_are_files() -> None:
    """Each secret is a mounted file, and the variable that names it fits the mount."""
    pods = _pods(chart.render(chart.examples()["everything.yaml"]))

    counts = {}
    for name, pod in pods.items():
        named = {
            value
            for variable_name, value in _environment(pod).items()
            if variable_name.endswith("_FILE") and value is not None
        }
        assert named == _files(pod)
        counts[name] = len(named)

    assert counts == {"bridge": 12, "board": 5}


@pytest.mark.parametrize("name", chart.examples())
def test_settings_are_accepted(name: str, tmp_path: Path) -> None:
    """The bridge takes what is rendered as it is: environment, file and mounts."""
    manifests = chart.render(chart.examples()[name])
    environment = _on_disk(_pod(manifests), tmp_path)
    config = None
    for manifest in manifests:
        if text := manifest.get("data", {}).get("bridge.toml"):
            config = tmp_path / "bridge.toml"
            config.write_text(text.replace("/etc/bridge", f"{tmp_path}/etc/bridge"))

    loaded = load({}, environment, config)

    expected = {"accounts.yaml": ["client-1", "client-2"]}.get(name, ["client-1"])
    assert [one.client_id for one in loaded.settings.all_accounts] == expected
    assert loaded.settings.outbox.dir == Path("/var/lib/bridge")
    # No name is odd; that a cluster's own network does without TLS is told.
    assert all("can be read and changed" in warning for warning in loaded.warnings)


@pytest.mark.parametrize("name", chart.examples())
def test_settings_of_the_board_are_accepted(name: str, tmp_path: Path) -> None:
    """The board takes its pod's environment and that of the image, without a word."""
    values = copy.deepcopy(chart.examples()[name])
    _put(values, "board.enabled", True)
    pod = _pods(chart.render(values))["board"]
    image = {"BRIDGE_OUTBOX_DIR": "/var/lib/bridge"}

    loaded = load({}, image | _on_disk(pod, tmp_path), None, Scope.BOARD)

    assert loaded.settings.topic == "jobs"
    hosts = (loaded.settings.board.hosts or "").split(",")
    assert f"{values.get('fullnameOverride', 'bridge')}-board.default" in hosts
    assert all("can be read and changed" in warning for warning in loaded.warnings)


def _on_disk(pod: dict[str, Any], folder: Path) -> dict[str, str]:
    """Put a pod's files below a folder; give its environment, which names them so."""
    for path in _files(pod):
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("content", "ascii")
    environment = {}
    for name, value in _environment(pod).items():
        # What comes from a Secret's key has no value here.
        environment[name] = value or "from-a-secret"
        if name.endswith("_FILE") and value is not None:
            environment[name] = f"{folder}{value}"
    return environment


def test_every_value_reaches_its_setting() -> None:
    """A value that is a setting changes that setting's variable, and to its text."""
    known = {setting.variables[0]: setting for setting in all_settings()}
    values = {
        value.path: known[variable(value.path)]
        for value in chart.listed()
        if variable(value.path) in known
    }
    reached = set()
    for mechanism in ("SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"):
        changed = _changed(values, mechanism)
        environment = _common(_pods(chart.render(changed)))
        for path, setting in values.items():
            given = _got(changed, path)
            if given is not None and setting.variables[0] in environment:
                text = str(given).lower() if isinstance(given, bool) else str(given)
                assert environment[setting.variables[0]] == text, path
                reached.add(path)

    assert set(values) - reached == set()


def _common(pods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Lay both pods' variables together: those that both have say the same."""
    bridge, board = _environment(pods["bridge"]), _environment(pods["board"])
    both = bridge.keys() & board.keys()
    assert {name for name in both if bridge[name] != board[name]} == {
        "BRIDGE_KAFKA_CLIENT_ID"
    }
    return board | bridge


def _changed(settings: dict[str, Setting], mechanism: str) -> dict[str, Any]:
    """Give values none of which is a default, and that fit a mechanism."""
    values = copy.deepcopy(chart.examples()["everything.yaml"])
    values["kafka"]["sasl"] = {}
    ours = {"OAUTHBEARER": "kafka.sasl.oauth.", "AWS_MSK_IAM": "kafka.sasl.aws."}
    group = ours.get(mechanism, "kafka.sasl.username")
    for path, setting in settings.items():
        if not path.startswith("kafka.sasl.") or path.startswith(group):
            _put(values, path, _another(setting))
    if mechanism == "SCRAM-SHA-512":
        _put(values, "kafka.sasl.existingSecret", "kafka-user")
    if mechanism == "OAUTHBEARER":
        _put(values, "kafka.sasl.oauth.existingSecret", "oauth")
    _put(values, "kafka.sasl.mechanism", mechanism)
    _put(values, "kafka.securityProtocol", "SASL_SSL")
    # These two have to fit the rest.
    _put(values, "terminationGracePeriodSeconds", 600)
    _put(values, "persistence.size", "1Ti")
    return values


def _got(values: dict[str, Any], path: str) -> Any:
    found: Any = values
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _another(setting: Setting) -> Any:
    """Give a value that the setting may have, unlike its default."""
    default = setting.default
    if setting.kind is Kind.BOOLEAN:
        return not default
    if setting.kind is Kind.CHOICE:
        return next(word for word in setting.choices if word != default)
    if setting.path.endswith("url"):
        return f"{default or 'https://somewhere'}/changed"
    if isinstance(default, int | float):
        return default + (1 if setting.kind is Kind.INTEGER else 0.25)
    # A region's name has a hyphen.
    return f"{default or ''}changed-1"


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *groups, name = path.split(".")
    for group in groups:
        values = values.setdefault(group, {})
    values[name] = value
