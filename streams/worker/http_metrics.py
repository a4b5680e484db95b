"""Rate, errors and duration of HTTP by route."""

import time
from typing import Any

from aiohttp import web

from streams.api.handlers import Handler
from streams.api.problems import as_problem
from streams.metrics import Metrics


def measured(metrics: Metrics) -> Any:
    """Return a middleware that counts and times each request by its route and its status.

    Whatever is refused is refused with a problem.
    """

    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        started, status = time.perf_counter(), 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as answer:
            status = answer.status
            raise as_problem(answer, request) from None
        finally:
            # "recommendations" of `/v1/recommendations/{user_id}`; None where no route was found.
            resource = request.match_info.route.resource
            path = "" if resource is None else resource.canonical
            route = path.removeprefix("/v1").partition("/{")[0].strip("/")
            metrics.count_http(route, status, time.perf_counter() - started)

    return measure
