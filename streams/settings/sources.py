"""Your own topics: a file that says which topics feed the inputs, and where each field comes from.

It is TOML with a `[[source]]` table per topic, and is checked as a whole before anything is read.
`streams.mapping` does what it says.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from streams.errors import ConfigurationError
from streams.events import Click, Content, Request, UserUpdate
from streams.settings.source_paths import Path as ValuePath
from streams.settings.source_paths import parse, parse_template
from streams.validation_messages import in_plain_words

Target = Literal["clicks", "content", "users", "requests"]

STRUCTS: Mapping[str, type[msgspec.Struct]] = {
    "clicks": Click,
    "content": Content,
    "users": UserUpdate,
    "requests": Request,
}
REGISTERED = ("avro", "protobuf")
"""Formats whose schemas are in a registry."""
IDS = {"clicks": "user_id", "content": "item_id", "users": "user_id", "requests": "user_id"}
"""The field that names the key of each input."""
DELETED_BY_NULL = ("content", "users")
# What a field comes from where a source does not say.
WHEN_UNSAID: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "clicks": {
        "event_id": {"template": "{$topic}-{$partition}-{$offset}"},
        "timestamp_ms": {"path": "$timestamp"},
    },
    "requests": {
        "request_id": {"template": "{$topic}-{$partition}-{$offset}"},
        "timestamp_ms": {"path": "$timestamp"},
    },
    "content": {},
    "users": {},
}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FieldSource(_Table):
    """Source of one field, and the steps applied to it, in the order of the attributes."""

    path: str | None = Field(None, description="Place in the record, such as `user.id`.")
    template: str | None = Field(None, description="Text with paths in braces, such as `{shop}:{item.id}`.")
    constant: Any = Field(None, description="The same value for every record.")
    default: Any = Field(None, description="Taken where nothing, or null, is at the path.")
    values: dict[str, Any] | None = Field(None, description="What each value becomes.")
    unlisted: Literal["refuse", "keep", "leave_out"] = Field(
        "refuse", description="What to do with a record whose value `values` does not list."
    )
    split: str | None = Field(None, min_length=1, description="Cuts a text into a list of texts.")
    unit: Literal["s", "ms", "us", "ns", "iso"] | None = Field(None, description="Of a time.")
    as_: Literal["text", "texts", "number", "integer"] | None = Field(
        None, alias="as", description="Turns numbers to text, one value to a list of texts, text to numbers."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in sorted(_ORIGINS) if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of path, template and constant, got {' and '.join(given) or 'none'}")
        if self.path is not None:
            parse(self.path)
        if self.template is not None:
            parse_template(self.template)
        if self.values is None and self.unlisted != "refuse":
            raise ValueError("unlisted is about `values`, and there are none")
        if self.unit is not None and self.as_ is not None:
            raise ValueError("unit makes a time of the value, so `as` has no place")
        return self


class Condition(_Table):
    """Condition for a record to be read; all that is given must hold."""

    path: str
    is_: tuple[Any, ...] | None = Field(None, alias="is")
    is_not: tuple[Any, ...] | None = None
    exists: bool | None = None
    at_least: float | None = None
    at_most: float | None = None

    @field_validator("is_", "is_not", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return value if value is None or isinstance(value, list) else (value,)

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse(self.path)
        if not self.model_fields_set - {"path"}:
            raise ValueError("says nothing of its path: give is, is_not, exists, at_least or at_most")
        return self


Nested = dict[str, FieldSource]
_ORIGINS = {"path", "template", "constant"}
_KEYS = {field.alias or name for name, field in FieldSource.model_fields.items()}


def _kind(value: Any) -> str:
    if not isinstance(value, dict) or value.keys() & _ORIGINS:
        return "field"
    return "field" if value and value.keys() <= _KEYS else "table"


Spec = Annotated[Annotated[FieldSource, Tag("field")] | Annotated[Nested, Tag("table")], Discriminator(_kind)]


class Source(_Table):
    """A topic, what it feeds, and how its records become ours."""

    topic: str = Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")
    feeds: Target
    format: Literal["json", "avro", "protobuf"] = "json"
    registry: str | None = Field(None, description="Address of the schema registry of Avro and Protobuf.")
    envelope: Literal["none", "cloudevents", "debezium"] = "none"
    key_format: Literal["text", "json", "avro", "protobuf"] = Field(
        "text", description="Of keys; a path such as `$key.id` reads a text key as JSON."
    )
    key: str = Field("$key", description="Names what a null value deletes.")
    each: str | None = Field(None, description="List of which each element is an event: `@` in paths.")
    where: tuple[Condition, ...] = ()
    repartition: bool = Field(
        False,
        description="Read by a group of its own and written to our topic by our keys, from where it is read.",
    )
    fields: dict[str, Spec]

    @field_validator("fields", mode="before")
    @classmethod
    def _short_forms(cls, fields: Any) -> Any:
        return (
            {name: _spelled_out(value) for name, value in fields.items()}
            if isinstance(fields, dict)
            else fields
        )

    @field_validator("registry")
    @classmethod
    def _check_address(cls, url: str | None) -> str | None:
        return url if url is None else registry_address(url)

    @field_validator("each", "key")
    @classmethod
    def _check_path(cls, text: str | None) -> str | None:
        if text is not None:
            parse(text)
        return text

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        struct = STRUCTS[self.feeds]
        known = struct.__struct_fields__
        if unknown := [name for name in self.fields if name not in known]:
            raise ValueError(f"{self.feeds} has no field {unknown[0]!r}; it has {', '.join(known)}")
        required = known[: len(known) - len(struct.__struct_defaults__)]
        missing = [name for name in required if name not in self.all_fields]
        if missing:
            raise ValueError(f"{self.feeds} needs the field {missing[0]!r}: say where it comes from")
        flat = [
            name for name, spec in self.fields.items() if isinstance(spec, dict) and not _nests(struct, name)
        ]
        if flat:
            raise ValueError(f"{flat[0]} is one value: give path, template or constant")
        if self.each is None and any(path.root in ("@", "$index") for path in self.paths()):
            raise ValueError("`@` and `$index` are of a list: say which in `each`")
        if self.each is not None and not self.repartition:
            raise ValueError("`each` makes several events of a record, which one offset cannot hold: "
                             "set repartition = true")  # fmt: skip
        if self.envelope == "none" and any(path.root == "$event" for path in self.paths()):
            raise ValueError('`$event` is the envelope: set envelope = "cloudevents" or "debezium"')
        return self

    @cached_property
    def all_fields(self) -> dict[str, FieldSource | Nested]:
        """`fields`, and what those come from that are not among them."""
        unsaid = {name: FieldSource.model_validate(said) for name, said in WHEN_UNSAID[self.feeds].items()}
        if self.each is not None:  # a record holds several, each with an id of its own
            unsaid = {
                name: spec.model_copy(update={"template": f"{spec.template}-{{$index}}"})
                if spec.template is not None
                else spec
                for name, spec in unsaid.items()
            }
        said = {**unsaid, **self.fields}
        return {name: said[name] for name in STRUCTS[self.feeds].__struct_fields__ if name in said}

    def paths(self) -> Iterator[ValuePath]:
        """Yield every path that the source names."""
        for spec in self.all_fields.values():
            for one in spec.values() if isinstance(spec, dict) else (spec,):
                if one.path is not None:
                    yield parse(one.path)
                if one.template is not None:
                    yield from (part for part in parse_template(one.template) if not isinstance(part, str))
        yield from (parse(condition.path) for condition in self.where)
        if self.each is not None:
            yield parse(self.each)


class _File(_Table):
    registry: str | None = None
    source: tuple[Source, ...] = ()

    @field_validator("registry")
    @classmethod
    def _check_address(cls, url: str | None) -> str | None:
        return url if url is None else registry_address(url)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.source:
            raise ValueError("there is no [[source]] table")
        direct = [source for source in self.source if not source.repartition]
        for what, count in Counter(source.feeds for source in direct).items():
            if count > 1:
                raise ValueError(
                    f"{count} topics feed {what} directly: set repartition = true for all of them"
                )
        for topic, count in Counter(source.topic for source in direct).items():
            if count > 1:
                raise ValueError(
                    f"{topic} feeds {count} inputs directly: set repartition = true for all but one"
                )
        for source in self.source:
            if source.repartition and source.feeds in {other.feeds for other in direct}:
                raise ValueError(f"{source.feeds} is fed directly and by repartition: set it for both")
        return self


def registry_address(url: str) -> str:
    """Return the address of a schema registry; refuse what is none, and credentials in it."""
    parts = urlsplit(url)
    if "@" in url:
        raise ValueError("registry must be an address without credentials: these are the settings "
                         "registry_username and registry_password")  # fmt: skip
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"registry must be an address such as http://registry:8081, got {url!r}")
    return url


def with_registry(source: Source, url: str | None) -> Source:
    """Return a source with a registry where it needs one and names none."""
    needs = {source.format, source.key_format}.intersection(REGISTERED)
    return source.model_copy(update={"registry": url}) if needs and source.registry is None else source


def load_sources(path: Path) -> tuple[Source, ...]:
    """Read a mapping file.

    Raises
    ------
    ConfigurationError
        Naming the file, and of each fault the table, the field and the rule.
    """
    try:
        return parse_sources(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise ConfigurationError(f"mapping {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"mapping {path}: no UTF-8 text: {error}") from None


def parse_sources(text: str, name: str) -> tuple[Source, ...]:
    """Read the text of a mapping file; `name` is what its faults call it. See `load_sources`."""
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"mapping {name}: no TOML: {error}") from None
    try:
        file = _File.model_validate(tables)
        return tuple(with_registry(source, file.registry) for source in file.source)
    except ValidationError as error:
        raise ConfigurationError(f"mapping {name}:\n  " + "\n  ".join(_faults(error, tables))) from None


def _faults(error: ValidationError, tables: Mapping[str, Any]) -> Iterator[str]:
    said = set()
    for problem in error.errors(include_url=False):
        place = list(problem["loc"])
        named = ""
        if place[:1] == ["source"] and len(place) > 1 and isinstance(place[1], int):
            table = tables["source"][place[1]]
            topic = table.get("topic", "without a topic") if isinstance(table, dict) else "no table"
            named, place = f"source {place[1] + 1} ({topic}): ", place[2:]
        # Third is which of a field and a table of fields it was taken for.
        parts = [str(part) for k, part in enumerate(place) if not (k == 2 and place[0] == "fields")]
        message = in_plain_words(problem["msg"])
        if problem["type"] == "extra_forbidden":
            message = "there is no such key"
        elif problem["type"] not in ("value_error", "missing"):
            message += f", got {problem['input']!r}"
        line = named + (".".join(parts) + ": " if parts else "") + message
        if line not in said:
            said.add(line)
            yield line


def _spelled_out(value: Any) -> Any:
    """Give a field's short form, a path as text, its long form; in a table of fields, that of each."""
    if isinstance(value, str):
        return {"path": value}
    if isinstance(value, dict) and _kind(value) == "table":
        return {name: {"path": one} if isinstance(one, str) else one for name, one in value.items()}
    return value


def _nests(struct: type[msgspec.Struct], name: str) -> bool:
    """Whether a field of a struct is an object, whose own fields may come from several places."""
    hint = get_type_hints(struct)[name]
    return any(
        getattr(part, "__origin__", part) is dict
        or (isinstance(part, type) and issubclass(part, msgspec.Struct))
        for part in (hint, *get_args(hint))
    )
