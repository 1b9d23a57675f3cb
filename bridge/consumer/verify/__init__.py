"""
The proof that a topic has no hole, no duplicate and no reordering.

`judge` decides, from headers alone and without input or output; `proof` reads
topics for it; `view` shows what came of it. Nothing here knows the outbox's file:
what stands in it is told by the caller.
"""

from bridge.consumer.verify.proof import prove
from bridge.consumer.verify.report import Claim, Finding, Kind, Report
from bridge.consumer.verify.view import Watch, as_json, show


__all__ = [
    "Claim",
    "Finding",
    "Kind",
    "Report",
    "Watch",
    "as_json",
    "prove",
    "show",
]
