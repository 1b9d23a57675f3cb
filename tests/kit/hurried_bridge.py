"""
The bridge with shorter waits than its own, which are not settings.

    BRIDGE_TEST_PUSHER_TIMEOUT_SECONDS=1 python -P tests/kit/hurried_bridge.py
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from bridge.__main__ import main
from bridge.settings.model import sections


def waits() -> dict[str, tuple[type[Any], str]]:
    """Give the section and the field of each wait, by name in capitals."""
    return {
        f"{name}_{field.name}".upper(): (section, field.name)
        for name, section in sections().items()
        for field in fields(section)
        if not field.metadata
    }


if __name__ == "__main__":
    for known, (owner, field_name) in waits().items():
        if seconds := os.environ.get(f"BRIDGE_TEST_{known}"):
            owner.__init__.__kwdefaults__[field_name] = float(seconds)
    main()
