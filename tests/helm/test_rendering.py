"""What the bridge makes of a rendered chart; skipped where there is no helm."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.settings import Scope, Setting, all_settings, load
from bridge.settings.checks import RELATIONS
from tests.helm import chart


pytestmark = pytest.mark.skipif(chart.HELM is None, reason="no helm on the PATH")

_SECRET = {"existingSecret": "some", "key": "one"}
_FILES = "/etc/bridge/secrets/"


def _pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give the pods by the name of their one container: bridge, and perhaps board."""
    pods = [
        manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] in {"StatefulSet", "Deployment"}
    ]
    return {pod["containers"][0]["name"]: pod for pod in pods}


def _environment(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def _files(pod: dict[str, Any]) -> set[str]:
    """Give the path of each file that the pod mounts from a Secret."""
    return {
        f"{_FILES}{item['path']}"
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        for item in source["secret"]["items"]
    }


def _on_disk(pod: dict[str, Any], folder: Path) -> dict[str, str]:
    """Put a pod's files below a folder; give its environment, which names them so."""
    for path in _files(pod) if "volumes" in pod else ():
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("content", "ascii")
    # What comes from a Secret's key has no value here.
    texts = {name: text or "from-a-secret" for name, text in _environment(pod).items()}
    return {
        name: text.replace(_FILES, f"{folder}{_FILES}") for name, text in texts.items()
    }


def test_secrets_are_files() -> None:
    """Each secret is a mounted file, and the variable that names it fits the mount."""
    pods = _pods(chart.render(chart.examples()["everything.yaml"]))

    counts = {}
    for name, pod in pods.items():
        named = {
            text
            for text in _environment(pod).values()
            if (text or "").startswith("/etc")
        }
        assert named == _files(pod)
        counts[name] = len(named)
    assert counts == {"bridge": 12, "board": 5}


@pytest.mark.parametrize("name", chart.examples())
def test_settings_are_accepted(name: str, tmp_path: Path) -> None:
    """Bridge and board accept what is rendered: environment, file and mounts."""
    values = chart.merged(chart.examples()[name], {"board": {"enabled": True}})
    manifests = chart.render(values)
    pods = _pods(manifests)
    config = None
    for manifest in manifests:
        if text := manifest.get("data", {}).get("bridge.toml"):
            config = tmp_path / "bridge.toml"
            config.write_text(text.replace(_FILES, f"{tmp_path}{_FILES}"))

    loaded = load({}, _on_disk(pods["bridge"], tmp_path), config)
    board = load({}, _on_disk(pods["board"], tmp_path), None, Scope.BOARD)

    expected = {"accounts.yaml": ["client-1", "client-2"]}.get(name, ["client-1"])
    assert [one.client_id for one in loaded.settings.all_accounts] == expected
    assert loaded.settings.outbox.dir == Path("/var/lib/bridge")
    hosts = (board.settings.board.hosts or "").split(",")
    assert f"{values.get('fullnameOverride', 'bridge')}-board.default" in hosts
    # No name is unknown; that a cluster's own network has no TLS is a warning.
    warnings = (*loaded.warnings, *board.warnings)
    assert all("can be read and changed" in warning for warning in warnings)


def test_every_setting_is_passed_on() -> None:
    """Each setting of the bridge is a value, and becomes its variable's text."""
    passed = set()
    settings = [one for one in all_settings() if one.path != "outbox.dir"]
    for mechanism in ("SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"):
        given = {
            setting.path: _another(setting)
            for setting in settings
            if _fits(setting, mechanism)
        }
        given["kafka.security_protocol"] = "SASL_SSL"
        given["kafka.sasl_mechanism"] = mechanism
        given["operations.listen"] = "0.0.0.0:8081"
        pods = _pods(
            chart.render(
                chart.merged(
                    chart.examples()["minimal.yaml"],
                    # These have to fit the settings.
                    {"board": {"enabled": True}, "persistence": {"size": "1Ti"}},
                    *(chart.tree(f"settings.{path}", given[path]) for path in given),
                )
            )
        )
        environment = _environment(pods["board"]) | _environment(pods["bridge"])
        for setting in settings:
            name = setting.variables[-1]
            if setting.path in given and setting.path != "board.hosts":
                value = given[setting.path]
                text = str(value).lower() if isinstance(value, bool) else str(value)
                if value is _SECRET:
                    text = f"{_FILES}{setting.path}"
                assert environment[name] == text, name
            passed |= {setting.path} & given.keys()
        assert environment["BRIDGE_BOARD_HOSTS"].endswith(",changed-1")

    assert passed == {setting.path for setting in settings}


def _fits(setting: Setting, mechanism: str) -> bool:
    """Whether no relation keeps a setting from being set with a SASL mechanism."""
    return all(
        mechanism in one.accepts
        for one in RELATIONS
        if one.path == setting.path and one.needs == "kafka.sasl_mechanism"
    )


def _another(setting: Setting) -> Any:
    """Give a value that the setting may have, unlike its default."""
    default = setting.default
    if setting.is_secret or (setting.form is not None and setting.form.is_file):
        return _SECRET
    is_switch = setting.type is bool
    choices: tuple[Any, ...] = (False, True) if is_switch else setting.choices
    if choices:
        return next(choice for choice in choices if choice != default)
    if setting.name == "listen":
        return "[::]:9000"
    if setting.path.endswith("url"):
        return f"{default or 'https://somewhere'}/changed"
    if isinstance(default, int | float):
        return default + (1 if setting.type is int else 0.25)
    # A region's name has a hyphen.
    return f"{default or ''}changed-1"


def test_settings_that_contradict_each_other_are_refused() -> None:
    """What the bridge would refuse by a relation, the chart refuses, and names it."""
    known = {setting.path: setting for setting in all_settings()}
    wrong = []
    for one in RELATIONS:
        setting = known[one.path]
        value = one.values[0] if one.values else _another(setting)
        protocol = {"kafka.security_protocol": "SASL_SSL"}
        if one.needs == "kafka.security_protocol" and one.accepts:
            protocol = {"kafka.security_protocol": "PLAINTEXT"}
        mechanism = {}
        if one.needs == "kafka.sasl_mechanism" and one.accepts:
            other = "PLAIN" if "PLAIN" not in one.accepts else "OAUTHBEARER"
            mechanism = {"kafka.sasl_mechanism": other}
        if one.path.startswith("kafka.sasl") and not (one.values or mechanism):
            mechanism = {"kafka.sasl_mechanism": "PLAIN"}
        given = protocol | mechanism | {one.path: value}
        message = chart.refusal(
            chart.merged(
                chart.examples()["minimal.yaml"],
                *(chart.tree(f"settings.{path}", given[path]) for path in given),
            )
        )
        blamed = one.path if one.accepts else one.needs
        lines = [line for line in message.splitlines() if f"settings.{blamed} " in line]
        other_path = one.needs if one.accepts else one.path
        if not any(f"settings.{other_path} " in line for line in lines):
            wrong.append((given, blamed, message))
    assert not wrong


def test_commands_of_the_readme_install_the_chart() -> None:
    """They run as pasted; Secret, topics and image are those that the pod uses."""
    page = (chart.CHART.parents[1] / "README.md").read_text("utf-8")
    (commands,) = re.findall(r"```console\n(export IMAGE.*?)```", page, re.DOTALL)
    stand_ins = """
        docker() { echo "docker $*"; }
        kubectl() { echo "kubectl $*"; }
        kafka-topics.sh() { echo "topic $*"; }
        helm() { test "$1" = test || "$HELM" template "${@:2}" --kube-version 1.37; }
    """
    done = subprocess.run(
        ["bash", "-euc", stand_ins + commands],  # noqa: S607
        cwd=chart.CHART.parents[1],
        env=os.environ | {"HELM": str(chart.HELM)},
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    steps, _, manifests = done.stdout.partition("---\n")
    pod = _pods(list(filter(None, yaml.safe_load_all(manifests))))["bridge"]
    (image,) = {one["image"] for one in pod["containers"]}
    (secret,) = (one for one in pod["volumes"] if one["name"] == "secrets")
    (source,) = secret["projected"]["sources"]

    assert f"docker push {image}\n" in steps
    assert f"secret generic {source['secret']['name']} --from-file=api-token=" in steps
    assert re.findall(r"--topic (\S+)", steps) == ["jobs", "jobs.dlq", "jobs.gaps"]
