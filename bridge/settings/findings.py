"""
What looking for settings comes to: values, their sources, and what is wrong.

Shapes alone; `loading` and `listing` fill them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bridge.settings.catalogue import SettingDescription
from bridge.settings.layers import Source
from bridge.settings.model import Settings


__all__ = ["EffectiveSetting", "Inspection", "Loaded"]


class Loaded(msgspec.Struct, frozen=True):
    """
    Settings that may be used.

    Attributes:
        settings: The values.
        warnings: A line for each variable that was passed over, for each connection
            to another machine that nothing encrypts, and for accounts whose webhooks
            are refused while others' are taken; for the log.
        sources: Where each value came from, by path.
    """

    settings: Settings
    warnings: tuple[str, ...]
    sources: Mapping[str, Source]


class EffectiveSetting(msgspec.Struct, frozen=True):
    """
    One setting as it stands, right or wrong.

    Attributes:
        setting: What it is.
        value: Its value; None for none, a missing or a wrong one.
        source: Where it came from.
        problem: What is wrong with it, a line, or None.
    """

    setting: SettingDescription
    value: Any
    source: Source
    problem: str | None


class Inspection(msgspec.Struct, frozen=True):
    """
    What the layers say, whether or not the service could run with it.

    Attributes:
        settings: The values, or None if there is a problem.
        effective: Every setting in the order of `describe`, and where accounts are
            listed, those of each behind the ones that belong to no group.
        problems: A line for each thing that is wrong.
        warnings: As in `Loaded`.
    """

    settings: Settings | None
    effective: tuple[EffectiveSetting, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
