"""Settings of brokers, topics and of what feeds them."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, Field, SecretStr, model_validator

from streams.settings.rules import Positive
from streams.settings.sources import IDS, REGISTERED, Source, load_sources, registry_address, with_registry

ENV_PREFIX = "SLATESTREAM_"


class KafkaSettings(BaseModel):
    """Connections to brokers and the schema registry, and the names of group and topics."""

    bootstrap_servers: str = Field(
        "127.0.0.1:9092",
        min_length=1,
        validation_alias=AliasChoices(
            "bootstrap_servers", f"{ENV_PREFIX}BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS"
        ),
        description="Comma-separated host:port of the brokers (KAFKA_BOOTSTRAP_SERVERS works too).",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    sasl_token_file: Path | None = Field(
        None,
        description="For OAUTHBEARER: the file with the token. It is read at each connection, so to renew "
        "the token write the file again.",
    )
    ssl_cafile: Path | None = Field(None, description="CA bundle; the system's when unset.")
    ssl_certificate: Path | None = Field(
        None, description="PEM file of the client certificate, where brokers ask for one."
    )
    ssl_key: Path | None = Field(None, description="PEM file of its key, without a password.")
    group_id: str = Field("slatestream", min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="Put before every topic.")
    partitions: Positive = Field(4, description="Partitions of every user-keyed topic (co-partitioned).")
    replication_factor: Positive = 1
    session_timeout_ms: Annotated[int, Field(ge=1_000)] = 10_000
    connect_timeout_ms: Annotated[int, Field(ge=0)] = Field(
        60_000,
        description="How long a starting worker waits for an unreachable broker before it exits.",
    )
    instance_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None,
        description="Name of this worker in its group, its own and the same after each start, e.g. that of "
        "its pod: one that comes back then has its partitions as they were. Others wait `session_timeout_ms` "
        "for what it held, also after a stop. Two of one name take it from each other in turn.",
    )

    mapping: Path | None = Field(
        None,
        description="File that says which of your own topics feed the inputs, and how: `slatestream map`.",
    )
    pseudonym_key_file: Path | None = Field(
        None,
        description="File with a secret key: `import` and mapped topics with repartition = true then write "
        "keyed hashes in the place of users' ids. See deploy/security.md.",
    )
    registry: str | None = Field(
        None, description="Schema registry of mapped topics in Avro or Protobuf, where their file names none."
    )
    registry_username: str | None = None
    registry_password: SecretStr | None = None

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The topics of `mapping`: none without one."""
        found = () if self.mapping is None else load_sources(self.mapping)
        return tuple(with_registry(source, self.registry) for source in found)

    @model_validator(mode="after")
    def _check_kafka_credentials(self) -> Self:
        if (self.ssl_certificate is None) != (self.ssl_key is None):
            raise ValueError("ssl_certificate and ssl_key must be given together")
        if not self.security_protocol.startswith("SASL"):
            return self
        if self.sasl_mechanism == "OAUTHBEARER":
            if self.sasl_token_file is None:
                raise ValueError("sasl_mechanism=OAUTHBEARER needs sasl_token_file")
        elif not (self.sasl_username and self.sasl_password):
            raise ValueError(
                f"security_protocol={self.security_protocol} needs sasl_username and sasl_password"
            )
        return self

    @model_validator(mode="after")
    def _check_pseudonyms(self) -> Self:
        if self.pseudonym_key_file is None:
            return self
        for source in self.sources:
            if IDS[source.feeds] == "user_id" and not source.repartition:
                raise ValueError(
                    f"mapping: source {source.topic} needs repartition = true where pseudonym_key_file is "
                    "set: read where it is, its partitions are those of the ids themselves"
                )
        return self

    @model_validator(mode="after")
    def _check_registry(self) -> Self:
        if self.registry is not None:
            registry_address(self.registry)
        if (self.registry_username is None) != (self.registry_password is None):
            raise ValueError("registry_username and registry_password must be given together")
        for source in self.sources:
            for kind in (source.format, source.key_format):
                if kind in REGISTERED and source.registry is None:
                    raise ValueError(
                        f"mapping: source {source.topic} is {kind}, so it needs the address of the schema "
                        'registry: registry = "http://..." in the mapping file, or the setting registry'
                    )
        return self
