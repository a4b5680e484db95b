"""A bearer token in the settings."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Scope = Literal["recommend", "explain", "admin"]
"""recommend: slates; explain: what a score is made of, users and items; admin: metrics, digest."""


class TokenSettings(BaseModel):
    """One token: the SHA-256 of it in hex, never the token, what it is for, and until when."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    expires: AwareDatetime | None = None
