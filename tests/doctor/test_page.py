"""docs/check.md has each step and outcome that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from bridge.doctor import Outcome
from bridge.doctor.walk import _Walk
from bridge.settings import load


_PAGE = Path(__file__).parents[2] / "docs" / "check.md"

# With these every step is part of the way.
_EVERYTHING = {
    "BRIDGE_CLIENT_ID": "42",
    "BRIDGE_API_TOKEN": "token",
    "BRIDGE_DELIVERY": "transactional",
    "BRIDGE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "BRIDGE_KAFKA_SASL_MECHANISM": "PLAIN",
    "BRIDGE_KAFKA_SASL_USERNAME": "bridge",
    "BRIDGE_KAFKA_SASL_PASSWORD": "password",
    "BRIDGE_SCHEMA_REGISTRY_URL": "https://registry.example",
    "BRIDGE_WEBHOOK_LISTEN": "127.0.0.1:8443",
    "BRIDGE_WEBHOOK_SECRET": "whsec_1",
    "BRIDGE_WEBHOOK_TLS_CERT_FILE": __file__,
    "BRIDGE_WEBHOOK_TLS_KEY_FILE": __file__,
}


def names_in(text: str, head: str) -> list[str]:
    """Give the names in the first column of a table."""
    (rows,) = re.findall(
        rf"^\| {head} \|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    cells = [row.split("|")[1] for row in rows.splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


async def test_steps_and_outcomes_are_those_of_the_code() -> None:
    """In the order in which they are walked, each once."""
    walk = _Walk(load({}, _EVERYTHING, None).settings, (), 0.0)
    steps = [line.step for branch in walk.branches for line in branch.lines]
    text = _PAGE.read_text(encoding="utf-8")
    assert names_in(text, "step") == list(dict.fromkeys(steps))
    assert names_in(text, "outcome") == list(Outcome)


def test_the_example_is_one_that_could_be() -> None:
    """Its lines begin with an outcome and a step, in their columns."""
    text = _PAGE.read_text(encoding="utf-8")
    (example,) = re.findall(
        r"```console\n\$ bridge check[^\n]*\n(.*?)```", text, re.DOTALL
    )
    *lines, verdict = example.splitlines()
    steps = names_in(text, "step")
    for line in lines:
        if line.startswith(("...", "          -> ")):
            continue
        outcome, step = line[:7].rstrip(), line[8:24].rstrip()
        assert outcome in set(Outcome)
        assert step in steps
        assert line[24:26] == "  "
    assert verdict.startswith("The bridge would not work: ")
