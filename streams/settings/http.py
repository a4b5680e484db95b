"""Settings of the HTTP API, of its tokens and limits, and of the console."""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from streams.settings.rules import Positive
from streams.settings.tokens import TokenSettings


class HttpSettings(BaseModel):
    """The address of a worker, its tokens, and limits of requests."""

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 6066
    advertised_url: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+$",
        description="How other workers' clients reach this one: a URL without a path.",
    )
    admin_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port of /metrics and /v1/digest; unset, they are on http_port."
    )
    admin_host: str = Field("127.0.0.1", description="Where that port is bound.")
    console_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port of the console, on 127.0.0.1 only; 0 takes a free one; unset, there is none."
    )
    console_names: tuple[str, ...] = Field(
        (), description="Host names under which a proxy on this machine shows the console."
    )
    http_tokens: dict[str, TokenSettings] = Field(
        {},
        description="Name -> sha256 of a bearer token in hex, its scopes (recommend, explain, admin) and "
        "perhaps when it expires. Without any token everybody may ask; with one, nobody without.",
    )
    http_tokens_file: Path | None = Field(
        None, description="The same as a TOML file, a table a token; it is read again when it changes."
    )
    http_tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate and what it is signed by: HTTPS instead of HTTP."
    )
    http_tls_key: Path | None = Field(None, description="PEM file of its key, without a password.")
    http_release_files: bool = Field(
        False,
        description="Whether devices may download files of the release that serves, and vectors of items: "
        "whoever has them knows what the release has learned.",
    )
    http_cors_origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may read answers, e.g. https://shop.example; '*' is every one."
    )
    http_rate_per_s: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Requests a second of one token, or of one address where none is asked for; unset, as "
        "many as come.",
    )
    http_rate_burst: Positive = Field(20, description="How many of them may come at once.")
    http_max_connections: Positive = Field(
        2_000, description="Connections at a time; beyond, the one that is idle for longest is closed."
    )
    http_idle_s: Annotated[float, Field(gt=0)] = Field(
        90.0,
        description="How long a connection may be idle, or take to send the headers of a request.",
    )
    http_max_body_bytes: Positive = Field(1024 * 1024, description="Of a request; more is refused (413).")

    @field_validator("advertised_url")
    @classmethod
    def _check_advertised_url(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).hostname in ("0.0.0.0", "::"):
            raise ValueError(f"advertised_url must be an address that others reach, got {url!r}")
        return url

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.http_tls_certificate is None) != (self.http_tls_key is None):
            raise ValueError("http_tls_certificate and http_tls_key must be given together")
        return self
