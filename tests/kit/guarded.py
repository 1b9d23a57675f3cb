"""A Kafka with an owner: who comes over its guarded listener needs a right for all."""

from __future__ import annotations

from confluent_kafka.admin import AclOperation, ResourceType

from bridge.settings import Secret
from tests.kit.guest import Right, grant
from tests.kit.kafka import KafkaServer, _Node


_USER = "bridge"
_PASSWORD = "only-for-tests"


class GuardedKafka(KafkaServer):
    """One broker whose second listener knows one user, without any right at first."""

    @property
    def guarded_servers(self) -> str:
        """Where the user is asked for his password."""
        return f"127.0.0.1:{self.detours[0].broker_port}"

    @property
    def credentials(self) -> dict[str, object]:
        """The bridge's settings for this listener."""
        return {
            "bootstrap_servers": self.guarded_servers,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": _USER,
            "sasl_password": Secret(_PASSWORD),
        }

    def allow(self, kind: ResourceType, name: str, *operations: AclOperation) -> None:
        """Grant permissions on all that begins with a name."""
        rights = (Right(kind, name, one, prefixed=True) for one in operations)
        grant(self, _USER, *rights)

    def _properties(self, node: _Node) -> str:
        # Of two lines with one name the later one counts.
        plain = f"PLAINTEXT://127.0.0.1:{node.port}"
        protocols = "PLAINTEXT:PLAINTEXT,DETOUR0:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT"
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        users = f'{login} user_{_USER}="{_PASSWORD}";'
        guard = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        return super()._properties(node) + "\n".join(
            (
                f"listener.security.protocol.map={protocols}",
                f"advertised.listeners={plain},DETOUR0://{self.guarded_servers}",
                "sasl.enabled.mechanisms=PLAIN",
                f"listener.name.detour0.plain.sasl.jaas.config={users}",
                f"authorizer.class.name={guard}",
                "super.users=User:ANONYMOUS",
                "",
            )
        )
