"""Three sites, each with some of the users, count together what one site with all of them would."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model_core.release.folder import EASE, LEARNED, read_release
from model_core.release.scorer import Scorer
from model_core.signals.ease import Ease, fit_ease
from online_learning.statistics.linear import LinearStatistics
from streams.cli import app
from streams.errors import SlatestreamError
from streams.federation.sums import pairs_of, policy_of, stored_policy, write_summed
from streams.learning.learned import read_learned
from streams.settings import load_settings
from streams.state.feature_spaces import Spaces
from tests.streams.releases.life import Life
from tests.streams.releases.made import variant
from tests.streams.trainer.test_refit import visits

SITES = ("a", "b", "c")
THREE = [part for n in (1, 2, 3) for part in ("--site", f"s{n}={n:064x}")]
STRANGE = {"v": 1, "name": "n", "release": "r", "sums": ["x"], "size": 1, "sites": {}}  # sums that are none
N_USERS, N_ITEMS = 60, 40  # of the 60 items that the release knows


def invoke(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["federate", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def likes() -> np.ndarray:
    """(n, 2) rows of users and items; each user likes some of the items of their kind."""
    rng = np.random.default_rng(1)
    liked = rng.random((N_USERS, N_ITEMS)) < 0.4 * (np.arange(N_USERS)[:, None] % 2 == np.arange(N_ITEMS) % 2)
    return np.argwhere(liked)


class Sites:
    """A folder with each site's key and ratings, and a round of all."""

    def __init__(self, folder: Path, release: Path, likes: np.ndarray) -> None:
        self.folder, self.release = folder, release
        self.public = {site: invoke("key", folder / f"{site}.key").strip() for site in SITES}
        for at, site in enumerate(SITES):
            own = [f"u{user},i{item},5,{1_700_000_000 + n}" for n, (user, item) in enumerate(likes)
                   if user % 3 == at]  # fmt: skip
            foreign = [f"u{at},i0,1,1700001000", f"u{at},unknown,5,1700001001"]  # no like, and no known item
            rows = ["user,item,rating,timestamp", *own, *foreign]
            (folder / f"{site}.csv").write_text("\n".join(rows) + "\n")
        self.said = self.begin("round.json")

    def begin(self, name: str, release: Path | None = None) -> str:
        sites = [part for site, key in self.public.items() for part in ("--site", f"{site}={key}")]
        return invoke("round", self.folder / name, "--release", release or self.release, *sites)

    def share(
        self, site: str, name: str = "round.json", *, key: str = "", release: Path | None = None
    ) -> Path:
        out = self.folder / f"{site}.share"
        given = {"--key": self.folder / f"{key or site}.key", "--release": release or self.release}
        options = [part for option, value in given.items() for part in (option, value)]
        invoke("share", self.folder / name, *options, "--data", self.folder / f"{site}.csv", "--out", out)
        return out

    def sum(self, *shares: Path, name: str = "round.json", release: Path | None = None) -> Path:
        out = self.folder / "summed"
        base = release or self.release
        invoke("sum", self.folder / name, *shares, "--release", base, "--out", out)
        return out


@pytest.fixture
def sites(tmp_path: Path, tiny: Path, likes: np.ndarray) -> Sites:
    return Sites(tmp_path, tiny, likes)


def test_the_release_of_the_sum_has_the_ease_of_all_users_together(sites: Sites, likes: np.ndarray) -> None:
    out = sites.sum(*(sites.share(site) for site in SITES))
    base, made = read_release(sites.release), read_release(out)
    assert made.version != base.version
    assert made.training["federated"]["sums"] == ["pairs"]
    assert "interactions" in base.training
    assert "interactions" not in made.training  # it may know later ones
    assert made.metrics.keys() <= {"onnx_difference"}  # it was not measured
    assert made.served_probability == base.served_probability is not None
    assert not list(out.glob("*.png"))
    rows = np.array([base.item_rows[f"i{item}"] - 1 for item in likes[:, 1]], np.int32)
    signals, n = base.signals, len(base.item_rows)
    central = fit_ease(
        likes[:, 0].astype(np.int32), rows, n, penalty=signals.ease_penalty, keep=signals.ease_keep
    )
    summed, before = Ease.load(out / EASE), Ease.load(sites.release / EASE)
    known = np.unique(rows)
    every = np.arange(n)
    assert (summed.block(known, every) == central.block(known, every)).all()
    others = np.setdiff1d(every, known)
    assert (summed.block(others, every) == before.block(others, every)).all()
    Scorer(out)


def test_sites_count_a_user_of_many_likes_as_training_does(
    tmp_path: Path, tiny: Path, likes: np.ndarray
) -> None:
    described = asdict(read_release(tiny).signals)
    base = variant(tiny, tmp_path / "bounded", signals=described | {"full_likes": 3})
    release = read_release(base)
    users, items = (
        np.array([f"{name}{row}" for row in rows]) for name, rows in zip("ui", likes.T, strict=True)
    )
    site = likes[:, 0] % 3
    total = sum(pairs_of(users[site == at], items[site == at], release) for at in range(3))
    out, settings = tmp_path / "sum", load_settings(None)
    write_summed(base, out, ("pairs",), total, settings, "r")
    rows = np.array([release.item_rows[item] - 1 for item in items], np.int32)
    signals, n = release.signals, len(release.item_rows)
    central = fit_ease(
        likes[:, 0].astype(np.int32),
        rows,
        n,
        penalty=signals.ease_penalty,
        keep=signals.ease_keep,
        full_likes=3,
    )
    known, every = np.unique(rows), np.arange(n)
    assert (Ease.load(out / EASE).block(known, every) == central.block(known, every)).all()
    alike = pairs_of(users, items, read_release(tiny))
    assert (total <= alike).all()
    assert total.sum() < 0.8 * alike.sum()


def test_a_share_says_nothing_and_its_round_is_named_by_a_fingerprint(sites: Sites) -> None:
    shares = [np.load(sites.share(site))["share"] for site in SITES]
    plain = sum(shares).view(np.int64) / (1 << 24)
    assert plain.max() < N_USERS
    for share in shares:
        assert np.unpackbits(share.view(np.uint8)).mean() == pytest.approx(0.5, abs=0.01)
    assert "fingerprint" in sites.said
    assert (sites.folder / "a.key").stat().st_mode & 0o077 == 0


def test_the_sum_with_a_private_release_promises_no_privacy(sites: Sites, tmp_path: Path) -> None:
    private = variant(sites.release, tmp_path / "private", training={"privacy": {"epsilon": 1.0}})
    release = read_release(private)
    n = len(release.item_rows)
    total, settings = np.zeros(n * (n + 1) // 2), load_settings(None)
    assert "privacy" not in write_summed(private, tmp_path / "sum", ("pairs",), total, settings, "r").training


def test_a_share_that_cannot_be_written_does_not_use_the_round_up(sites: Sites, tmp_path: Path) -> None:
    given = ("--key", tmp_path / "a.key", "--release", sites.release, "--data", tmp_path / "a.csv")
    with pytest.raises(SlatestreamError, match="--out must be a file in a folder that exists"):
        invoke("share", tmp_path / "round.json", *given, "--out", tmp_path / "nowhere" / "a.share")
    assert sites.share("a").is_file()


def test_what_does_not_belong_to_the_round_is_refused(sites: Sites, tmp_path: Path) -> None:
    a, b = sites.share("a"), sites.share("b")
    with pytest.raises(SlatestreamError, match=r"shares of \['c'\] are missing"):
        sites.sum(a, b)
    with pytest.raises(SlatestreamError, match="second share of site 'b'"):
        sites.sum(a, b, b)
    with pytest.raises(SlatestreamError, match="was made with .*a.key already"):
        sites.share("a")
    other = variant(sites.release, tmp_path / "other", gain=2.0)
    with pytest.raises(SlatestreamError, match="sums of different models must not be added"):
        sites.share("c", release=other)
    sites.begin("other.json", other)
    strange = sites.share("c", "other.json", release=other)
    with pytest.raises(SlatestreamError, match="c.share is a share of another round"):
        sites.sum(a, b, strange)
    with pytest.raises(SlatestreamError, match="sums of different models must not be added"):
        sites.sum(a, b, strange, release=other)
    (tmp_path / "stranger.key").write_text("00" * 32)
    with pytest.raises(SlatestreamError, match="the key must be of one of the sites"):
        sites.share("c", key="stranger")
    with np.load(sites.share("c")) as arrays:
        told = {**arrays, "share": np.full(arrays["share"].shape, np.nan)}
    np.savez(tmp_path / "nan.npz", **told)
    with pytest.raises(SlatestreamError, match="must hold masked numbers"):
        sites.sum(a, b, tmp_path / "nan.npz")
    (tmp_path / "damaged.share").write_bytes(b.read_bytes()[:-100])
    np.save(tmp_path / "other.npy", np.zeros(3))
    for name in ("damaged.share", "other.npy"):
        with pytest.raises(SlatestreamError, match=f"{name} must hold a share"):
            sites.sum(a, b, tmp_path / name)
    assert not (tmp_path / "summed").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("key", __file__), "cannot be made: File exists"),
        (("round", "r.json", "--release", "nowhere", "--site", "a"), "--site must be NAME=HEX"),
        (("round", "r.json", "--release", "nowhere", "--site", "a=x"), "the key must be in hex, got 'x'"),
        (("share", "nowhere.json", "--key", "k", "--release", "r", "--out", "s"), "must hold a round"),
        (("round", "no/r.json", "--release", "{tiny}", *THREE), "No such file or directory: 'no/r.json'"),
        (("sum", "strange.json", "a.share", "--release", "r", "--out", "o"), r"Invalid enum value 'x'"),
        (("sum", __file__, "a.share", "--release", "r", "--out", "o"), "must hold a round"),
    ],
)
def test_what_is_no_key_site_or_round_is_said(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("strange.json").write_text(json.dumps(STRANGE))
    with pytest.raises(SlatestreamError, match=message):
        invoke(*(str(tiny) if part == "{tiny}" else part for part in arguments))


async def test_the_policy_of_the_sum_begins_with_what_workers_of_all_sites_have_learned(
    make_life: Callable[..., Life], tmp_path: Path
) -> None:
    life = make_life(attribution_window_ms=60_000, policy="thompson")
    version = life.put()
    settings, log = life.memory.settings, life.memory.log
    release = read_release(life.store / version)
    async with life.worker(version) as worker:
        await visits(life, worker, rounds=1)
        live = [shard.statistics.serving for shard in worker.parts.partitions.live()]

    async def committed(partition: int) -> dict[str, int]:
        return {name: log.committed.get((name, partition), 0) for name in ("clicks", "users")}

    stored = await stored_policy(settings, log, release, committed)
    assert stored.impressions == sum(one.impressions for one in live) > 0
    np.testing.assert_allclose(stored.gram, sum(one.gram for one in live), rtol=1e-12)

    base, total = life.store / version, 3 * policy_of(stored)
    made = write_summed(base, tmp_path / "summed", ("policy",), total, settings, "r")
    spaces = Spaces(settings)
    learning = [spaces.learning(name, release.feature_dim) for name in ("", made.version)]
    learned = read_learned(tmp_path / "summed", made, *learning)
    assert isinstance(learned, LinearStatistics)
    assert (learned.impressions, learned.rewards) == (3 * stored.impressions, 3 * stored.rewards)
    np.testing.assert_allclose(learned.gram, 3 * stored.gram)
    np.testing.assert_allclose(learned.moment, 3 * stored.moment)
    assert json.loads((tmp_path / "summed" / "manifest.json").read_text())["files"].keys() >= {LEARNED}
    blank = settings.model_copy(update={"policy": "thompson-disjoint"})
    with pytest.raises(ValueError, match="policy must learn one linear model for all items"):
        await stored_policy(blank, log, release, committed)
