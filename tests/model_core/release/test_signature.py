"""Releases that must be signed, with the keys and the commands of deploy/releases.md."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model_core.release.folder import LEARNED, MANIFEST, read_release
from model_core.release.signature import SIGNATURE, check_signature, read_public_keys, sign_release
from streams.errors import ConfigurationError
from streams.items.table import load_scorer
from streams.learning.learned import read_learned
from streams.learning.policy_set import PolicySet
from streams.metrics import Metrics
from streams.releases.store import ReleaseStore, StoreError, StoreUnreachable
from streams.settings import Settings
from streams.state.feature_spaces import Spaces
from tests.streams.releases.conftest import make_release  # noqa: F401

PAGE = Path(__file__).parents[3] / "deploy/releases.md"
Keys = tuple[Path, Path]


def pair(folder: Path, name: str) -> Keys:
    """Files of a private key, and of its public one."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return pair(tmp_path, "release")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / MANIFEST).write_text('{"files": {}}\n')
    return folder


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_what_the_page_has_openssl_sign_is_signed(folder: Path) -> None:
    block = re.search(r"```console signed\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    for line in block[1].splitlines():
        subprocess.run(line.removeprefix("$ "), shell=True, check=True, cwd=folder.parent, timeout=60)
    check_signature(folder, read_public_keys(folder.parent / "release.pub"))
    signature = (folder / SIGNATURE).read_bytes()
    sign_release(folder, folder.parent / "release.key")
    assert (folder / SIGNATURE).read_bytes() == signature  # Ed25519 has nothing random


def test_one_of_several_keys_is_enough_and_another_is_not(folder: Path, tmp_path: Path, keys: Keys) -> None:
    sign_release(folder, keys[0])
    _, other = pair(tmp_path, "other")
    with pytest.raises(ValueError, match=r"manifest.sig' must sign manifest.json by a key of .*other.pub"):
        check_signature(folder, read_public_keys(other))
    other.write_bytes(other.read_bytes() + keys[1].read_bytes() + b"\n")
    check_signature(folder, read_public_keys(other))


@pytest.mark.parametrize("damage", ["manifest", "cut", "empty", "missing", "of another file"])
def test_a_signature_of_something_else_is_none(folder: Path, keys: Keys, damage: str) -> None:
    sign_release(folder, keys[0])
    signature = folder / SIGNATURE
    if damage == "manifest":
        (folder / MANIFEST).write_text('{"files": {} }\n')
    elif damage == "missing":
        signature.unlink()
    else:
        signature.write_bytes(
            {"cut": signature.read_bytes()[:-1], "empty": b"", "of another file": bytes(64)}[damage]
        )
    with pytest.raises(ValueError, match=r"must be signed|must sign manifest.json"):
        check_signature(folder, read_public_keys(keys[1]))


def test_what_is_wrong_with_the_keys_is_no_fault_of_a_release(
    make_release,  # type: ignore[no-untyped-def]  # noqa: F811
    tmp_path: Path,
    keys: Keys,
) -> None:
    made, cache, url = make_release(), tmp_path / "cache", str(tmp_path / "store")
    sign_release(made, keys[0])
    store = ReleaseStore(url, keys[1])
    folder = store.fetch(store.put(made).version, cache).folder
    keys[1].unlink()
    with pytest.raises(StoreUnreachable, match="release_public_keys cannot be read"):
        ReleaseStore(url, keys[1])
    keys[1].write_text("no key")
    with pytest.raises(ConfigurationError, match="release_public_keys: .* must hold Ed25519 keys"):
        ReleaseStore(url, keys[1])
    assert store.fetch(folder.name, cache).folder == folder  # by the keys of its start


def test_a_file_that_holds_other_keys_is_refused_and_nothing_of_it_is_told(
    folder: Path, tmp_path: Path, keys: Keys
) -> None:
    wrong = tmp_path / "wrong.pem"
    secret = keys[0].read_text().splitlines()[1]
    for contents in (b"", b"secret " * 9, keys[0].read_bytes(), keys[1].read_bytes() + b"-----BEGIN"):
        wrong.write_bytes(contents)
        with pytest.raises(ValueError, match="must hold Ed25519 keys in PEM") as refused:
            read_public_keys(wrong)
        assert secret not in str(refused.value)
    wrong.write_bytes(keys[1].read_bytes())
    with pytest.raises(ValueError, match="must hold Ed25519 keys in PEM"):
        sign_release(folder, wrong)


def test_workers_and_stores_take_signed_releases_alone(
    make_release,  # type: ignore[no-untyped-def]  # noqa: F811
    tmp_path: Path,
    keys: Keys,
) -> None:
    made, cache = make_release(), tmp_path / "cache"
    open_store, store = (ReleaseStore(str(tmp_path / "store"), one) for one in (None, keys[1]))
    version = open_store.put(made).version
    with pytest.raises(StoreError, match=r"must be signed: it has no manifest.sig"):
        store.put(made)
    open_store.fetch(version, cache)
    with pytest.raises(StoreError, match=r"must be signed"):  # though it is here already
        store.fetch(version, cache)
    settings = {"text_encoder": "none", "release_public_keys": keys[1]}
    with pytest.raises(ConfigurationError, match=r"must be signed"):
        load_scorer(Settings(release=made, **settings))
    sign_release(made, keys[0])
    with pytest.raises(ConfigurationError, match=r"EASE weights|ONNX|protobuf"):  # signed, and no graph
        load_scorer(Settings(release=made, **settings))
    assert store.put(made).version == version
    assert (store.fetch(version, cache).folder / SIGNATURE).read_bytes() == (made / SIGNATURE).read_bytes()
    private, public = pair(tmp_path, "next")
    sign_release(made, private)
    later = ReleaseStore(str(tmp_path / "store"), public)
    assert later.put(made).version == version
    assert (later.fetch(version, cache).folder / SIGNATURE).read_bytes() == (made / SIGNATURE).read_bytes()


def test_what_a_manifest_says_nothing_of_is_not_read(make_release) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    made, learning = make_release(), Spaces(Settings(text_encoder="none")).learning("", 8)
    (made / LEARNED).write_bytes(b"somebody else's")
    assert read_learned(made, read_release(made), learning, learning) is None


def test_a_policy_must_be_signed_as_a_release_must(folder: Path, keys: Keys) -> None:
    settings = Settings(text_encoder="none", policy="rl", policy_release=folder, release_public_keys=keys[1])
    with pytest.raises(ConfigurationError, match=r"policy: .* must be signed"):
        PolicySet(settings, Spaces(Settings(text_encoder="none")).learning("", 8).prior, Metrics())


@pytest.mark.parametrize("name", ["../graph.onnx", "/etc/passwd", "a/b", ".hidden", "a\n", ""])
def test_a_release_whose_files_are_paths_is_none(make_release, name: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    made = make_release()
    manifest = json.loads((made / MANIFEST).read_text())
    (tmp_path / "graph.onnx").touch()
    manifest["files"][name] = hashlib.sha256(b"").hexdigest()
    about = ("version", "metrics", "training")
    contents = {key: of for key, of in manifest.items() if key not in about}
    manifest["version"] = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:12]
    (made / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="matching regex"):
        read_release(made)
    with pytest.raises(StoreError, match="matching regex"):
        ReleaseStore(str(tmp_path / "store")).put(made)
