"""The secure broker of this folder's tests: one for each process that runs them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import downloads
from tests.servers.process import ProcessError
from tests.servers.secure_kafka import SecureKafka


@pytest.fixture(scope="session")
def secure() -> Iterator[SecureKafka]:
    """A broker with a listener for each way to sign in."""
    try:
        server = SecureKafka()
        server.__enter__()
    except (downloads.FetchError, ProcessError) as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield server
    finally:
        server.close()
