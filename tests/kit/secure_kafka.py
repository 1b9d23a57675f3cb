"""A Kafka with a listener for each way to sign in, over TLS."""

from __future__ import annotations

import shutil
import ssl
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from confluent_kafka.admin import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from bridge.settings import Secret
from tests.kit.authorities import Authority
from tests.kit.broker import admin_of, configure_broker
from tests.kit.identity_provider import IdentityProvider
from tests.kit.kafka import KafkaServer, _Node
from tests.kit.process import free_ports


USER = "bridge"
# Whose password tests change, only at `ROTATING`.
ROTATING_USER = "rotating"
PASSWORD = "canary-of-a-password"
_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.05

_MODULES = "org.apache.kafka.common.security"
_LOGIN = {
    "PLAIN": f"{_MODULES}.plain.PlainLoginModule required",
    "SCRAM-SHA-256": f"{_MODULES}.scram.ScramLoginModule required;",
    "SCRAM-SHA-512": f"{_MODULES}.scram.ScramLoginModule required;",
    "OAUTHBEARER": f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required;",
}
_VALIDATOR = f"{_MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler"

# Where clients have to show one of their own, alone or beside a password.
_WITH_CERTIFICATE = ("MUTUAL", "ROTATING")

# Every client with a certificate, whatever its name.
_MUTUAL_USER = "mutual"

_GUARD = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"

# After so long a broker ends a connection whose client doesn't sign in again, which
# aiokafka's don't: a test of a password that is exchanged waits for it.
_SESSION_MS = 1_500

# Name of the listener: its protocol, and what may be said there.
_LISTENERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "PASSWORDS": ("SASL_SSL", ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")),
    "SCRAM": ("SASL_SSL", ("SCRAM-SHA-512",)),
    "OPENLY": ("SASL_PLAINTEXT", ("PLAIN",)),
    "TOKENS": ("SASL_SSL", ("OAUTHBEARER",)),
    "MUTUAL": ("SSL", ()),
    "EXPIRED": ("SSL", ()),
    "MISNAMED": ("SSL", ()),
    "ROTATING": ("SASL_SSL", ("SCRAM-SHA-512",)),
}


class SecureKafka(KafkaServer):
    """One broker that asks in many ways who comes.

    `EXPIRED` shows a certificate that was good once; `MISNAMED` sends its clients on to
    an address that isn't in its certificate; `ROTATING`
    ends each connection after a second and a half.
    """

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="bridge-secure-kafka-"))
        self.authority = Authority(self.folder, "authority")
        self.stranger = Authority(self.folder, "stranger")
        self.provider = IdentityProvider(self.authority)
        self._ports = dict(zip(_LISTENERS, free_ports(len(_LISTENERS)), strict=True))
        self._broker = self.authority.identity("broker", "localhost")
        self._expired = self.authority.identity("expired", "localhost", days=-1)
        self._rotating = self.authority.identity("rotating", "localhost")
        self._stack = ExitStack()
        super().__init__()

    def __getstate__(self) -> dict[str, Any]:
        """Give what another process needs; it doesn't end the provider."""
        return {**self.__dict__, "_stack": None}

    def __enter__(self) -> Self:
        self._stack.enter_context(self.provider)
        super().__enter__()
        for name in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            self.set_password(USER, PASSWORD, name)
        return self

    def close(self) -> None:
        """End the server and its provider; nothing of them is left."""
        super().close()
        self._stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def port_of(self, listener: str) -> int:
        """Give a listener's port; `PLAINTEXT` is the one without any guard."""
        if listener == "PLAINTEXT":
            return self._nodes[0].port
        return self._ports[listener]

    def servers(self, listener: str) -> str:
        """Give a listener's address, by the name that its certificate is for."""
        return f"localhost:{self.port_of(listener)}"

    def settings(
        self, listener: str, mechanism: str | None = None
    ) -> dict[str, object]:
        """Give the bridge's settings for a listener, with which it works."""
        protocol, mechanisms = _LISTENERS[listener]
        chosen: dict[str, object] = {
            "bootstrap_servers": self.servers(listener),
            "security_protocol": protocol,
        }
        if protocol.endswith("SSL"):
            chosen["ssl_ca_file"] = str(self.authority.file)
        if mechanisms:
            chosen["sasl_mechanism"] = mechanism or mechanisms[0]
        if "OAUTHBEARER" in mechanisms:
            chosen |= {
                "sasl_oauth_token_url": self.provider.token_url,
                "sasl_oauth_client_id": self.provider.client_id,
                "sasl_oauth_client_secret": Secret(self.provider.client_secret),
                "sasl_oauth_ca_file": str(self.authority.file),
            }
        elif mechanisms:
            user = ROTATING_USER if listener == "ROTATING" else USER
            chosen |= {"sasl_username": user, "sasl_password": Secret(PASSWORD)}
        if listener in _WITH_CERTIFICATE:
            client = self.authority.identity("client", "bridge.example")
            chosen["ssl_cert_file"] = str(client.certificate)
            chosen["ssl_key_file"] = str(client.key)
        return chosen

    def set_password(
        self, user: str, password: str, mechanism: str = "SCRAM-SHA-512"
    ) -> None:
        """Give a user another password; connections that stand go on."""
        kind = ScramMechanism[mechanism.replace("-", "_")]
        change = UserScramCredentialUpsertion(
            user, ScramCredentialInfo(kind, 4096), password.encode()
        )
        admin = admin_of(self.bootstrap_servers)
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(_PATIENCE_SECONDS)

    def set_certificate(self, authority: Authority) -> None:
        """Have `ROTATING` show its certificate from now on."""
        # In a file, for the workers of a run change it one after the other.
        shown = self.folder / "shown"
        wanted = str(authority.file)
        if shown.exists() and shown.read_text() == wanted:
            return
        file = f"rotating-{uuid.uuid4().hex}"
        made = authority.identity(file, "localhost")
        name = "listener.name.rotating.ssl.keystore.location"
        configure_broker(self.bootstrap_servers, {name: str(made.both)})
        # The authorities' own come behind it.
        leaf = made.certificate.read_text().partition("-----END")[0]
        place = ("127.0.0.1", self.port_of("ROTATING"))
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not ssl.get_server_certificate(place).startswith(leaf):
            assert time.monotonic() < deadline, "the broker keeps its certificate"
            time.sleep(_LOOK_SECONDS)
        shown.write_text(wanted)

    @property
    def _owners(self) -> list[str]:
        """Who may do anything; the first comes over listeners without a sign-in."""
        client = self.provider.client_id
        return ["ANONYMOUS", USER, ROTATING_USER, _MUTUAL_USER, client]

    def _command(self, folder: Path, *arguments: str | Path) -> list[str | Path]:
        java, *rest = super()._command(folder, *arguments)
        allowed = "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls"
        return [java, f"{allowed}={self.provider.keys_url}", *rest]

    def _properties(self, node: _Node) -> str:
        # Of two lines with one name the later one counts.
        plain = f"PLAINTEXT://127.0.0.1:{node.port}"
        controller = f"CONTROLLER://127.0.0.1:{node.controller_port}"
        bound = [f"{name}://127.0.0.1:{port}" for name, port in self._ports.items()]
        shown = [
            f"{name}://{_shown_host(name)}:{port}" for name, port in self._ports.items()
        ]
        kinds = [f"{name}:{kind}" for name, (kind, _) in _LISTENERS.items()]
        lines = [
            f"listeners={','.join((plain, controller, *bound))}",
            f"advertised.listeners={','.join((plain, *shown))}",
            "listener.security.protocol.map="
            + ",".join(("PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *kinds)),
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={self._broker.both}",
            # A certificate that takes another's place may name other things.
            "ssl.allow.dn.changes=true",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self.authority.file}",
            f"ssl.principal.mapping.rules=RULE:^.*$/{_MUTUAL_USER}/",
            f"authorizer.class.name={_GUARD}",
            "super.users=" + ";".join(f"User:{name}" for name in self._owners),
        ]
        for name, (_, mechanisms) in _LISTENERS.items():
            prefix = f"listener.name.{name.lower()}"
            if mechanisms:
                lines.append(f"{prefix}.sasl.enabled.mechanisms={','.join(mechanisms)}")
            for mechanism in mechanisms:
                login = _LOGIN[mechanism]
                if mechanism == "PLAIN":
                    login += f' user_{USER}="{PASSWORD}";'
                key = f"{prefix}.{mechanism.lower()}.sasl.jaas.config"
                lines.append(f"{key}={login}")
        prefix = "listener.name.tokens"
        lines += [
            f"{prefix}.oauthbearer.sasl.server.callback.handler.class={_VALIDATOR}",
            f"{prefix}.sasl.oauthbearer.jwks.endpoint.url={self.provider.keys_url}",
            f"{prefix}.sasl.oauthbearer.expected.audience=kafka",
            f"{prefix}.sasl.oauthbearer.expected.issuer={self.provider.issuer}",
        ]
        lines += [
            *(
                f"listener.name.{name.lower()}.ssl.client.auth=required"
                for name in _WITH_CERTIFICATE
            ),
            "listener.name.expired.ssl.keystore.type=PEM",
            f"listener.name.expired.ssl.keystore.location={self._expired.both}",
            "listener.name.rotating.ssl.keystore.type=PEM",
            f"listener.name.rotating.ssl.keystore.location={self._rotating.both}",
            f"listener.name.rotating.connections.max.reauth.ms={_SESSION_MS}",
            "",
        ]
        return super()._properties(node) + "\n".join(lines)


def _shown_host(listener: str) -> str:
    """Where a listener sends its clients."""
    return "127.0.0.1" if listener == "MISNAMED" else "localhost"
