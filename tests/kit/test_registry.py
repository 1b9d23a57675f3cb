"""What `registry` promises, shown on a real Apicurio Registry."""

from __future__ import annotations

import psutil
import pytest

from tests.kit.registry import RegistryServer


# One more start; what it shows is seen once a year, when its version changes.
@pytest.mark.slow
@pytest.mark.connected
def test_it_listens_on_this_machine_alone_and_ends_with_its_block() -> None:
    """Every socket is bound to 127.0.0.1, and nothing of it is left afterwards."""
    with RegistryServer() as registry:
        process = psutil.Process(registry.pid)
        addresses = {one.laddr.ip for one in process.net_connections()}
        assert registry.answers()

    assert addresses == {"::ffff:127.0.0.1"}
    assert not registry.running
    assert not registry.answers()
