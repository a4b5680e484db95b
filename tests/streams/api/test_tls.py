import datetime
from pathlib import Path

import pytest
import trustme

from streams.api.tls import server_context
from streams.errors import ConfigurationError


def written(folder: Path, name: str, **options: object) -> tuple[Path, Path]:
    """A certificate of localhost and its key, as files."""
    issued = trustme.CA().issue_cert("localhost", **options)  # type: ignore[arg-type]
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return certificate, key


def test_a_good_certificate_is_taken(tmp_path: Path) -> None:
    server_context(*written(tmp_path, "good"))


def test_what_cannot_be_served_with_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    certificate, key = written(tmp_path, "good")
    _, other_key = written(tmp_path, "other")
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    expired = written(tmp_path, "expired", not_before=past, not_after=past + datetime.timedelta(days=1))
    future = written(tmp_path, "future", not_before=datetime.datetime.now(datetime.UTC).replace(year=2090),
                     not_after=past.replace(year=2095))  # fmt: skip
    text = tmp_path / "text.pem"
    text.write_text("hello")
    for pair, says in (
        ((tmp_path / "none.pem", key), r"http_tls_certificate \S*none.pem: No such file or directory"),
        ((certificate, tmp_path / "none.key"), r"http_tls_key \S*none.key: No such file or directory"),
        ((certificate, other_key), r"http_tls_key \S*other.key is not the key of http_tls_certificate"),
        ((text, key), "must be PEM"),
        (expired, "expired.pem is of no use to a client: certificate has expired"),
        (future, "future.pem is of no use to a client: certificate is not yet valid"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            server_context(*pair)
