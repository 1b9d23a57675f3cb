"""
The sandbox's HTTP application: its routes put together.

No handler of its own beside the answers to what isn't there.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from bridge.sandbox.http import (
    BodyTooLargeError,
    UnreadableBodyError,
    error_body,
    json_response,
)


__all__ = ["build"]


def build(routes: Sequence[BaseRoute]) -> Starlette:
    """
    Build the application.

    Args:
        routes: Everything that is served over HTTP.
    """
    return Starlette(
        routes=[*routes, WebSocketRoute("/{path:path}", _no_websocket)],
        exception_handlers={
            404: _not_found,
            405: _not_allowed,
            BodyTooLargeError: _too_large,
            UnreadableBodyError: _unreadable,
        },
        middleware=[
            # Browser clients under development run on other ports of the laptop;
            # a bearer token, not a cookie, is what lets them in.
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["*"],
                allow_headers=["*"],
            )
        ],
    )


async def _no_websocket(websocket: WebSocket) -> None:
    await websocket.send_denial_response(Response(status_code=404))


async def _not_found(_request: Request, _error: Exception) -> Response:
    return json_response(error_body(404, "Not found."), 404)


async def _not_allowed(_request: Request, error: Exception) -> Response:
    allowed = error.headers if isinstance(error, HTTPException) else None
    body = error_body(405, "This method is not supported here.")
    return json_response(body, 405, dict(allowed or {}))


async def _unreadable(_request: Request, error: Exception) -> Response:
    return json_response({"message": str(error)}, 422)


async def _too_large(_request: Request, _error: Exception) -> Response:
    return json_response({"error": "The body is too large.", "code": 413}, 413)
