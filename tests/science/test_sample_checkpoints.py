"""The checkpoints that ship with the project show what Keskar et al. 2017 describe, and give their recorded numbers."""

from pathlib import Path

import pytest

import sharpcli
from sharpcli.results import CompareResult

pytestmark = pytest.mark.xdist_group("sample_checkpoints")  # Its answers are computed once.
SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
MODES = ("sgd", "largebatch", "fullbatch")


@pytest.fixture(scope="module")
def compared() -> CompareResult:
    return sharpcli.compare([SAMPLES / mode for mode in MODES])


@pytest.mark.slow
def test_they_are_at_matched_training_loss_from_one_initialization(compared: CompareResult):
    losses = [row.train_loss for row in compared.rows]
    assert max(losses) < 1.02 * min(losses)
    assert compared.warnings == ()
    hashes = {sharpcli.distance(SAMPLES / mode).reference for mode in MODES}
    assert len(hashes) == 3
    inits = {(SAMPLES / mode / "init.pt") for mode in MODES}
    states = [sharpcli.inspect(path).checkpoint.sha256 for path in inits]
    assert len(set(states)) == 1


@pytest.mark.slow
def test_larger_batches_end_in_sharper_minima(compared: CompareResult):
    """Keskar 2017, tables 3 and 4: the ratio is large, far beyond any rounding."""
    small, large, full = compared.rows
    assert small.lambda_max * 2 < large.lambda_max < full.lambda_max
    assert small.phi * 1.5 < large.phi < full.phi


@pytest.mark.slow
def test_random_subspaces_agree():
    """Keskar 2017, table 4: p = 100."""
    small, full = (
        sharpcli.sharpness(SAMPLES / mode, epsilon=(1e-3,), subspace=(100,), samples=2000).measurements[0].phi
        for mode in ("sgd", "fullbatch")
    )
    assert small * 1.5 < full


@pytest.mark.slow
def test_small_batch_travels_further(compared: CompareResult):
    """Keskar 2017, section 2.2; Hoffer 2017."""
    small, large, full = compared.rows
    assert small.distance > large.distance > full.distance


def test_the_large_batch_side_of_the_path_is_narrower():
    """Keskar 2017, figure 3: the loss rises faster past the large-batch end."""
    result = sharpcli.interpolate(SAMPLES / "sgd", SAMPLES / "fullbatch", range="-0.5:1.5", points=5, split="train")
    loss = dict(zip(result.alphas, result.curves[0].loss, strict=True))
    assert loss[1.5] > 2 * loss[-0.5]


@pytest.mark.slow
def test_the_gap_does_not_follow_the_sharpness(compared: CompareResult):
    """A finding, kept honest by a test: λmax differs sevenfold, the gaps do not differ beyond their standard errors."""
    small, _, full = compared.rows
    error = (small.gap_standard_error**2 + full.gap_standard_error**2) ** 0.5
    assert full.lambda_max > 5 * small.lambda_max
    assert abs(full.gap - small.gap) < 2 * error


@pytest.mark.slow
def test_stored_losses_are_found_again(compared: CompareResult):
    for row in compared.rows:
        checks = {check.name: check for check in sharpcli.inspect(row.checkpoint.path).checks}
        assert checks["train loss"].passed
        assert "as stored" in checks["train loss"].detail
