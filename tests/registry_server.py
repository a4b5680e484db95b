"""A schema registry in this process: the part of Confluent's HTTP API that is read, and what can go wrong."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import fastavro
from google.protobuf.descriptor_pb2 import FileDescriptorProto

References = list[dict[str, Any]]


class RegistryServer:
    """Schemas by id and by subject; every request is kept.

    Attributes
    ----------
    status : what it answers to everything, None where it answers what is asked
    gives_descriptors : whether it knows format=serialized
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []
        self.status: int | None = None
        self.gives_descriptors = True
        self._ids: dict[int, tuple[dict[str, Any], str]] = {}
        self._subjects: dict[tuple[str, int], int] = {}
        self.url = ""

    def register(
        self,
        number: int,
        schema: Any,
        *,
        kind: str | None = None,
        subject: str = "",
        references: References | None = None,
    ) -> None:
        """Give an id to an Avro schema, a file of Protobuf, or a text."""
        text = (
            schema
            if isinstance(schema, str)
            else json.dumps(schema)
            if kind is None
            else 'syntax = "proto3";'
        )
        serialized = text
        if isinstance(schema, FileDescriptorProto):
            serialized = base64.b64encode(schema.SerializeToString()).decode()
        answer: dict[str, Any] = {"schema": text}
        if kind is not None:
            answer["schemaType"] = kind
        if references:
            answer["references"] = references
        self._ids[number] = answer, serialized
        self._subjects[subject, 1] = number

    def answer(self, path: str) -> tuple[int, Any]:
        """Status and body for a path."""
        if self.status is not None:
            return self.status, {"error_code": self.status * 100, "message": "for this test"}
        parts = urlsplit(path)
        match [unquote(part) for part in parts.path.split("/")[1:]]:
            case ["schemas", "ids", number]:
                found = self._ids.get(int(number))
            case ["subjects", subject, "versions", version]:
                found = self._ids.get(self._subjects.get((subject, int(version)), -1))
            case _:
                return 404, {"error_code": 404}
        if found is None:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        body, serialized = found
        if self.gives_descriptors and parse_qs(parts.query).get("format") == ["serialized"]:
            return 200, {**body, "schema": serialized}
        return 200, body


@contextmanager
def registry_server(port: int = 0) -> Iterator[RegistryServer]:
    """A registry that answers for as long as it is open."""
    registry = RegistryServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            registry.requests.append((self.path, self.headers["Authorization"]))
            status, body = registry.answer(self.path)
            sent = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def avro(number: int, schema: Any, value: Any) -> bytes:
    """A value in the wire format."""
    file = BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), value)
    return head(number) + file.getvalue()


def head(number: int) -> bytes:
    return b"\0" + number.to_bytes(4, "big")
