"""What comes in by other doors than topics of events: HTTP, files of others, releases, settings."""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import yarl

from model_core.network.config import ModelConfig
from model_core.release.folder import (
    EASE,
    MANIFEST,
    SCHEMA,
    VOCABULARY,
    read_release,
    sign_manifest,
)
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease
from model_core.training.recipe import read_recipe
from streams.api.asking import (
    OF_LISTS,
    check_parameters,
    check_text,
    filters_of,
    length_of,
    request_of_body,
    request_of_query,
)
from streams.api.problems import Problem
from streams.errors import ConfigurationError
from streams.events import Request, decode_request, encode
from streams.experiments.definition import (
    Experiment,
    Variant,
    check_experiment,
    decode_experiment,
    encode_experiment,
)
from streams.importing.dataset import read_dataset
from streams.importing.faults import FileError
from streams.importing.options import Choices
from streams.ope.log import MalformedError, read_slate
from streams.releases.changes import Kind, ReleaseChange, Trial, decode_change, encode_change, fold_changes
from streams.settings import Settings
from streams.settings.sources import parse_sources
from streams.state.feature_spaces import Spaces
from tests.fuzz.engine import short
from tests.fuzz.examples import DAY, FEEDBACK, NOW, REQUESTS, words_of, written
from tests.fuzz.mappings import EACH, FLAT


class Reader:
    """A function that returns something, or raises one of its own errors.

    Parameters
    ----------
    read : what comes of an input, in few words
    refusals : errors that say what is wrong
    """

    batch = 100

    def __init__(
        self,
        read: Callable[[bytes], Hashable],
        seeds: Sequence[bytes],
        *refusals: type[Exception],
        words: Sequence[bytes] = (),
    ) -> None:
        self.seeds, self.words = seeds, words
        self._read, self._refusals = read, refusals

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """See `Target`."""
        return [self._answer(value) for value in inputs]

    def _answer(self, value: bytes) -> Hashable:
        try:
            return self._read(value)
        except self._refusals as error:
            return type(error).__name__, short(error.detail if isinstance(error, Problem) else str(error))


# HTTP

QUERIES = (
    b"/v1/recommendations/u1?k=3&exclude=i1,i2&pinned=i3&boosts=i4:0.5&request_id=r&fields=title",
    b"/v1/recommendations/u%2F1?exclude=a&exclude=b%2Cc&boosts=a:b:-1.5",
    b"/v1/popular?k=5&filter=genre:Drama,genre:Comedy",
)


def ask_by_url(value: bytes) -> Hashable:
    """Read a URL as the worker's handlers of slates and of lists do; a request is one that a topic takes."""
    text = value.decode("utf-8", "surrogateescape")
    path, _, query = text.partition("?")
    check_text(text)
    found = yarl.URL.build(path=f"/{path.lstrip('/')}", query_string=query, encoded=True).query
    if path.startswith("/v1/popular"):
        check_parameters(found, OF_LISTS)
        return length_of(found, 10) > 0, len(filters_of(found))
    wanted = request_of_query("u1", found, k_default=10)
    return _taken(wanted.request), wanted.titles


def ask_by_body(value: bytes) -> Hashable:
    """Read the body of a POST; a request is one that a topic takes."""
    wanted = request_of_body("u1", value, k_default=10)
    return _taken(wanted.request), wanted.titles


def _taken(request: Request) -> Hashable:
    assert decode_request(encode(request)) == request
    return tuple((type(one), bool(one)) for one in msgspec.structs.astuple(request))


ASKED = [{name: of for name, of in one.items() if name not in ("user_id", "timestamp_ms", "preview")}
         for one in REQUESTS]  # fmt: skip


# Records that operators write

CHANGES = [
    encode_change(ReleaseChange("promote", "0" * 12, "me", NOW, replaces="1" * 12))[1],
    encode_change(ReleaseChange("canary", "1" * 12, "me", NOW, trial=Trial(0.1, 100, 60.0, 0.05)))[1],
]
EXPERIMENTS = [
    encode_experiment(
        Experiment("e", "ab", [Variant("a"), Variant("b", "epsilon-greedy:0.1", 2.0)], NOW, segment="age:34")
    ),
    encode_experiment(Experiment("e", "policy", [Variant("a", "greedy")], NOW, guardrails={"latency": 5.0})),
]


def change(value: bytes) -> Hashable:
    """Read a change of what serves, and find out to what it leads."""
    found = decode_change(value)
    if found is None:
        return None
    stands = fold_changes([decode_change(CHANGES[0]) or found, found, found])
    return found.change, stands.live, len(stands.void)


LEARNING = Spaces(Settings(text_encoder="none")).learning("", 8)


def experiment(value: bytes) -> Hashable:
    """Read an experiment as a worker does that is to run it."""
    found = decode_experiment(value)
    check_experiment(found, LEARNING, "thompson")
    return found.kind, len(found.variants)


def logged(value: bytes) -> Hashable:
    """Read a line of a log for off-policy evaluation."""
    return len(read_slate(value).slate)


# Files

TABLE = b"user_id,item_id,rating,timestamp\n" + b"".join(
    b"u%d,i%d,%d,%d\n" % (n % 5, n % 7, n % 5 + 1, 1_764_000_000 + n) for n in range(10)
)
QUOTED = 'Kunde;Artikel;Datum;Preis\r\n"a ""b""";"i;1";24.11.2025 16:00;"1,5"\r\n\xe9;2;25.11.2025;3\r\n'
ATOMIC = TABLE.replace(b",", b"\t").replace(
    b"user_id\titem_id\trating\ttimestamp",
    b"user_id:token\titem_id:token\trating:float\ttimestamp:float",
)
LINES = b"\n".join(
    json.dumps({"user": {"id": n % 5}, "userId": n % 5, "itemId": f"i{n}", "time": NOW + n}).encode()
    for n in range(12)
)


class Files:
    """Reads each input as the only file of a folder.

    Parameters
    ----------
    name : of the file
    read : is told the folder
    """

    def __init__(self, name: str, read: Callable[[Path], Hashable]) -> None:
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a disk takes ten times as long
        folder = tempfile.mkdtemp(prefix="slatestream-fuzz-", dir=in_memory)
        weakref.finalize(self, shutil.rmtree, folder)
        self._path, self._read = Path(folder) / name, read

    def __call__(self, value: bytes) -> Hashable:
        """Write an input, and read it."""
        self._path.write_bytes(value)
        return self._read(self._path)


def dataset(path: Path) -> Hashable:
    """Read a table to train on: its times are in order, and each interaction has a user and an item."""
    choices = Choices(known_actions=("view", "click", "like"), latest_ms=NOW + DAY)
    reading = read_dataset(path, choices, {})
    log = reading.dataset.interactions
    assert len(log.user_ids) == len(log.item_ids) == len(log.timestamps_ms) == len(reading.actions) > 0
    assert (log.timestamps_ms[1:] >= log.timestamps_ms[:-1]).all()
    assert all(log.user_ids)
    assert all(log.item_ids)
    plan = reading.sources[0].plan
    return tuple(sorted(plan.fields)), tuple(reading.refused[0].counts), len(reading.remarks)


def release_of(name: str) -> Callable[[Path], Hashable]:
    """Return what reads a release of which this file is as it may be, and signed."""

    def read(path: Path) -> Hashable:
        if name == VOCABULARY:
            sign_manifest(path.parent, GIVEN)
        else:
            (path.parent / VOCABULARY).write_bytes(NAMES)
            try:
                said = json.loads(path.read_bytes())
                sign_manifest(path.parent, said | {"files": {VOCABULARY: ""}} if "files" in said else said)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                pass  # nobody has signed it
        found = read_release(path.parent)
        return len(found.items) > 0, found.dim > 0, len(found.training)

    return read


NAMES = json.dumps(
    {"entity_rows": {"Drama": 1}, "relation_rows": {"genre": 1}, "item_rows": {"i1": 1, "i2": 2}}
).encode()


EASE_WEIGHTS = json.dumps({"bounds": [0, 2, 2, 3], "items": [1, 2, 0], "weights": [0.5, -1, 2]}).encode()


def ease(path: Path) -> Hashable:
    """Read EASE's weights, and score by them: the loops do not look at what they are given."""
    try:
        said = json.loads(path.read_bytes())
        with np.errstate(all="ignore"):
            arrays = [np.array(said[name], kind) for name, kind in ARRAYS.items()]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        pass  # it is read as it is
    else:
        Ease(*arrays).save(path)
    found = Ease.load(path)
    liked = np.arange(found.n_items, dtype=np.int32)
    with np.errstate(over="ignore"):
        _, rows, _ = found.sparse_scores(np.array([0, len(liked)]), liked)
    return found.n_items, len(rows)


ARRAYS = {"bounds": np.int64, "items": np.int32, "weights": np.float32}


GIVEN = {
    "schema": SCHEMA, "files": {VOCABULARY: ""}, "dims": asdict(ModelConfig()),
    "actions": {"view": 0.1, "like": 1.0}, "text_encoder": {"name": "none", "fingerprint": "f"},
    "signals": asdict(SignalConfig()), "metrics": {"hit@10": 0.1}, "training": {"interactions": 9},
}  # fmt: skip


RECIPE = b"[model]\ndim = 32\n[train]\nepochs = 2\nlearning_rate = 1e-3\n[signals]\n[privacy]\n"


def mapping(value: bytes) -> Hashable:
    """Read a mapping."""
    return len(parse_sources(value.decode(errors="replace"), "mapping"))


TARGETS: dict[str, Callable[[], Any]] = {
    "http-url": lambda: Reader(ask_by_url, QUERIES, Problem, words=[b"exclude", b"boosts", b"%2C", b":"]),
    "http-body": lambda: Reader(ask_by_body, written(ASKED), Problem, words=words_of(ASKED)),
    "model-releases": lambda: Reader(
        change, CHANGES, words=[b'"%s"' % one.encode() for one in get_args(Kind)]
    ),
    "experiments": lambda: Reader(experiment, EXPERIMENTS, ValueError),
    "ope-log": lambda: Reader(logged, written(FEEDBACK), MalformedError, words=words_of(FEEDBACK)),
    "csv": lambda: Reader(
        Files("t.csv", dataset), (TABLE, QUOTED.encode(), QUOTED.encode("latin-1")), FileError
    ),
    "json-lines": lambda: Reader(Files("t.jsonl", dataset), (LINES,), FileError),
    "recbole": lambda: Reader(Files("t.inter", dataset), (ATOMIC,), FileError),
    "release-manifest": lambda: Reader(
        Files(MANIFEST, release_of(MANIFEST)), (json.dumps(GIVEN).encode(),), ValueError
    ),
    "release-vocabulary": lambda: Reader(Files(VOCABULARY, release_of(VOCABULARY)), (NAMES,), ValueError),
    "release-ease": lambda: Reader(
        Files(EASE, ease), (EASE_WEIGHTS,), ValueError, words=[b"-1", b"3", b"1e39"]
    ),
    "recipe": lambda: Reader(Files("recipe.toml", _recipe), (RECIPE,), ValueError),
    "mapping": lambda: Reader(mapping, (FLAT.encode(), EACH.encode()), ConfigurationError),
}


def _recipe(path: Path) -> Hashable:
    return read_recipe(path).model.dim
