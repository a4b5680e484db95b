import hashlib

import pytest

from streams.demo import dataset
from streams.demo.dataset import DatasetError, fetch


@pytest.fixture
def tiny(monkeypatch):
    """A dataset of one file, as a fake wheel would carry it; returns how often it was downloaded."""
    downloads = []
    body = b"user_id:token\titem_id:token\n"
    monkeypatch.setattr(dataset, "SHA256", {"ml-100k.inter": hashlib.sha256(body).hexdigest()})

    def download(scratch):
        downloads.append(scratch)
        folder = scratch / "recbole" / "ml-100k"
        folder.mkdir(parents=True)
        (folder / "ml-100k.inter").write_bytes(body)
        return folder

    monkeypatch.setattr(dataset, "_download", download)
    return downloads


def test_the_data_is_fetched_once(tiny, tmp_path):
    said = []
    folder = fetch(cache=tmp_path, say=said.append)
    assert (folder / "ml-100k.inter").is_file()
    assert fetch(cache=tmp_path, say=said.append) == folder
    assert len(tiny) == 1
    assert len(said) == 1
    assert "no redistribution" in said[0]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_damaged_cache_is_fetched_again(tiny, tmp_path):
    folder = fetch(cache=tmp_path, say=lambda _: None)
    (folder / "ml-100k.inter").write_bytes(b"half a fi")
    fetch(cache=tmp_path, say=lambda _: None)
    assert len(tiny) == 2
    assert (folder / "ml-100k.inter").read_bytes().startswith(b"user_id:token")


def test_another_wheel_is_refused_and_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "SHA256", {"ml-100k.inter": "0" * 64})
    with pytest.raises(DatasetError, match=r"ml-100k\.inter is missing or has another sha256"):
        fetch(cache=tmp_path, say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_user_is_taken_as_it_is(tmp_path):
    (tmp_path / "shop.inter").write_text("anything")
    assert fetch(tmp_path) == tmp_path


def test_a_folder_without_interactions_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"--data .*: no \.inter file"):
        fetch(tmp_path)


def test_offline_the_message_names_the_line_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_commands", lambda scratch: [["false"], ["/no/such/program"]])
    with pytest.raises(DatasetError, match=r"pip download --no-deps recbole==1\.2\.1 && unzip"):
        fetch(cache=tmp_path, say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert dataset.cache_folder() == tmp_path / "slatestream"
