"""
The transactional outbox: what has been read and is not yet safely in Kafka.

`Outbox` is the room's door. Nothing here knows Kafka's client or Pusher: rows
come in as `Record`, get their place in a lane, and leave as `StoredRecord`.
"""

from bridge.outbox.disk.directory import OutboxDirectory
from bridge.outbox.outbox import Outbox
from bridge.outbox.records import LaneState
from bridge.outbox.statistics import OutboxStatistics


__all__ = ["LaneState", "Outbox", "OutboxDirectory", "OutboxStatistics"]
