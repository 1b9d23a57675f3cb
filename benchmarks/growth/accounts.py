"""The bridge with any number of accounts, as its users run it: a contender."""

from __future__ import annotations

import json

from benchmarks.contenders import Stage, program
from benchmarks.orders import answers
from tests.kit.process import ChildProcess, free_ports


__all__ = ["ManyAccounts"]


class ManyAccounts:
    """The bridge, its accounts listed in a file: those of the stage's traffic."""

    name = "bridge"
    publishes = True

    def process(self, stage: Stage) -> ChildProcess:
        """Describe the bridge's process."""
        (port,) = free_ports(1)
        token = stage.folder / "token"
        token.write_text("any")
        config = stage.folder / "bridge.toml"
        config.write_text(
            "\n".join(
                f"[[accounts]]\nclient_id = {json.dumps(client_id)}\n"
                f"api_token_file = {json.dumps(str(token))}\n"
                for client_id in stage.traffic.client_ids
            )
        )
        settings = {
            "BRIDGE_API_URL": stage.upstream.api_url,
            "BRIDGE_PUSHER_APP_KEY": stage.upstream.app_key,
            "BRIDGE_PUSHER_URL": stage.upstream.pusher_url,
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": stage.kafka,
            "BRIDGE_OUTBOX_DIR": str(stage.folder / "outbox"),
            "BRIDGE_OPERATIONS_LISTEN": f"127.0.0.1:{port}",
            "BRIDGE_LOG_LEVEL": "warning",
        }
        return program(
            self.name,
            ["bridge", "--topic", stage.topic, "--config", str(config)],
            stage.folder,
            environment=settings,
            ready=lambda _: answers(f"http://127.0.0.1:{port}/readyz"),
        )

    def obstacle(self) -> str | None:
        """Say nothing: `make install` brings all."""
        return None

    def versions(self) -> dict[str, str]:
        """Give none: they stand in every report."""
        return {}
