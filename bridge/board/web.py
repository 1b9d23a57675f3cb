"""
The board's application: the page, its events, and previews.

Owns paths and answers. What is known stands in `board`, what goes before and behind
each answer in `guard`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bridge.board.board import Board
from bridge.board.events import Events
from bridge.board.files import PageFile
from bridge.board.guard import Guard


__all__ = ["application"]

# Nothing but a picture, whoever opens it, and nowhere but on the board's own page. It
# never changes: another picture has another address.
_PICTURE: Final = {
    "Cache-Control": "private, max-age=3600, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


def application(
    board: Board, events: Events, files: Mapping[str, PageFile], hosts: Iterable[str]
) -> Starlette:
    """
    Make the application.

    Args:
        board: What is known.
        events: What browsers are told.
        files: The page's own files, by their paths.
        hosts: Names by which it may be asked, beside this machine's own.
    """

    async def preview(request: Request) -> Response:
        picture = board.picture(request.path_params["request_id"])
        if picture is None:
            return PlainTextResponse("That preview is kept no longer.\n", 404)
        headers = {**_PICTURE, "Content-Type": picture.content_type}
        if request.query_params.get("v") != str(picture.version):
            # A newer one than was asked for, which has another address.
            headers["Cache-Control"] = "no-store"
        return Response(picture.data, headers=headers)

    app = Starlette(
        routes=[
            Route("/events", events.answer),
            Route("/previews/{request_id:path}", preview),
            *(Route(path, file.answer) for path, file in files.items()),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
    )
    app.router.redirect_slashes = False
    return app
