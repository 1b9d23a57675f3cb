"""
The sandbox's own doors under `/sandbox/`: what it has done, and what it shall do.

Nothing here imitates dryAPI.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.sandbox.http import json_response, read_body
from bridge.sandbox.simulation import Simulation
from bridge.sandbox.statistics import Statistics


__all__ = ["Control"]

_MAX_BODY_BYTES = 4 * 1024


class _Emission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rate: float


class Control:
    """The handlers and their routes."""

    def __init__(self, simulation: Simulation, statistics: Statistics) -> None:
        self._simulation = simulation
        self._statistics = statistics

    def routes(self) -> list[Route]:
        """List what is served where."""
        return [
            Route("/sandbox/statistics", self._show, methods=["GET"]),
            Route("/sandbox/emission", self._set_rate, methods=["POST"]),
        ]

    def _report(self) -> dict[str, Any]:
        return {
            **self._statistics.as_dict(),
            "rate": self._simulation.rate,
            "emitting": self._simulation.emitting and self._simulation.rate > 0,
        }

    async def _show(self, _request: Request) -> Response:
        return json_response(self._report())

    async def _set_rate(self, request: Request) -> Response:
        body = await read_body(request, _MAX_BODY_BYTES)
        try:
            rate = msgspec.json.decode(body, type=_Emission).rate
        except (msgspec.DecodeError, RecursionError) as error:
            return json_response({"message": str(error)}, 422)
        if not (math.isfinite(rate) and rate >= 0):
            return json_response({"message": "rate: expected 0 or more"}, 422)
        await self._simulation.set_rate(rate)
        return json_response(self._report())
