"""No other machine reaches the servers that tests start."""

from __future__ import annotations

import psutil
import pytest

from tests.kit.registry import RegistryServer
from tests.kit.soketi import SoketiServer


def test_soketi_is_for_this_machine_only(own_soketi: SoketiServer) -> None:
    """Every socket is bound to 127.0.0.1."""
    sockets = psutil.Process(own_soketi.pid).net_connections()
    assert {one.laddr.ip for one in sockets} == {"127.0.0.1"}


@pytest.mark.slow
def test_the_registry_is_for_this_machine_only(registry: RegistryServer) -> None:
    """Every socket is bound to 127.0.0.1."""
    sockets = psutil.Process(registry.pid).net_connections()
    assert {one.laddr.ip for one in sockets} == {"::ffff:127.0.0.1"}
