"""R16: what is printed about the samples that were left out holds as often as it should."""

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch

import sharpcli
from sharpcli.curvature.operator import GroupedProduct
from sharpcli.results import HessianResult

SAMPLES, FEATURES, CLASSES = 400, 10, 3
pytestmark = pytest.mark.xdist_group("data_bar")  # Its answers are computed once.
SEEDS = {200: 40, 50: 30}  # By number of samples drawn.


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of 423 parameters, trained a little on 400 samples of three clouds."""
    folder = tmp_path_factory.mktemp("bar")
    random = numpy.random.default_rng(0)
    centres, parts = random.normal(size=(CLASSES, FEATURES)), {}
    for part, count in (("train", SAMPLES), ("test", 50)):
        classes = numpy.arange(count) % CLASSES
        parts[f"x_{part}"] = (centres[classes] + random.normal(size=(count, FEATURES))).astype(numpy.float32)
        parts[f"y_{part}"] = classes
    numpy.savez(folder / "clouds.npz", **parts)
    trained = sharpcli.train(
        mode="fullbatch",
        model="mlp",
        model_arg=("hidden=30", "activation=tanh"),
        data=f"npz:{folder / 'clouds.npz'}",
        lr=0.2,
        momentum=0.0,
        schedule="constant",
        warmup=0.0,
        steps=60,
        out=str(folder / "run"),
    )
    return Path(trained.rows[0].folder) / "final.pt"


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> HessianResult:
    return sharpcli.hessian(checkpoint, topk=1)


@pytest.fixture(scope="module")
def parts_of(checkpoint: Path) -> Callable[[int], list[HessianResult]]:
    """Return the answers for so many samples drawn at random, once a seed; each number of samples is worked out once."""
    known: dict[int, list[HessianResult]] = {}

    def answers(samples: int) -> list[HessianResult]:
        if samples not in known:
            known[samples] = [
                sharpcli.hessian(checkpoint, topk=1, samples=samples, seed=seed) for seed in range(SEEDS[samples])
            ]
        return known[samples]

    return answers


@pytest.mark.slow
@pytest.mark.parametrize("samples", [50, 200])
def test_the_bracket_holds_the_eigenvalue_of_the_whole(
    samples: int, whole: HessianResult, parts_of: Callable[[int], list[HessianResult]]
) -> None:
    """And is not so wide that it says nothing."""
    exact, held, widths = whole.lambda_max, 0, []
    for result in parts_of(samples):
        low, high = result.data_bar.bracket
        held += low <= exact <= high
        widths.append((high - low) / exact)
    print(samples, held, numpy.median(widths))
    assert held >= 0.9 * SEEDS[samples]
    assert numpy.median(widths) < {200: 0.6, 50: 1.6}[samples]


@pytest.mark.slow
def test_the_value_of_a_part_is_too_high_and_the_one_on_what_was_left_out_too_low(
    whole: HessianResult, parts_of: Callable[[int], list[HessianResult]]
) -> None:
    """Why one batch is not the Hessian: the inflation is no accident of a seed, and the bracket has its two ends for it."""
    inside = numpy.array([result.lambda_max for result in parts_of(50)])
    outside = numpy.array([result.data_bar.held_out for result in parts_of(50)])
    print(inside.mean() / whole.lambda_max, outside.mean() / whole.lambda_max)
    assert inside.mean() - 2 * inside.std(ddof=1) / SEEDS[50] ** 0.5 > whole.lambda_max
    assert outside.mean() + 2 * outside.std(ddof=1) / SEEDS[50] ** 0.5 < whole.lambda_max


@pytest.mark.slow
def test_the_standard_error_is_the_spread_over_splits(parts_of: Callable[[int], list[HessianResult]]) -> None:
    """Of disjoint halves drawn anew the values spread by √(1 - 1/2) of a standard error, as without replacement."""
    told = numpy.median([result.data_bar.standard_error for result in parts_of(200)])
    spread = numpy.std([result.lambda_max for result in parts_of(200)], ddof=1)
    print(told * 0.5**0.5, spread)
    assert 0.5 < told * 0.5**0.5 / spread < 2


@pytest.mark.slow
def test_a_random_net_on_one_batch(whole: HessianResult, checkpoint: Path) -> None:
    """At the random start, before training: a batch of 32 is far too high, and the bracket tells."""
    start = checkpoint.with_name("init.pt")
    exact = sharpcli.hessian(start, topk=1).lambda_max
    found = [sharpcli.hessian(start, topk=1, samples=32, seed=seed) for seed in range(10)]
    assert numpy.mean([result.lambda_max for result in found]) > 1.1 * exact
    held = [result.data_bar.bracket[0] <= exact <= result.data_bar.bracket[1] for result in found]
    assert sum(held) >= 9


def test_the_standard_error_is_the_textbooks() -> None:
    """Of a mean over groups of equal size, s/√G with s² over G - 1; a larger group counts for more of the mean."""
    forms = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    mean, error = GroupedProduct(forms, forms, torch.tensor([5, 5, 5, 5])).mean()
    assert mean == pytest.approx(4)
    assert error == pytest.approx(float(forms.std()) / 2)
    mean, _ = GroupedProduct(forms, forms, torch.tensor([1, 1, 1, 7])).mean()
    assert mean == pytest.approx(7)
