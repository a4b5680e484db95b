"""What an audit says of the packages that are pinned."""

from deploy.audit import judged

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
FLAWED = {
    "name": "flawed",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}


def test_each_vulnerability_is_named_with_its_mend() -> None:
    lines, vulnerable = judged({"dependencies": [SOUND, FLAWED]})
    assert vulnerable
    assert lines == [
        "flawed 1.0: PYSEC-1, mended in 1.1",
        "flawed 1.0: PYSEC-2, mended in none",
        "audit: 2 packages, 2 known vulnerabilities",
    ]


def test_what_is_not_looked_at_is_not_called_sound() -> None:
    lines, vulnerable = judged({"dependencies": [SOUND, UNKNOWN]})
    assert not vulnerable
    assert lines == ["audit: 1 packages, 0 known vulnerabilities", "not audited: unknown"]
    for nobody in ({"dependencies": [UNKNOWN]}, None):
        assert judged(nobody) == (["SKIPPED audit: no database of advisories is reached"], False)
