"""Certificates of authorities of our own, as files that programs take."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True)
class Identity:
    """A certificate with its key."""

    certificate: Path
    key: Path
    both: Path

    def locked(self, password: str) -> Identity:
        """Write the key down once more, behind a password."""
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        file = self.key.with_suffix(".locked")
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode()),
            )
        )
        return Identity(self.certificate, file, self.both)


class Authority:
    """One that vouches for others, if it is trusted."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._authority = trustme.CA(organization_name=name)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate)

    def __getstate__(self) -> dict[str, Any]:
        """Give what another process needs to sign as this authority."""
        key = self._authority.private_key_pem.bytes()
        return {**self.__dict__, "_authority": (self.certificate, key)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it."""
        self.__dict__.update(state)
        self._authority = trustme.CA.from_pem(*state["_authority"])

    @property
    def certificate(self) -> bytes:
        """Its own certificate, PEM."""
        return self._authority.cert_pem.bytes()

    def identity(self, file: str, *names: str, days: float = 30) -> Identity:
        """Make a certificate."""
        made = self._authority.issue_cert(
            *names,
            not_before=dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
            not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=days),
        )
        # Kafka takes only PKCS#8; trustme writes the older form.
        key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
        key_text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        identity = Identity(
            *(
                self._folder / f"{self._name}-{file}.{ending}"
                for ending in ("crt", "key", "both.pem")
            )
        )
        identity.certificate.write_bytes(chain)
        identity.key.write_bytes(key_text)
        identity.both.write_bytes(key_text + chain)
        return identity
