import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_core.release.folder import MANIFEST, MAPPING, RANKER, WEIGHTS, read_release
from streams.cache import Hold
from streams.releases.live import CACHED, fetch_release
from streams.releases.store import ReleaseStore, StoreError, StoreUnreachable
from tests.streams.releases.conftest import MakeRelease
from tests.streams.releases.made import no_large_files


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of a bucket of a server that speaks S3."""
    import s3fs
    from moto.server import ThreadedMotoServer  # a second that only this fixture should cost

    running = ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem().mkdir("releases")
        yield "s3://releases"
    running.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ReleaseStore:
    """A store in a folder that is not there yet, and two behind URLs."""
    if request.param == "folder":
        return ReleaseStore(str(tmp_path / "store"))
    there = "memory:/" if request.param == "memory" else request.getfixturevalue("bucket")
    return ReleaseStore(f"{there}/{uuid.uuid4().hex}")


def test_what_is_fetched_is_what_was_put(store: ReleaseStore, make_release: MakeRelease, tmp_path: Path):
    folder = make_release()
    version = store.put(folder).version

    fetched = store.fetch(version, tmp_path / "cache")

    assert {path.name: path.read_bytes() for path in fetched.folder.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert read_release(fetched.folder).version == fetched.release.version == version


def test_a_store_that_is_not_there_is_not_empty_and_a_full_one_lists_each_release_once(
    store: ReleaseStore, make_release: MakeRelease
):
    with pytest.raises(StoreUnreachable, match="is not there; the first .* put` makes it"):
        store.list()
    folders = [make_release(b"1"), make_release(b"2")]
    versions = {store.put(folder).version for folder in (*folders, folders[0])}

    assert {one.version for one in store.list()} == versions
    assert all(one.nbytes > 1000 for one in store.list())


def test_what_was_written_by_half_is_no_release_and_is_written_over(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path
):
    folder = make_release()
    version = read_release(folder).version
    store._files.makedirs(store._path(version), exist_ok=True)
    store._files.pipe_file(store._path(version, RANKER), b"half of it")

    assert store.list() == []
    with pytest.raises(StoreError, match="does not hold it"):
        store.fetch(version, tmp_path / "cache")
    store.put(folder)
    assert store.fetch(version, tmp_path / "cache").release.version == version


def test_a_file_that_was_changed_in_the_store_is_refused_and_leaves_nothing_behind(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path
):
    version = store.put(make_release()).version
    store._files.pipe_file(store._path(version, RANKER), b"tampered with")

    with pytest.raises(StoreError, match=f"is not what it says: release file .*{RANKER}.* must have SHA-256"):
        store.fetch(version, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_release_under_the_name_of_another_is_refused(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path
):
    first, other = (store.put(make_release(bytes([n]))).version for n in (1, 2))
    for name in (*json.loads(store._files.cat_file(store._path(other, MANIFEST)))["files"], MANIFEST):
        store._files.cp_file(store._path(other, name), store._path(first, name))

    with pytest.raises(StoreError, match=f"release {first} .* is not what it says: it holds {other}"):
        store.fetch(first, tmp_path / "cache")


@pytest.mark.parametrize("name", ["../../escaped", "/etc/passwd", "a/b", ".hidden", "", 7])
def test_a_manifest_names_plain_files_only(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path, name: object
):
    version = store.put(make_release()).version
    store._files.pipe_file(store._path(version, MANIFEST), json.dumps({"files": {name: "0"}}).encode())
    if name == 7:  # JSON has no such key; a list of names has
        store._files.pipe_file(store._path(version, MANIFEST), json.dumps({"files": [name]}).encode())

    with pytest.raises(StoreError, match="must name plain files"):
        store.fetch(version, tmp_path / "cache")


@pytest.mark.parametrize("text", [b"", b"no JSON", b"[]", b"\xff", b'{"files": 3}'])
def test_a_manifest_that_is_none_is_left_out_of_the_list(
    store: ReleaseStore, make_release: MakeRelease, text: bytes
):
    broken, whole = (store.put(make_release(bytes([n]))).version for n in (1, 2))
    store._files.pipe_file(store._path(broken, MANIFEST), text)

    assert [one.version for one in store.list()] == [whole]


def test_a_damaged_copy_in_the_cache_is_fetched_again(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path
):
    version = store.put(make_release()).version
    copy = store.fetch(version, tmp_path / "cache").folder
    (copy / RANKER).write_bytes(b"damaged")

    assert read_release(store.fetch(version, tmp_path / "cache").folder).version == version


def test_a_file_of_two_releases_is_fetched_once(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path
):
    first, second = (store.put(make_release(contents)).version for contents in (b"1", b"2"))
    store.fetch(first, tmp_path / "cache")
    for version in (first, second):  # it need not be in the store any more
        store._files.rm_file(store._path(version, MAPPING))

    fetched = store.fetch(second, tmp_path / "cache").folder

    assert (fetched / MAPPING).samefile(tmp_path / "cache" / first / MAPPING)
    assert not (fetched / RANKER).samefile(tmp_path / "cache" / first / RANKER)


def test_a_copy_that_was_damaged_here_does_not_spoil_another_release(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path
):
    first, second = (store.put(make_release(contents)).version for contents in (b"1", b"2"))
    damaged = store.fetch(first, tmp_path / "cache").folder / MAPPING
    damaged.write_bytes(b"damaged")

    assert read_release(store.fetch(second, tmp_path / "cache").folder).version == second
    assert read_release(store.fetch(first, tmp_path / "cache").folder).version == first


def test_what_is_deleted_is_gone(store: ReleaseStore, make_release: MakeRelease, tmp_path: Path):
    version, kept = (store.put(make_release(contents)).version for contents in (b"1", b"2"))
    store.delete(version)

    assert [one.version for one in store.list()] == [kept]
    with pytest.raises(StoreError, match="does not hold it"):
        store.fetch(version, tmp_path / "cache")


def test_a_folder_that_is_no_release_is_not_put(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path
):
    folder = make_release()
    (folder / RANKER).unlink()
    for wrong in (folder, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match="^release"):
            store.put(wrong)


@pytest.mark.parametrize(
    ("url", "said"),
    [("nosuch://bucket", "nosuch"), ("/proc/1/store", "/proc/1/store cannot be written")],
)
def test_a_store_that_cannot_be_used_is_named(url: str, said: str, make_release: MakeRelease):
    with pytest.raises(StoreError, match=said):
        ReleaseStore(url).put(make_release())


@pytest.mark.parametrize("version", ["", "..", "../etc", "ABCDEF012345", "0123456789ab/.."])
def test_a_version_is_twelve_hexadecimal_digits(store: ReleaseStore, version: str, tmp_path: Path):
    with pytest.raises(StoreError, match="version must be 12 hexadecimal digits"):
        store.fetch(version, tmp_path)


def test_a_version_that_is_a_path_touches_nothing_there(store: ReleaseStore, tmp_path: Path):
    victim = tmp_path / "victim"
    victim.mkdir()
    for version in (str(victim), "../victim"):
        with pytest.raises(StoreError, match="version must be 12 hexadecimal digits"):
            store.fetch(version, tmp_path / "cache")
    assert victim.is_dir()


@pytest.mark.parametrize("name", [MANIFEST, RANKER])
def test_what_is_damaged_in_the_store_is_mended_by_putting_it_again(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path, name: str
):
    folder = make_release()
    version = store.put(folder).version
    store._files.pipe_file(store._path(version, name), b"")

    store.put(folder)

    assert read_release(store.fetch(version, tmp_path / "cache").folder).version == version


def test_a_machine_keeps_the_releases_that_were_asked_for_last(
    make_release: MakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = ReleaseStore(str(tmp_path / "store"))
    versions = [store.put(make_release(bytes([n]))).version for n in range(CACHED + 1)]
    for version in (*versions[:-1], versions[0], versions[-1]):
        there = fetch_release(store, version).folder.parent
    assert {path.name for path in there.iterdir()} == set(versions) - {versions[1]}


def test_a_machine_keeps_a_release_that_is_held_however_long_ago_it_was_asked_for(
    make_release: MakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = ReleaseStore(str(tmp_path / "store"))
    served, *others = (store.put(make_release(bytes([n]))).version for n in range(CACHED + 2))
    folder = fetch_release(store, served).folder
    hold = Hold(folder)
    for version in others:
        fetch_release(store, version)
    assert read_release(folder).version == served

    hold.release()
    fetch_release(store, others[-1])
    assert not folder.exists()


def test_weights_for_the_next_training_lie_beside_a_release_and_no_worker_fetches_them(
    store: ReleaseStore, make_release: MakeRelease, tmp_path: Path
):
    folder, bare = make_release(b"1"), make_release(b"2")
    (folder / WEIGHTS).write_bytes(b"weights")
    version, without = store.put(folder).version, store.put(bare).version
    fetched = store.fetch(version, tmp_path / "cache").folder
    assert not (fetched / WEIGHTS).exists()
    assert store.fetch_weights(version, fetched)
    assert (fetched / WEIGHTS).read_bytes() == b"weights"
    assert not store.fetch_weights(without, fetched)


def test_a_store_that_is_full_says_so_keeps_what_it_holds_and_takes_the_release_later(
    make_release: MakeRelease, tmp_path: Path
):
    store = ReleaseStore(str(tmp_path / "store"))
    held = store.put(make_release(b"1")).version
    large = make_release(b"2" * 100_000)
    with no_large_files(50_000), pytest.raises(StoreUnreachable, match="cannot be written .*File too large"):
        store.put(large)
    assert [one.version for one in store.list()] == [held]
    assert store.fetch(held, tmp_path / "cache").release.version == held
    assert store.put(large).version in {one.version for one in store.list()}
