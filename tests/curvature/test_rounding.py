"""Where a loss is near its least value float32 loses digits, alike in every product: what is printed allows for it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy
import pytest
import torch
from torch import Tensor, nn

from sharpcli.curvature.hessian import HessianOperator
from sharpcli.errors import NumericalError
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.trace import deflated_moments
from sharpcli.linalg.wanted import Wanted
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from tests.device import DEVICE, on_device
from tests.lanes import crossed

SINGLE = on_device("float32")
DOUBLE = replace(SINGLE, dtype=torch.float64)


def separated(seed: int, loss: float) -> tuple[HessianOperator, Tensor]:
    """Return the float32 operator of a net whose last layer is scaled to that loss, and the dense float64 Hessian."""
    torch.manual_seed(seed)
    inputs, teacher = torch.randn(100, 8), torch.randn(8, 3)
    targets = (inputs @ teacher).argmax(1)
    net = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
    steps = torch.optim.Adam(net.parameters(), 2e-2)
    for _ in range(300):
        steps.zero_grad()
        nn.functional.cross_entropy(net(inputs), targets).backward()
        steps.step()
    wide, low, high = copy.deepcopy(net).double(), 0.0, 6.0
    for _ in range(40):
        middle = (low + high) / 2
        for mine, own in zip(wide[2].parameters(), net[2].parameters(), strict=True):
            mine.data = own.data.double() * 10**middle
        with torch.no_grad():
            above = float(nn.functional.cross_entropy(wide(inputs.double()), targets)) > loss
        low, high = (middle, high) if above else (low, middle)
    for own in net[2].parameters():
        own.data *= 10**low
    made, exact = (Objective.of(net, inputs, targets, runtime=runtime) for runtime in (SINGLE, DOUBLE))
    operator = HessianOperator(exact, exact.parameters())
    dense = torch.stack([operator @ row for row in torch.eye(operator.shape[0], dtype=torch.float64, device=DEVICE)])
    return HessianOperator(made, made.parameters()), (dense + dense.T) / 2


@pytest.mark.parametrize(("loss", "seed"), crossed([6e-5, 1e-6], range(4)))
def test_every_interval_holds_where_digits_are_lost(seed: int, loss: float):
    operator, dense = separated(seed, loss)
    exact = torch.linalg.eigvalsh(dense).flip(0).cpu().numpy()
    pairs = eigenpairs(operator, Wanted(3), seed=seed)
    assert pairs.trust.refusal == ""
    assert pairs.trust.rounding > 10 * torch.finfo(torch.float32).eps * exact[0]
    assert pairs.steps <= 40  # It went on to the end of the budget, for residuals that noise does not allow.
    assert "budget-limited" not in pairs.verdicts
    for row, (low, high) in enumerate(pairs.intervals):
        assert bool(((exact >= low) & (exact <= high)).any())
        assert not pairs.confirmed[row] or low <= exact[row] <= high
        assert pairs.by_index[row][0] <= exact[row] <= pairs.by_index[row][1]
    assert pairs.ceiling >= max(exact[0], float(pairs.values[0]))
    assert pairs.floor <= exact[-1]
    frame, truths = pairs.krylov.frame, (float(dense.trace()), float(dense.square().sum()))
    moments = deflated_moments(
        operator,
        basis=pairs.krylov.basis,
        trace_inside=float(frame.measured.trace()),
        frobenius_squared_inside=float((frame.measured**2).sum() + (frame.coupling**2).sum()),
        half_width=1e-9,
        max_products=200,
        error=pairs.trust.noise + pairs.trust.rounding,
    )
    assert moments.method == "exact"
    for estimate, truth in zip((moments.trace, moments.frobenius_squared), truths, strict=True):
        assert abs(estimate.value - truth) > 1e-7 * truth  # "Exact" was printed without an interval.
        assert estimate.lower <= truth <= estimate.upper
        assert estimate.upper - estimate.lower < 0.3 * abs(truth)


def test_what_is_measured_is_the_error_of_the_product():
    operator, dense = separated(0, 6e-5)
    vector = torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(1)).to(DEVICE)
    vector /= vector.norm()
    off = float(((operator @ vector).double() - dense @ vector.double()).norm())
    before = operator.products
    assert operator.measured_error(vector, 0.0) == pytest.approx(off, rel=0.3)
    assert operator.products == before


def test_in_float64_weights_that_differ_by_rounding_measure_it():
    operator, _ = separated(0, 1e-2)
    wide = replace(
        operator.objective, runtime=DOUBLE, model=operator.objective.model.double(), inputs=operator.objective.inputs.double()
    )
    exact = HessianOperator(wide, wide.parameters())
    vector = torch.ones(exact.shape[0], dtype=torch.float64, device=DEVICE) / exact.shape[0] ** 0.5
    assert 0 < exact.measured_error(vector, 0.0) < 1e-10 * float((exact @ vector).norm())


class Softmax(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(300, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


def rare(seed: int, dtype: torch.dtype) -> Objective:
    """Return a mean over 100,000 samples of which a dozen make all the curvature: too many samples to look at all."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(100_000, 300, generator=random) / 300**0.5
    net = Softmax()
    for part in net.parameters():
        part.data = torch.randn(part.shape, generator=random)
    targets = net(inputs).argmax(1)
    inputs *= 1e4
    chosen = torch.randperm(len(inputs), generator=random)[:12]
    inputs[chosen] /= 1e4
    return Objective.of(net, inputs, targets, runtime=Runtime(DEVICE, dtype))


@pytest.mark.slow
def test_a_few_samples_that_make_all_are_looked_at():
    """128 at random do not have them, and would say that nothing is lost."""
    single, double = (HessianOperator(made, made.parameters()) for made in (rare(0, torch.float32), rare(0, torch.float64)))
    vector = torch.randn(single.shape[0], generator=torch.Generator().manual_seed(1)).to(DEVICE)
    vector /= vector.norm()
    product = double @ vector.double()
    off = float(((single @ vector).double() - product).norm())
    assert single.measured_error(vector, float(product.norm())) == pytest.approx(off, rel=0.5)


@pytest.mark.parametrize("loss", [1e-11, 1e-20])
def test_a_curvature_without_digits_is_refused_as_that_and_not_as_dropout(loss: float):
    operator, _ = separated(1, loss)
    pairs = eigenpairs(operator, Wanted(3))
    assert set(pairs.verdicts) == {"refused"}
    assert not pairs.trust.is_random
    with pytest.raises(NumericalError, match="digits are lost") as error:
        pairs.trust.require_operator()
    assert "float64" in error.value.hint
    assert numpy.isfinite(pairs.values.cpu().numpy()).all()
