"""The OpenAPI 3.1 document of the HTTP API, made from its routes and the structs that they name."""

import functools
import inspect
from http import HTTPStatus
from typing import Any

import msgspec

from streams.api.asking import ID, Parameter
from streams.api.problems import CONTENT_TYPE, ProblemDetails
from streams.api.routes import ROUTES, Place, Route

GUARD = (401, 403, 429)
UNREAD = (414, 431)  # what no route has seen yet: a URL or headers that are too long
ABOUT = """Slates of items for users, over HTTP.

Any worker may be asked: one that does not own the user redirects (307) to the one that does. Whatever is
refused is a problem (RFC 9457). Where tokens are configured, each operation takes one with the scope that it
names."""
REASONS = {
    307: "Another worker owns the user: ask at `Location`.",
    400: "A parameter, a field or an id is wrong; `detail` names it.",
    401: "No token, or one that is not known or has expired.",
    403: "The token is not for this.",
    404: "The user or the item is not known.",
    408: "The body has not come in time.",
    409: "The slate of the request_id belongs to another user or is not stored any more; or the user to "
    "release has never been in quarantine.",
    413: "The body, or the slate's record with its context, is too large.",
    415: "The body is not JSON.",
    414: "The URL is too long: what is asked for goes into the body of a POST.",
    429: "Too many requests; `Retry-After` says when to come again.",
    503: "Not ready, overloaded, or the partition is moving; try again.",
}


@functools.cache
def document(places: frozenset[Place] = frozenset(("public", "admin", "both"))) -> bytes:
    """Return the document of the routes of these places, as JSON."""
    routes = [route for route in ROUTES if route.place in places]
    structs = [part for route in routes for part in (route.answer, route.body) if isinstance(part, type)]
    refs, components = msgspec.json.schema_components(
        [*structs, ProblemDetails], ref_template="#/components/schemas/{name}"
    )
    schemas: dict[Any, Any] = dict(zip([*structs, ProblemDetails], refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "slatestream", "version": "1", "description": ABOUT},
            "paths": paths,
            "components": {
                "schemas": {name: _clean(schema) for name, schema in components.items()},
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [*map(_in_path, _names(route.path)), *map(_in_query, route.parameters)],
        "responses": {"200": _answer(route, schemas)},
    }
    problem = {CONTENT_TYPE: {"schema": schemas[ProblemDetails]}}
    for status in (*route.refusals, *(GUARD if route.scope else ()), *UNREAD, 500):
        reason = REASONS.get(status, HTTPStatus(status).phrase)
        operation["responses"][str(status)] = {"description": reason, "content": problem}
    if route.unready:
        operation["responses"]["503"] = _answer(route, schemas)
    if route.redirects:
        operation["responses"]["307"] = {"description": REASONS[307]}
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[route.body]}},
        }
    if route.scope is not None:
        operation["security"] = [{"bearer": [route.scope]}, {}]
    return operation


def _answer(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(route.answer, str):
        return {"description": "As text.", "content": {route.answer: {"schema": {"type": "string"}}}}
    schema = route.answer if isinstance(route.answer, dict) else schemas[route.answer]
    return {"description": "The answer.", "content": {"application/json": {"schema": schema}}}


def _names(path: str) -> list[str]:
    return [part.strip("{}") for part in path.split("/") if part.startswith("{")]


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": ID}


def _in_query(parameter: Parameter) -> dict[str, Any]:
    schema = {"type": "array", "items": parameter.schema} if parameter.many else parameter.schema
    return {"name": parameter.name, "in": "query", "description": parameter.about, "schema": schema}


def _clean(schema: Any) -> Any:
    """Take the indentation of docstrings out."""
    if isinstance(schema, dict):
        return {
            name: inspect.cleandoc(value)
            if name == "description" and isinstance(value, str)
            else _clean(value)
            for name, value in schema.items()
        }
    return [_clean(one) for one in schema] if isinstance(schema, list) else schema
