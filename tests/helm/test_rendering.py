"""What helm makes of the chart; skipped where there is no helm (make chart-tools)."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bridge.settings import load
from tests.helm import chart


pytestmark = pytest.mark.skipif(
    chart.HELM is None, reason="no helm on the PATH: make chart-lint runs these"
)


def _minimal(**more: Any) -> dict[str, Any]:
    values = copy.deepcopy(chart.examples()["minimal.yaml"])
    for path, value in more.items():
        *parents, last = path.split("__")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return values


def _refusal(values: dict[str, Any]) -> str:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        chart.render(values)
    message: str = caught.value.stderr
    return message


def _pod(manifest: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return pod


def _environment(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_volume_makes_a_stateful_set() -> None:
    """The default is one pod with a volume of its own that outlives it."""
    manifests = chart.render(_minimal())

    assert set(manifests) == {"ServiceAccount", "Service", "StatefulSet"}
    spec = manifests["StatefulSet"]["spec"]
    assert spec["replicas"] == 1
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == [
        "outbox"
    ]
    assert spec["serviceName"] == manifests["Service"]["metadata"]["name"]


def test_no_volume_makes_a_deployment() -> None:
    """Without persistence one pod is stopped before the next starts."""
    manifests = chart.render(chart.examples()["no-volume.yaml"])

    assert set(manifests) == {"Service", "Deployment"}
    assert manifests["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    volumes = {
        volume["name"]: volume for volume in _pod(manifests["Deployment"])["volumes"]
    }
    assert volumes["outbox"]["emptyDir"] == {"sizeLimit": "1.5Gi"}


def test_existing_claim_is_mounted() -> None:
    """A claim that exists takes the place of one that is made."""
    made = chart.render(_minimal(persistence__existingClaim="kept"))["StatefulSet"]

    assert "volumeClaimTemplates" not in made["spec"]
    assert {
        "name": "outbox",
        "persistentVolumeClaim": {"claimName": "kept"},
    } in _pod(made)["volumes"]


def test_pod_is_restricted() -> None:
    """The pod fulfils Kubernetes' restricted profile and sees no service links."""
    pod = _pod(chart.render(_minimal())["StatefulSet"])
    (container,) = pod["containers"]

    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_probes_ask_the_operations_port() -> None:
    """Start and life are asked of /livez, readiness of /readyz, on one port."""
    (container,) = _pod(chart.render(_minimal())["StatefulSet"])["containers"]

    asked = {
        probe: container[probe]["httpGet"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert asked == {
        "startupProbe": {"path": "/livez", "port": "operations"},
        "livenessProbe": {"path": "/livez", "port": "operations"},
        "readinessProbe": {"path": "/readyz", "port": "operations"},
    }
    (port,) = container["ports"]
    assert (port["name"], port["containerPort"]) == ("operations", 8080)


def test_large_numbers_stay_whole() -> None:
    """A size in bytes reaches the bridge as digits, not as 1e+11."""
    values = _minimal(outbox__maxBytes=100_000_000_000, persistence__size="1Ti")

    environment = _environment(_pod(chart.render(values)["StatefulSet"]))

    assert environment["BRIDGE_OUTBOX_MAX_BYTES"] == "100000000000"


def test_secrets_are_files() -> None:
    """Each secret is a mounted file, and the variable that names it fits the mount."""
    pod = _pod(chart.render(chart.examples()["everything.yaml"])["StatefulSet"])
    (container,) = pod["containers"]
    folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    files = {
        f"{folders[volume['name']]}/{item['path']}"
        for volume in pod["volumes"]
        if "secret" in volume
        for item in volume["secret"]["items"]
    }

    named = {
        value
        for name, value in _environment(pod).items()
        if name.endswith("_FILE") and value is not None
    }

    assert named == files
    assert len(files) == 8


@pytest.mark.parametrize("name", chart.examples())
def test_settings_are_accepted(name: str, tmp_path: Path) -> None:
    """The bridge takes the rendered environment as it is, without a warning."""
    manifests = chart.render(chart.examples()[name])
    pod = _pod(manifests.get("StatefulSet") or manifests["Deployment"])
    environment = {}
    for variable, value in _environment(pod).items():
        # What comes from a Secret's key has no value here.
        environment[variable] = value or "from-a-secret"
        if variable.endswith("_FILE") and value is not None:
            file = tmp_path / value.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("content", "ascii")
            environment[variable] = str(file)

    loaded = load({}, environment, None)

    assert loaded.warnings == ()
    assert loaded.settings.client_id == "client-1"
    assert loaded.settings.outbox.dir == Path("/var/lib/bridge")


def test_image_by_digest() -> None:
    """A digest wins over the tag, and the registry stands in front."""
    pod = _pod(chart.render(chart.examples()["everything.yaml"])["StatefulSet"])

    assert pod["containers"][0]["image"] == (
        "images.example.com/team/dryapi-kafka-bridge@sha256:" + 64 * "0"
    )


def test_missing_values_are_named_together() -> None:
    """Without any values, one message names all that must be given."""
    message = _refusal({})

    for name in (
        "image.repository",
        "dryapi.clientId",
        "dryapi.existingSecret",
        "kafka.bootstrapServers",
    ):
        assert f"{name} is empty" in message


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"terminationGracePeriodSeconds": 20},
            "(20) must be more than shutdownTimeoutSeconds (20)",
        ),
        (
            {"persistence__size": "8Gi"},
            "persistence.size (8Gi) must be more than outbox.maxBytes (8589934592)",
        ),
        ({"kafka__securityProtocol": "SASL_SSL"}, "kafka.sasl.mechanism is empty"),
        ({"kafka__sasl__mechanism": "PLAIN"}, "kafka.sasl is set, but"),
        ({"kafka__tls__existingSecret": "x"}, "kafka.tls.existingSecret is set, but"),
        (
            {
                "kafka__securityProtocol": "SSL",
                "kafka__tls": {"existingSecret": "x", "certKey": "tls.crt"},
            },
            "kafka.tls.certKey and kafka.tls.keyKey belong together",
        ),
        (
            {"kafka__securityProtocol": "SSL", "kafka__tls__certKey": "tls.crt"},
            "kafka.tls.existingSecret is empty",
        ),
        (
            {"extraEnv": [{"name": "BRIDGE_API_TOKEN", "value": "x"}]},
            "extraEnv gives BRIDGE_API_TOKEN in plain",
        ),
    ],
)
def test_contradiction_is_refused(values: dict[str, Any], sentence: str) -> None:
    """Values that don't go together are refused with a sentence that names them."""
    assert sentence in _refusal(_minimal(**values))


def test_schema_is_enforced() -> None:
    """Helm itself refuses a second replica, by the schema."""
    assert "/replicaCount" in _refusal(_minimal(replicaCount=2))
