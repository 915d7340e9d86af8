import math
from collections.abc import Callable

import numpy
import pytest
import torch
from torch import Tensor

from sharpcli.errors import NumericalError, SettingsError
from sharpcli.estimate import Estimate
from sharpcli.linalg.trace import Moments, deflated_moments
from sharpcli.linalg.xtrace import xtrace
from sharpcli.runtime import generator
from tests.device import DEVICE
from tests.lanes import long, slow
from tests.linalg.spectra import Planted, broad, steep

RUNS = 500
SPECTRA = {"steep": steep, "broad": broad}


def inside(spectrum: Tensor, count: int) -> dict[str, float]:
    """Return what is known once the first `count` eigenvectors are."""
    known = spectrum[:count].double()
    return {"trace_inside": float(known.sum()), "frobenius_squared_inside": float((known**2).sum())}


def deflated(spectrum: Tensor, count: int, **words: float) -> Moments:
    operator = Planted(spectrum.double())
    return deflated_moments(operator, basis=operator.eigenvectors(count), **inside(spectrum, count), **words)


def coverage(spectrum: Tensor, estimate: Callable[[int], Moments]) -> tuple[float, float, float]:
    """Return how often the intervals of trace and squared norm hold the truth, and squared standard errors over real ones."""
    truth, hits = (float(spectrum.sum()), float((spectrum**2).sum())), [0, 0]
    claimed, real = 0.0, 0.0
    for seed in range(RUNS):
        found = estimate(seed)
        claimed, real = claimed + found.trace.standard_error**2, real + (found.trace.value - truth[0]) ** 2
        for index, part in enumerate((found.trace, found.frobenius_squared)):
            hits[index] += part.lower <= truth[index] <= part.upper
    return hits[0] / RUNS, hits[1] / RUNS, claimed / real


def exactly(estimate: Estimate, truth: float, scale: float) -> None:
    for number in (estimate.value, estimate.lower, estimate.upper):
        assert number == pytest.approx(truth, rel=1e-8, abs=1e-8 * scale)
    assert estimate.standard_error <= 1e-8 * scale + 1e-9 * abs(truth)


CLOSED = {
    "diagonal": [5.0, -3.0, 2.0, 0.5, -0.25],
    "one by one": [7.0],
    "zero": [0.0] * 300,
    "all equal": [3.0] * 300,
    "rank two": [4.0, 2.0] + [0.0] * 298,
    "tiny": [4e-8, 2e-8] + [0.0] * 298,
    "whole space in few products": [float(number) for number in range(60)],
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_by_xtrace(name: str):
    spectrum = torch.tensor(CLOSED[name], dtype=torch.float64)
    operator = Planted(spectrum)
    found = xtrace(operator)
    scale = float(spectrum.abs().max())
    exactly(found.trace, float(spectrum.sum()), scale)
    exactly(found.frobenius_squared, float((spectrum**2).sum()), scale**2)
    assert found.products == operator.products <= 70


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_beside_a_basis(name: str):
    spectrum = torch.tensor(CLOSED[name], dtype=torch.float64)
    found = deflated(spectrum, min(2, len(spectrum)), half_width=1e-3)
    scale = float(spectrum.abs().max())
    if name == "whole space in few products":
        assert found.products == 60  # Ten probes told that the 58 dimensions left could not be had for less.
        assert found.trace.standard_error > 0
        found = deflated(spectrum, 2, half_width=1e-3, max_products=70)
        assert (found.method, found.products) == ("exact", 68)
    exactly(found.trace, float(spectrum.sum()), scale)
    exactly(found.frobenius_squared, float((spectrum**2).sum()), scale**2)


def test_nothing_is_left_of_the_space():
    spectrum = steep(40)
    found = deflated(spectrum, 40)
    assert (found.products, found.method, found.trace.samples) == (0, "exact", 0)
    exactly(found.trace, float(spectrum.sum()), 10)


def test_what_is_exact_has_no_samples_and_what_is_not_has():
    assert xtrace(Planted(steep(50))).trace.samples == 0
    assert xtrace(Planted(steep())).trace.samples >= 15
    assert xtrace(Planted(torch.tensor(CLOSED["rank two"]))).products == 5  # Two probes, two sketches, one to find no third.


@pytest.mark.parametrize(
    ("name", "half_width"), [long("steep", 0.05), long("broad", 0.05), slow("steep", 0.015), slow("broad", 0.015)]
)
def test_coverage_beside_the_leading_eigenvectors(name: str, half_width: float):
    spectrum = SPECTRA[name]()
    operator, basis, known = torch.diag(spectrum), torch.eye(300, dtype=torch.float64)[:28], inside(spectrum, 28)
    trace, squared, _ = coverage(
        spectrum, lambda seed: deflated_moments(operator, basis=basis, **known, half_width=half_width, seed=seed)
    )
    assert 0.92 <= trace <= 0.98
    assert 0.92 <= squared <= 0.98


# Fast: test_the_rule_that_everyone_copied_does_not_cover counts how often ours is right.
@pytest.mark.parametrize(("name", "half_width"), [long("steep", 0.01), slow("broad", 0.03)])
def test_coverage_of_xtrace_under_its_stopping_rule(name: str, half_width: float):
    """Without the leave-two-out term the trace has 3/4 of its variance, and the norm is covered in 85 % of the runs."""
    spectrum = SPECTRA[name]()
    operator = torch.diag(spectrum)
    trace, squared, calibration = coverage(spectrum, lambda seed: xtrace(operator, half_width=half_width, seed=seed))
    assert 0.92 <= trace <= 0.98
    assert 0.92 <= squared <= 0.98
    assert 0.82 <= calibration <= 1.2


@pytest.mark.slow
def test_the_rule_that_everyone_copied_does_not_cover():
    """Stop when the running mean changes by less than 0.1 %, say so with s/√n: what PyHessian's rule amounts to."""
    spectrum, hits = broad(), 0
    operator = Planted(spectrum)
    for seed in range(100):
        random = generator(seed)
        values: list[float] = []
        while len(values) < 100:
            probe = torch.randint(0, 2, (300,), generator=random).double().to(DEVICE) * 2 - 1
            values.append(float((operator @ probe) @ probe))
            if len(values) > 2 and abs(numpy.mean(values) / numpy.mean(values[:-1]) - 1) < 1e-3:
                break
        error = abs(numpy.mean(values) - float(spectrum.sum()))
        hits += error <= 1e-2 * float(spectrum.sum())
    ours = [xtrace(Planted(spectrum), half_width=0.02, seed=seed).trace for seed in range(50)]
    truth = float(spectrum.sum())
    assert hits < 50
    assert sum(abs(part.value - truth) <= 0.02 * truth for part in ours) >= 46


@pytest.mark.parametrize("half_width", [0.05, 0.02])
@pytest.mark.parametrize("seed", range(5))
def test_the_half_width_asked_for_is_honoured(half_width: float, seed: int):
    for name, spectrum in ((name, make()) for name, make in SPECTRA.items()):
        beside = deflated(spectrum, 10, half_width=half_width, seed=seed)
        alone = xtrace(Planted(spectrum), half_width=half_width, seed=seed)
        assert beside.products <= 45, name
        assert alone.products <= 70, name
        for found in (beside, alone):
            assert found.trace.upper - found.trace.lower <= 2 * half_width * abs(found.trace.value) * (1 + 1e-12)


def test_running_out_of_products_is_told_by_the_width():
    for found in (
        deflated(broad(), 2, half_width=1e-4, max_products=13),
        xtrace(Planted(broad()), half_width=1e-4, max_products=33),
    ):
        assert found.products in (13, 32)
        assert found.trace.upper - found.trace.lower > 2e-4 * found.trace.value


def test_deflation_pays():
    """The same products leave much less uncertain once the outliers are out."""
    plain, beside = (deflated(broad(), count, half_width=0, max_products=40).trace for count in (0, 10))
    assert beside.standard_error < plain.standard_error / 5


def test_the_probes_are_not_the_start_of_the_krylov_space():
    """Lanczos starts from the bare seed: a probe drawn alike would lie in the basis and leave only rounding of itself."""
    start = torch.randn(300, generator=generator(3), dtype=torch.float64).to(DEVICE)
    seen: list[Tensor] = []

    class Watched(Planted):
        def __matmul__(self, vector: Tensor) -> Tensor:
            seen.append(vector.clone())
            return super().__matmul__(vector)

    empty = torch.empty(0, 300, dtype=torch.float64, device=DEVICE)
    deflated_moments(Watched(steep()), basis=empty, trace_inside=0, frobenius_squared_inside=0, seed=3)
    xtrace(Watched(steep()), seed=3)
    cosines = torch.stack(seen) @ start / start.norm()
    assert float(cosines.abs().max()) < 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_float32_agrees_with_float64(seed: int):
    for name, spectrum in ((name, make(600)) for name, make in SPECTRA.items()):
        single, double = (xtrace(Planted(spectrum, dtype), seed=seed) for dtype in (torch.float32, torch.float64))
        assert single.trace.value == pytest.approx(double.trace.value, rel=1e-5), name
        assert single.trace.standard_error == pytest.approx(double.trace.standard_error, rel=1e-2), name
        assert single.frobenius_squared.value == pytest.approx(double.frobenius_squared.value, rel=1e-5), name


def test_same_seed_same_answer_other_seed_another():
    assert xtrace(Planted(steep()), seed=1) == xtrace(Planted(steep()), seed=1) != xtrace(Planted(steep()), seed=2)
    assert deflated(steep(), 6, seed=1) == deflated(steep(), 6, seed=1) != deflated(steep(), 6, seed=2)


@pytest.mark.parametrize("at", [1, 12])
def test_a_product_that_is_not_finite_is_an_error(at: int):
    class Broken(Planted):
        def __matmul__(self, vector: Tensor) -> Tensor:
            return super().__matmul__(vector) * (math.nan if self.products == at else 1)

    empty = torch.empty(0, 300, dtype=torch.float64, device=DEVICE)
    with pytest.raises(NumericalError, match=f"product {at} is not finite"):
        xtrace(Broken(steep()))
    with pytest.raises(NumericalError, match=f"product {at} is not finite"):
        deflated_moments(Broken(steep()), basis=empty, trace_inside=0, frobenius_squared_inside=0)


def test_too_few_products_for_an_interval_are_refused():
    with pytest.raises(SettingsError, match="at least 2"):
        deflated(steep(), 2, max_products=1)
    with pytest.raises(SettingsError, match="at least 8"):
        xtrace(Planted(steep()), max_products=7)
