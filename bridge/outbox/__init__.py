"""
The transactional outbox: a SQLite file with the records that aren't in Kafka yet.

`Outbox` accepts records. The relay sends and acknowledges them.
"""

from bridge.outbox.directory import OutboxDirectory
from bridge.outbox.outbox import Outbox


__all__ = ["Outbox", "OutboxDirectory"]
