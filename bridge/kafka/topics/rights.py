"""
What a user may do with a topic, in the words by which it is granted.

Brokers tell it as bits, since Kafka 2.3 (KIP-430): one for each AclOperation of the
protocol. What the bridge needs of them stands here and in docs/security.md; who asks is
`facts` and `preflight`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


__all__ = ["NEEDED", "WISHED", "lacking"]

# Read to resume: what stands in the log is the truth about what was written.
NEEDED: Final[Mapping[int, str]] = MappingProxyType(
    {3: "Read", 4: "Write", 8: "Describe"}
)

# To tell what is dangerous about a topic.
WISHED: Final[Mapping[int, str]] = MappingProxyType({10: "DescribeConfigs"})

# What a broker answers that doesn't tell.
_NOT_TOLD: Final = -(2**31)


def lacking(operations: int, wanted: Mapping[int, str]) -> tuple[str, ...] | None:
    """
    Tell what a user lacks of some rights.

    Args:
        operations: The bits, as a broker gave them.
        wanted: The rights by their bits.

    Returns:
        Their names; None if the broker doesn't tell.
    """
    if operations == _NOT_TOLD:
        return None
    return tuple(name for bit, name in wanted.items() if not operations >> bit & 1)
