"""
dryAPI's own interface: authorisation, job status, jobs and their pictures.

The answers' shapes follow dryAPI's documentation and, where it is silent,
Laravel, on which it runs. Jobs themselves stand in `jobs` and `simulation`.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.sandbox.addresses import Addresses
from bridge.sandbox.config import SandboxConfig
from bridge.sandbox.errors import TooManyJobsError
from bridge.sandbox.faults import StatusFaults
from bridge.sandbox.http import (
    bearer_token,
    error_body,
    fields,
    json_response,
    read_body,
)
from bridge.sandbox.jobs import Job, JobBook, JobRequest
from bridge.sandbox.limits import RateLimiter
from bridge.sandbox.previews import Pictures
from bridge.sandbox.simulation import Simulation
from bridge.sandbox.statistics import Statistics


__all__ = ["DryApi"]

# An authorisation has two short fields, a job's request a prompt at most.
_MAX_BODY_BYTES = 64 * 1024

# Two numbers with a dot: what Pusher's own server libraries check for.
_SOCKET_ID = re.compile(r"\d+\.\d+")


def _error(
    status: int, message: str, headers: dict[str, str] | None = None
) -> Response:
    return json_response(error_body(status, message), status, headers)


class DryApi:
    """
    The handlers and their routes.

    Args:
        config: The sandbox's.
        book: Its jobs.
        simulation: What starts jobs.
        pictures: The previews and results.
        addresses: Where they are served.
        statistics: What counts status calls.
        accounts: Which tokens are good, and for which clients each; None for the
            one of the settings.

    Attributes:
        faults: Whether the status endpoint fails.
    """

    def __init__(  # noqa: PLR0913 - each is a part of its own
        self,
        config: SandboxConfig,
        book: JobBook,
        simulation: Simulation,
        pictures: Pictures,
        addresses: Addresses,
        *,
        statistics: Statistics,
        accounts: dict[str, set[str]] | None = None,
    ) -> None:
        self.faults = StatusFaults(config.seed)
        self._accounts = accounts or {config.api_token: {config.client_id}}
        self._statistics = statistics
        self._config = config
        self._book = book
        self._simulation = simulation
        self._pictures = pictures
        self._addresses = addresses
        # The limits are the token's.
        self._limiters: defaultdict[str, RateLimiter] = defaultdict(
            lambda: RateLimiter(config.plan)
        )

    def routes(self) -> list[Route]:
        """List what is served where."""
        status = "/api/v1/client/request-status/{request_id}"
        return [
            Route("/broadcasting/auth", self._authorize, methods=["POST"]),
            Route(status, self._status, methods=["GET"]),
            Route("/jobs", self._start_job, methods=["POST"]),
            Route("/previews/{request_id}.jpg", self._preview, methods=["GET"]),
            Route("/results/{request_id}.jpg", self._result, methods=["GET"]),
        ]

    async def _authorize(self, request: Request) -> Response:
        body = await read_body(request, _MAX_BODY_BYTES)
        clients = self._accounts.get(bearer_token(request))
        if clients is None:
            return json_response({"message": "Unauthenticated."}, 401)
        given = fields(request, body)
        faults = {
            name: [f"The {name.replace('_', ' ')} field is required."]
            for name in ("socket_id", "channel_name")
            if not isinstance(given.get(name), str) or not given[name]
        }
        if not faults and not _SOCKET_ID.fullmatch(given["socket_id"]):
            faults["socket_id"] = ["The socket id field format is invalid."]
        if faults:
            message = next(iter(faults.values()))[0]
            return json_response({"message": message, "errors": faults}, 422)
        channel = given["channel_name"]
        if channel not in {f"private-client.{client}" for client in clients}:
            return json_response({"message": "This action is unauthorized."}, 403)
        auth = self._config.app.channel_auth(given["socket_id"], channel)
        return json_response({"auth": auth})

    async def _status(self, request: Request) -> Response:
        answer = self._answer_status(request)
        self._statistics.answered_status(answer.status_code)
        return answer

    def _answer_status(self, request: Request) -> Response:
        # What a broken server does about the limits is left open: here it is a proxy
        # that answers, which neither looks at a token nor counts.
        fault = self.faults.code()
        if fault is not None:
            return _error(fault, "Server Error")
        token = bearer_token(request)
        if token not in self._accounts:
            return _error(401, "Unauthenticated.")
        allowance = self._limiters[token].take()
        if not allowance.allowed:
            return _error(429, "Too Many Attempts.", allowance.headers)
        job = self._book.get(request.path_params["request_id"])
        if job is None:
            return _error(404, "Request not found.", allowance.headers)
        return json_response({"data": self._describe(job)}, headers=allowance.headers)

    def _describe(self, job: Job) -> dict[str, object]:
        # Not the event's shape: no request id, progress a number, the preview an
        # address, and no `in_progress`.
        preview = result = None
        if job.status == "in_progress" and self._config.previews:
            preview = self._addresses.preview(job.request_id)
        if job.status == "done":
            result = self._addresses.result(job.request_id, time.time())
        return {
            "status": "processing" if job.status == "in_progress" else job.status,
            "preview": preview,
            "result_url": result,
            "results_alt_formats": result and {"jpg": result, "webp": None},
            "result": None,
            "progress": job.progress,
        }

    async def _start_job(self, request: Request) -> Response:
        # The sandbox's own door: it asks for no token, so that a `curl` is short.
        body = await read_body(request, _MAX_BODY_BYTES)
        try:
            wanted = msgspec.json.decode(body or b"{}", type=JobRequest)
            job = self._simulation.start_requested(wanted)
        except (msgspec.DecodeError, RecursionError) as error:
            return _error(422, str(error))
        except TooManyJobsError as error:
            return _error(429, str(error), {"Retry-After": "10"})
        return json_response({"request_id": job.request_id}, 201)

    async def _preview(self, request: Request) -> Response:
        job = self._book.get(request.path_params["request_id"])
        if job is None or not self._config.previews:
            return _error(404, "Preview not found.")
        jpeg = self._pictures.jpegs[job.picture][job.stage]
        return Response(jpeg, media_type="image/jpeg")

    async def _result(self, request: Request) -> Response:
        allowed = self._addresses.may_fetch(
            request.url.path,
            request.query_params.get("expires", ""),
            request.query_params.get("signature", ""),
            time.time(),
        )
        if not allowed:
            return _error(403, "Invalid signature.")
        # A signed address is good after its job is forgotten: the id names the
        # picture.
        number = self._pictures.number_of(request.path_params["request_id"])
        return Response(self._pictures.results[number], media_type="image/jpeg")
