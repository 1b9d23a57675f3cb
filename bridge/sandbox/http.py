"""
What every HTTP handler of the sandbox needs: bodies with an end, tokens, JSON.

No route and no answer of its own: those stand in `dryapi`, `pusher_api` and
`control`.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response


__all__ = [
    "BodyTooLargeError",
    "UnreadableBodyError",
    "bearer_token",
    "error_body",
    "fields",
    "json_response",
    "read_as",
    "read_body",
]

_T = TypeVar("_T")


class BodyTooLargeError(Exception):
    """A request's body is longer than the handler takes: answer 413."""


class UnreadableBodyError(Exception):
    """A request's body isn't what was asked for: answer 422 and the message."""


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Build an answer in JSON."""
    return Response(
        msgspec.json.encode(content), status, headers, media_type="application/json"
    )


def error_body(status: int, message: str) -> dict[str, object]:
    """Build dryAPI's documented body of an error."""
    return {"data": None, "message": message, "errors": [], "statusCode": status}


async def read_body(request: Request, max_bytes: int) -> bytes:
    """
    Read a request's body.

    Args:
        request: The request.
        max_bytes: How much is taken.

    Returns:
        The body.

    Raises:
        BodyTooLargeError: It is longer.
    """
    body = bytearray()
    # Closed here, since trio doesn't allow that a generator is left to the
    # garbage collector half-way.
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > max_bytes:
                raise BodyTooLargeError
    return bytes(body)


async def read_as(request: Request, max_bytes: int, shape: type[_T]) -> _T:
    """
    Read a request's body as JSON of a known shape; no body counts as `{}`.

    Args:
        request: The request.
        max_bytes: How much is taken.
        shape: What it must be.

    Raises:
        BodyTooLargeError: It is longer.
        UnreadableBodyError: It is something else; the message says what.
    """
    body = await read_body(request, max_bytes)
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreadableBodyError(str(error)) from error


def fields(request: Request, body: bytes) -> dict[str, Any]:
    """
    Read the members of a body that is a JSON object or a form.

    Returns:
        The members; none for a body that is neither.
    """
    if "json" in request.headers.get("content-type", ""):
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}
    # Laravel reads a body without a type, or with this one, as a form.
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=100))
    except ValueError:
        return {}


def bearer_token(request: Request) -> str:
    """Read the bearer token; empty without one."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""
