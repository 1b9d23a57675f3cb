"""
The group of settings of `bridge board`: its port, and what it keeps.

The bridge itself takes none of them: the board is a process of its own.
"""

from __future__ import annotations

from typing import Annotated

from bridge.settings.about import MIB, Section, about


__all__ = ["BoardSettings"]


class BoardSettings(Section, frozen=True):
    """The page of `bridge board`."""

    listen: Annotated[
        str,
        about(
            "Address of the page",
            because="only this machine sees it unless somebody opens it",
            expected="host:port, for instance 127.0.0.1:8090",
            flag="--listen",
        ),
    ] = "127.0.0.1:8090"
    hosts: Annotated[
        str | None,
        about(
            "Other names by which browsers reach the page, with commas between",
            because="a name that isn't known may be a stranger's that leads here",
            expected="names or addresses without ports, with commas between",
        ),
    ] = None
    since_seconds: Annotated[
        int,
        about(
            "How long ago reading begins",
            because="long enough to see what led to now, and read within seconds",
            ge=0,
        ),
    ] = 900
    max_jobs: Annotated[
        int,
        about(
            "How many jobs are kept at most, those with the latest events",
            because="about 10 MB of memory; 200 of them are shown",
            ge=1,
            le=1_000_000,
        ),
    ] = 5_000
    shown_jobs: Annotated[
        int,
        about(
            "How many jobs a browser gets at most, the latest that its filter lets "
            "through",
            because="more than a wall screen has room for",
            ge=1,
            le=5_000,
        ),
    ] = 200
    max_preview_bytes: Annotated[
        int,
        about(
            "How many bytes of previews are kept at most, the latest ones; one alone "
            "may have a sixteenth of it",
            because="700 previews of 90 KB",
            ge=MIB,
        ),
    ] = 64 * MIB
    max_browsers: Annotated[
        int,
        about(
            "How many browsers are told at once at most",
            because="a team's, with room for tabs that were forgotten",
            ge=1,
            le=10_000,
        ),
    ] = 100
    updates_per_second: Annotated[
        int,
        about(
            "How often a browser is told what has changed at most",
            because="fluent for people, and what comes between costs nothing",
            ge=1,
            le=60,
        ),
    ] = 4
    show_results: Annotated[
        bool,
        about(
            "Show where results lie, with their signatures",
            because="whoever has such an address can fetch the result",
        ),
    ] = False
