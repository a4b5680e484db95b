import hashlib
import logging
import os
from pathlib import Path

import pytest

from streams.api import tokens as module
from streams.api.problems import Problem
from streams.api.tokens import Tokens
from streams.errors import ConfigurationError
from streams.settings import load_settings

NOW_S = 1_800_000_000.0


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def table(name: str, token: str, *scopes: str, expires: str = "") -> str:
    text = f'[{name}]\nsha256 = "{sha256(token)}"\nscopes = {list(scopes)!r}\n'
    return text + (f"expires = {expires}\n" if expires else "")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(
        table("shop", "secret-1", "recommend")
        + table("ops", "secret-2", "recommend", "admin", expires="2030-01-01T00:00:00Z")
        + table("old", "secret-3", "recommend", expires="2020-01-01T00:00:00+01:00")
    )
    return path


def test_a_token_is_known_by_its_hash_and_is_good_for_its_scopes(file: Path) -> None:
    tokens = Tokens({}, file, now=lambda: NOW_S)
    assert tokens
    assert tokens.check("Bearer secret-1", "recommend") == "shop"
    assert tokens.check("bearer  secret-2 ", "admin") == "ops"


@pytest.mark.parametrize(
    ("shown", "status", "detail", "asks"),
    [
        (None, 401, "a token is needed", 'Bearer realm="slatestream"'),
        ("Basic secret-1", 401, "a token is needed", 'Bearer realm="slatestream"'),
        ("Bearer ", 401, "a token is needed", 'Bearer realm="slatestream"'),
        ("Bearer secret-4", 401, "the token is not known", 'error="invalid_token"'),
        ("Bearer \udcff", 401, "the token is not known", 'error="invalid_token"'),
        ("Bearer secret-3", 401, "the token has expired", 'error="invalid_token"'),
        ("Bearer secret-1", 403, "it has no scope 'admin'", 'error="insufficient_scope", scope="admin"'),
    ],
)
def test_a_token_that_will_not_do_is_refused_with_what_is_wrong(
    file: Path, shown: str | None, status: int, detail: str, asks: str
) -> None:
    with pytest.raises(Problem) as raised:
        Tokens({}, file, now=lambda: NOW_S).check(shown, "admin")
    assert raised.value.status == status
    assert detail in raised.value.detail
    assert asks in raised.value.headers["WWW-Authenticate"]
    assert shown is None or "secret" not in raised.value.detail


def test_every_token_is_compared_in_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    Tokens({}, file, now=lambda: NOW_S).check("Bearer secret-1", "recommend")
    assert len(compared) == 3


def test_the_file_is_read_again_when_it_changes_and_a_broken_one_changes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    tokens = Tokens({}, file, now=lambda: NOW_S)
    file.write_text(table("new", "secret-9", "explain"))
    os.utime(file, (NOW_S, NOW_S))
    assert tokens.check("Bearer secret-9", "explain") == "new"
    with pytest.raises(Problem, match="Unauthorized"):
        tokens.check("Bearer secret-1", "recommend")
    file.write_text("[new")
    with caplog.at_level(logging.ERROR):
        assert tokens.check("Bearer secret-9", "explain") == "new"
    assert "no TOML" in caplog.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[shop", "no TOML"),
        ('[shop]\nsha256 = "secret-1"\nscopes = ["recommend"]', "shop.sha256: must match"),
        (table("shop", "secret-1", "everything"), "shop.scopes.0: must be 'recommend', 'explain'"),
        (table("shop", "secret-1"), "shop.scopes"),
        (table("shop", "secret-1", "admin", expires="2030-01-01T00:00:00"), "shop.expires"),
        (table("shop", "secret-1", "admin") + "valid = 3", "shop.valid: Extra inputs"),
    ],
)
def test_a_file_that_cannot_be_used_ends_the_start_and_shows_no_token(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="http_tokens_file") as raised:
        Tokens({}, path)
    assert says in str(raised.value)
    assert "secret-1" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="none.toml: No such file or directory"):
        Tokens({}, tmp_path / "none.toml")


def test_tokens_come_from_the_environment_too_and_a_wrong_one_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "SLATESTREAM_HTTP_TOKENS", f'{{"shop": {{"sha256": "{sha256("a")}", "scopes": ["recommend"]}}}}'
    )
    assert Tokens(load_settings().http_tokens).check("Bearer a", "recommend") == "shop"
    monkeypatch.setenv("SLATESTREAM_HTTP_TOKENS", '{"shop": {"sha256": "secret-1", "scopes": ["recommend"]}}')
    with pytest.raises(ConfigurationError, match="http_tokens.shop.sha256") as raised:
        load_settings()
    assert "secret-1" not in str(raised.value)
