"""The files that a TLS context for Kafka is made of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme

from bridge.errors import ConfigError
from bridge.kafka.security import tls_context
from bridge.settings import KafkaSettings


@pytest.mark.timeout(10)
@pytest.mark.parametrize("setting", ["ssl_ca_file", "ssl_cert_file", "ssl_key_file"])
def test_a_fifo_is_an_error_and_not_waited_for(tmp_path: Path, setting: str) -> None:
    """OpenSSL would wait for a writer, and the relay with it."""
    authority = trustme.CA()
    issued = authority.issue_cert("bridge.test")
    files = {
        name: tmp_path / name
        for name in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
    }
    authority.cert_pem.write_to_path(files["ssl_ca_file"])
    issued.cert_chain_pems[0].write_to_path(files["ssl_cert_file"])
    issued.private_key_pem.write_to_path(files["ssl_key_file"])
    settings = KafkaSettings(
        **{name: str(path) for name, path in files.items()},  # type: ignore[arg-type]
    )
    tls_context(settings)
    files[setting].unlink()
    os.mkfifo(files[setting])
    with pytest.raises(ConfigError, match="is not a regular file"):
        tls_context(settings)
