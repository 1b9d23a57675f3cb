"""Answers of dryAPI that are played by httpx's transports, without a network."""

from __future__ import annotations

import httpx  # noqa: TID251 - its transports play the answers
import trio

from bridge.http.client import Request, Response, Transport


def played(transport: httpx.AsyncBaseTransport) -> Transport:
    """Let a transport answer the client's requests."""

    async def exchange(request: Request) -> Response:
        async with (
            httpx.AsyncClient(transport=transport, timeout=None) as client,  # noqa: S113 - the client under test has its own
            client.stream(
                request.method,
                f"https://{request.host}{request.target}",
                headers=dict(request.headers),
                content=request.body,
            ) as response,
        ):
            body = bytearray()
            # Cancelled instead of `break`: httpx nests generators.
            with trio.CancelScope() as reading:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > request.max_bytes:
                        reading.cancel()
            whole = None if reading.cancel_called else bytes(body)
            return Response(response.status_code, dict(response.headers), whole)

    return exchange
