"""On a GPU a release says what it says on the CPU. Skipped where there is none."""

import numpy as np
import pytest

from model_core.release.compress import compress_release
from model_core.release.scorer import CUDA, Scorer, cuda_devices
from streams.bench.graphs import random_items, random_requests
from streams.bench.world import random_release

pytestmark = pytest.mark.skipif(cuda_devices() == 0, reason="there is no CUDA device")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return random_release(tmp_path_factory.mktemp("release") / "fp32", known=200)


def by_row(scores, request):
    rows = scores.rows[request, scores.valid[request]].tolist()
    return dict(zip(rows, scores.scores[request].tolist(), strict=False))


@pytest.mark.parametrize(("precision", "same", "near"), [("fp32", 0.98, 5e-3), ("fp16", 0.95, 2e-2)])
def test_a_gpu_finds_the_items_that_the_cpu_finds_and_scores_them_alike(
    release, tmp_path, precision, same, near
):
    folder = release
    if precision == "fp16":
        folder = tmp_path / "fp16"
        compress_release(release, folder, "fp16")
    there, here = Scorer(folder, require_gpu=True), Scorer(release, device="cpu")
    assert (there.provider, here.provider) == (CUDA, "CPUExecutionProvider")
    items = random_items(5_000, here.release.dim)
    batch = random_requests(here, 8, 5_000)
    for _ in range(2):
        got, wanted = there.score(batch, items), here.score(batch, items)
        for request in range(8):
            ours, theirs = by_row(got, request), by_row(wanted, request)
            common = ours.keys() & theirs.keys()
            assert len(common) >= same * len(theirs)
            np.testing.assert_allclose(
                [ours[row] for row in common], [theirs[row] for row in common], atol=near
            )
        written = np.arange(0, 5_000, 7)
        items[written] = random_items(len(written), items.shape[1], seed=9)
        there.items_written(written)
