"""
The names of the headers of every record, and the fixed values of some.

Names only: a header's content is made where the record is made.
"""

from __future__ import annotations

from typing import Final


# CloudEvents' Kafka binding, binary mode: attributes are headers with this prefix,
# except the content type, which has the name that is common in Kafka.
CE_SPECVERSION: Final = "ce_specversion"
CE_ID: Final = "ce_id"
CE_SOURCE: Final = "ce_source"
CE_TYPE: Final = "ce_type"
CE_TIME: Final = "ce_time"
CE_SUBJECT: Final = "ce_subject"
CONTENT_TYPE: Final = "content-type"

# W3C's Trace Context: plain, as clients instrumented with OpenTelemetry look for it.
TRACEPARENT: Final = "traceparent"

# The bridge's own.
BRIDGE_OUTBOX: Final = "bridge_outbox"
BRIDGE_SEQUENCE: Final = "bridge_sequence"
BRIDGE_ORIGIN: Final = "bridge_origin"
BRIDGE_NORMALIZED: Final = "bridge_normalized"
BRIDGE_ANOMALY: Final = "bridge_anomaly"

# Dead letters: the bridge's own, and the names under which Kafka Connect's error
# reporter says the same, so that tools made for it understand them.
BRIDGE_REASON: Final = "bridge_reason"
BRIDGE_TRUNCATED: Final = "bridge_truncated"
BRIDGE_ORIGINAL_SIZE: Final = "bridge_original_size"
BRIDGE_SHA256: Final = "bridge_sha256"
# The place that a refused record leaves empty in its own topic.
BRIDGE_REFUSED_TOPIC: Final = "bridge_refused_topic"
BRIDGE_REFUSED_PARTITION: Final = "bridge_refused_partition"
BRIDGE_REFUSED_SEQUENCE: Final = "bridge_refused_sequence"
# Its identity: a dead letter has one of its own.
BRIDGE_REFUSED_CE_ID: Final = "bridge_refused_ce_id"
ERROR_STAGE: Final = "__connect.errors.stage"
ERROR_CLASS: Final = "__connect.errors.exception.class.name"
ERROR_MESSAGE: Final = "__connect.errors.exception.message"

# A record that was made of a dead letter: where that stands, and its identity.
BRIDGE_REPLAYED_FROM: Final = "bridge_replayed_from"
BRIDGE_REPLAYED_CE_ID: Final = "bridge_replayed_ce_id"

# The digest of the preview that is on a topic of its own, as hex: in a job's record
# and in the preview's.
BRIDGE_PREVIEW_SHA256: Final = "bridge_preview_sha256"

# Values of `bridge_anomaly`, with commas between where there are several.
DUPLICATE: Final = b"duplicate"
REGRESSION: Final = b"regression"
RESENT: Final = b"resent"
REPLAYED: Final = b"replayed"

# Values of `ce_type`.
JOB_STATUS_TYPE: Final = "dev.dryapi.request.status.updated"
DEAD_LETTER_TYPE: Final = "dev.dryapi.bridge.dead-letter"
GAP_TYPE: Final = "dev.dryapi.bridge.gap"
PREVIEW_TYPE: Final = "dev.dryapi.request.preview"

# Values of `content-type`.
JSON_CONTENT: Final = "application/json"
BYTES_CONTENT: Final = "application/octet-stream"

# Values of `__connect.errors.stage`, from Connect's enumeration of stages.
VALUE_CONVERTER_STAGE: Final = "VALUE_CONVERTER"
TRANSFORMATION_STAGE: Final = "TRANSFORMATION"
KAFKA_PRODUCE_STAGE: Final = "KAFKA_PRODUCE"
