"""
The transactional outbox: what was read and isn't safely in Kafka, in SQLite.

`Outbox` takes records, the relay sends them and acknowledges.
"""

from bridge.outbox.directory import OutboxDirectory
from bridge.outbox.outbox import Outbox


__all__ = ["Outbox", "OutboxDirectory"]
