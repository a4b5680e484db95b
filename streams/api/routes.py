"""The routes: the one place that says what may be asked. Served, guarded and documented from here."""

from dataclasses import dataclass
from typing import Any, Literal

from streams.api.answers import (
    Explanation,
    Held,
    ItemList,
    ItemState,
    PartitionState,
    Quarantined,
    Slate,
    UserState,
)
from streams.api.asking import OF_LISTS, OF_STATE, PARAMETERS, Asked, Holding, Parameter
from streams.settings.tokens import Scope

Place = Literal["public", "admin", "both"]
"""Which port answers, where the admin port is one of its own."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route: its path, method and scope.

    Attributes
    ----------
    name : of the handler, and the operation's id
    scope : of the token that it takes; None: everybody may ask
    answer : what the body of a 200 is: a struct, JSON Schema, or a media type that is not JSON's
    refusals : statuses beside those of the guard, each with a problem
    redirects : whether another worker may have to be asked
    unready : whether the same comes with a 503, too
    """

    name: str
    path: str
    summary: str
    answer: Any
    method: Literal["GET", "POST"] = "GET"
    scope: Scope | None = None
    place: Place = "public"
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    refusals: tuple[int, ...] = ()
    redirects: bool = False
    unready: bool = False


SLATE = "/v1/recommendations/{user_id}"
ANY_OBJECT = {"type": "object"}

ROUTES = (
    Route(
        "recommend",
        SLATE,
        "A slate for a user. It is published, and learned from: a GET that is no look.",
        Slate,
        scope="recommend",
        parameters=PARAMETERS,
        refusals=(400, 409, 503),
        redirects=True,
    ),
    Route(
        "recommendByBody",
        SLATE,
        "The same, what is asked for being in the body: with filters, candidates, context, ids with commas.",
        Slate,
        method="POST",
        scope="recommend",
        body=Asked,
        refusals=(400, 408, 409, 413, 415, 503),
        redirects=True,
    ),
    Route(
        "explain",
        "/v1/explanations/{user_id}/{item_id}",
        "What an item's score for a user is made of, now.",
        Explanation,
        scope="explain",
        refusals=(400, 404, 503),
        redirects=True,
    ),
    Route(
        "user",
        "/v1/users/{user_id}",
        "What is known of a user: history, affinities, what is stated.",
        UserState,
        scope="explain",
        refusals=(400, 404, 503),
        redirects=True,
    ),
    Route(
        "item",
        "/v1/items/{item_id}",
        "What is known of an item: its content, its popularity, what is met together with it.",
        ItemState,
        scope="explain",
        refusals=(400, 404),
    ),
    Route(
        "list",
        "/v1/lists/{name}",
        "A list that is the same for everybody: trending, popular or fresh. Nothing is published or learned.",
        ItemList,
        scope="recommend",
        parameters=OF_LISTS,
        refusals=(400, 404),
    ),
    Route(
        "similar",
        "/v1/lists/similar/{item_id}",
        "What is met together with an item, the closest first.",
        ItemList,
        scope="recommend",
        parameters=OF_LISTS,
        refusals=(400, 404),
    ),
    Route(
        "release",
        "/v1/release",
        "The manifest of the release that serves: what a device downloads first, to rank by itself.",
        ANY_OBJECT,
        scope="recommend",
        refusals=(400, 404),
    ),
    Route(
        "releaseFile",
        "/v1/release/{version}/{file}",
        "A file of the release that serves, of those that a device ranks with.",
        "application/octet-stream",
        scope="recommend",
        refusals=(400, 404),
    ),
    Route(
        "digest",
        "/v1/digest",
        "A digest of the state and the offsets folded, for checks. Slow.",
        ANY_OBJECT,
        scope="admin",
        place="admin",
    ),
    Route(
        "state",
        "/v1/state/{partition}/{kind}",
        "Rows of an owned partition's state and their digest, a bucket at a time, for checks.",
        PartitionState,
        scope="admin",
        place="admin",
        parameters=OF_STATE,
        refusals=(400, 404, 503),
        redirects=True,
    ),
    Route(
        "quarantined",
        "/v1/quarantined/{partition}",
        "Who of an owned partition is or was in quarantine: whose clicks count for nobody else.",
        Quarantined,
        scope="admin",
        place="admin",
        refusals=(400, 404, 503),
        redirects=True,
    ),
    Route(
        "quarantine",
        "/v1/quarantine/{user_id}",
        "Puts a user into quarantine from the next click on, or releases one; durable once answered.",
        Held,
        method="POST",
        scope="admin",
        place="admin",
        body=Holding,
        refusals=(400, 404, 408, 409, 413, 415, 503),
        redirects=True,
    ),
    Route("metrics", "/metrics", "Prometheus's text format.", "text/plain", scope="admin", place="admin"),
    Route("healthz", "/healthz", "Whether the process works.", ANY_OBJECT, place="both"),
    Route(
        "readyz",
        "/readyz",
        "Whether state is restored and caught up; with a 503 the answer says what is missing.",
        ANY_OBJECT,
        place="both",
        unready=True,
    ),
    Route("openapi", "/openapi.json", "This document.", ANY_OBJECT, place="both"),
)
