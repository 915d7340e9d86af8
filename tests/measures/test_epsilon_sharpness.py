import itertools
import math

import numpy
import pytest
import torch
from torch import Tensor, nn

from sharpcli import progress
from sharpcli.errors import SettingsError
from sharpcli.measures import epsilon_sharpness, worst_case
from sharpcli.measures._ascent import climb
from sharpcli.measures._box_search import BoxSearch
from sharpcli.measures._reading import Meter
from sharpcli.objective import Objective
from tests.device import on_device
from tests.lanes import crossed, thinned
from tests.nets import objective


def _regression(size: int, seed: int, *, at_minimum: bool) -> tuple[Objective, numpy.ndarray, Tensor]:
    """Return linear regression, whose loss is convex, so that its maximum over a box is at a corner."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(30, size, generator=random, dtype=torch.float64)
    targets = torch.randn(30, 1, generator=random, dtype=torch.float64)
    model = nn.Linear(size, 1, bias=False).double()
    # The weights of the generator, not of torch's global state: that would depend on the tests before.
    drawn = torch.randn(1, size, generator=random, dtype=torch.float64) / math.sqrt(size)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T if at_minimum else drawn)
    made = Objective.of(model, inputs, targets, loss="mse", runtime=on_device("float64"))
    return made, (inputs.T @ inputs / 30).cpu().numpy(), made.gradient(made.parameters())


def _brute_force(hessian: numpy.ndarray, slope: numpy.ndarray, widths: numpy.ndarray) -> float:
    """Return the largest rise over all corners of a box: exact for a convex quadratic."""
    corners = numpy.array(list(itertools.product((-1, 1), repeat=len(widths)))) * widths
    return float((corners @ slope + 0.5 * numpy.einsum("ci,ij,cj->c", corners, hessian, corners)).max())


@pytest.mark.parametrize(("seed", "epsilon", "at_minimum"), thinned(itertools.product([0, 1, 2], [1e-3, 0.3], [False, True])))
def test_full_space_reaches_the_brute_force_maximum(at_minimum: bool, seed: int, epsilon: float):
    made, hessian, slope = _regression(8, seed, at_minimum=at_minimum)
    theta = made.parameters()
    rise = _brute_force(hessian, slope.cpu().numpy(), epsilon * (theta.abs().cpu().numpy() + 1))
    found = epsilon_sharpness.measure(made, theta, epsilon=epsilon, restarts=100, seed=seed)
    base = made.loss(theta)
    assert found.status == "ok"
    assert found.rise == pytest.approx(rise, rel=1e-6)
    assert found.phi == pytest.approx(100 * rise / (1 + base), rel=1e-6)
    assert found.max_loss == pytest.approx(base + rise, rel=1e-9)
    assert found.share_at_bound == 1


@pytest.mark.slow
def test_the_default_searches_are_never_above_the_maximum_and_near_it_on_average():
    """Random quadratics in ten dimensions have many local maxima: this is as hard as it gets."""
    shares = []
    for seed in range(60):
        made, hessian, slope = _regression(10, seed, at_minimum=True)
        theta = made.parameters()
        rise = _brute_force(hessian, slope.cpu().numpy(), 1e-3 * (theta.abs().cpu().numpy() + 1))
        shares.append(epsilon_sharpness.measure(made, theta, seed=seed).rise / rise)
    assert max(shares) <= 1 + 1e-6
    assert numpy.mean(shares) > 0.82  # 0.87 with a standard error of 0.015 when this was written.


@pytest.mark.parametrize("seed", thinned([0, 1]))
def test_subspace_reaches_the_brute_force_maximum(seed: int):
    made, hessian, slope = _regression(20, seed, at_minimum=False)
    theta = made.parameters()
    found = epsilon_sharpness.measure(made, theta, epsilon=0.05, subspace=6, restarts=100, draws=1, seed=seed)
    # The same matrix A, and A⁺x by NumPy's dense pseudo-inverse.
    box = epsilon_sharpness._make_box(theta, 0.05, 6, seed)
    matrix = box.rows.cpu().numpy().T
    widths = 0.05 * (numpy.abs(numpy.linalg.pinv(matrix) @ theta.cpu().numpy()) + 1)
    assert box.rho * box.scale.cpu().numpy() == pytest.approx(widths, rel=1e-9)
    rise = _brute_force(matrix.T @ hessian @ matrix, matrix.T @ slope.cpu().numpy(), widths)
    assert found.rise == pytest.approx(rise, rel=1e-6)
    assert found.subspace == 6


def test_columns_of_the_subspace_are_standard_normal():
    made, _, _ = _regression(2000, 0, at_minimum=False)
    rows = epsilon_sharpness._make_box(made.parameters(), 1e-3, 50, 0).rows.cpu().numpy()
    assert rows.mean() == pytest.approx(0, abs=4 / math.sqrt(rows.size))
    assert rows.var() == pytest.approx(1, abs=4 * math.sqrt(2 / rows.size))
    cosines = numpy.corrcoef(rows)[numpy.triu_indices(50, 1)]
    assert numpy.abs(cosines).max() < 5.5 / math.sqrt(2000)


def test_a_flat_minimum_is_not_reported_as_zero():
    """At a minimiser the gradient vanishes; a search that starts there answers 0 where the truth is not."""
    made, hessian, _ = _regression(6, 0, at_minimum=True)
    theta = made.parameters()
    assert float(made.gradient(theta).abs().max()) < 1e-12
    assert epsilon_sharpness.measure(made, theta).phi > 0


def test_no_rise_anywhere_is_a_failure_not_a_zero():
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, inputs: Tensor) -> Tensor:
            return 0 * (inputs * self.weight).sum(1, keepdim=True)

    made = Objective.of(Constant(), torch.ones(5, 3), torch.ones(5, 1), loss="mse", runtime=on_device("float64"))
    found = epsilon_sharpness.measure(made, made.parameters())
    assert found.status == "failed"
    assert found.phi is None
    assert found.rise is None


def test_same_seed_same_answer_and_weights_untouched():
    made = objective("mlp")
    theta = made.parameters()
    kept = theta.clone()
    first, again = (epsilon_sharpness.measure(made, theta, seed=4) for _ in range(2))
    assert first.phi == again.phi
    assert first.phi_of_restarts == again.phi_of_restarts
    assert torch.equal(theta, kept)
    assert torch.equal(theta, made.parameters())


def test_phi_grows_with_epsilon_and_the_best_restart_counts():
    made = objective("mlp")
    small, large = (epsilon_sharpness.measure(made, made.parameters(), epsilon=epsilon) for epsilon in (5e-4, 1e-3))
    assert small.phi < large.phi
    assert large.phi == max(*large.phi_of_restarts, *large.phi_of_sign_ascent)
    assert large.evaluations >= sum(large.iterations)
    assert all(count <= 10 for count in large.iterations)


def test_a_subspace_larger_than_the_space_is_refused():
    made, _, _ = _regression(6, 0, at_minimum=True)
    with pytest.raises(SettingsError, match="subspace=7"):
        epsilon_sharpness.measure(made, made.parameters(), subspace=7)


def test_a_random_subspace_has_a_standard_error_over_its_draws():
    made, _, _ = _regression(20, 0, at_minimum=False)
    found = epsilon_sharpness.measure(made, made.parameters(), subspace=6, draws=4)
    assert len(found.phi_of_draws) == 4
    assert len(found.phi_of_restarts) == 8
    assert found.phi == pytest.approx(numpy.mean(found.phi_of_draws))
    assert found.standard_error == pytest.approx(numpy.std(found.phi_of_draws, ddof=1) / 2)
    full = epsilon_sharpness.measure(made, made.parameters())
    assert full.standard_error is None
    assert full.phi_of_draws == (full.phi,)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_sign_ascent_ends_in_a_corner_that_its_gradient_points_to(seed: int):
    """A local maximum over the corners: for a convex loss no step by the gradient's sign goes higher."""
    made, hessian, slope = _regression(8, seed, at_minimum=True)
    theta = made.parameters()
    box = epsilon_sharpness._make_box(theta, 1e-3, 0, seed)
    with progress.task("", total=None) as shown:
        (found,) = climb(Meter("", made, theta, {}), box, steps=10, restarts=1, seeds=(seed,), shown=shown)
    assert torch.equal(found.place.abs().cpu(), torch.ones(8, dtype=torch.float64))
    uphill = made.gradient(theta + box.offset(found.place))
    assert torch.equal(uphill.sign(), found.place)
    assert (
        0
        < found.loss - made.loss(theta)
        <= _brute_force(hessian, slope.cpu().numpy(), box.rho * box.scale.cpu().numpy()) * (1 + 1e-6)
    )


@pytest.mark.parametrize(("seed", "norm"), crossed(range(10), ["2", "inf"]))
def test_an_ascent_finds_the_higher_of_two_opposite_sides_whatever_its_start(norm: str, seed: int):
    """The loss is even to second order, and on one side three times as high: half of all starts lead to the other."""

    class Lopsided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(6, dtype=torch.float64))

        def forward(self, inputs: Tensor) -> Tensor:
            along = inputs @ self.weight
            return (along * (1 + along / 4)).unsqueeze(1)

    inputs = torch.tensor([[0.5, -0.3, 0.2, -0.2, 0.1, 0.1]])
    made = Objective.of(Lopsided(), inputs, torch.zeros(1, 1), loss="mse", runtime=on_device("float64"))
    reach = float(inputs.double().norm(p=2 if norm == "2" else 1))
    found = worst_case.read(made, made.parameters(), rho=1.0, norm=norm, restarts=1, seed=seed)
    assert found.value == pytest.approx((reach * (1 + reach / 4)) ** 2 / 2, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_start_towards_the_top_eigenvector_is_one_more_solve(seed: int):
    made, hessian, slope = _regression(8, seed, at_minimum=True)
    theta = made.parameters()
    plain = epsilon_sharpness.measure(made, theta, epsilon=0.3, restarts=2, seed=seed)
    found = epsilon_sharpness.measure(made, theta, epsilon=0.3, restarts=2, seed=seed, eigenvector=True)
    assert found.phi_of_restarts[:2] == pytest.approx(plain.phi_of_restarts, rel=1e-9)
    assert len(found.phi_of_restarts) == 3
    assert found.phi_of_sign_ascent == pytest.approx(plain.phi_of_sign_ascent, rel=1e-9)
    assert found.phi >= plain.phi
    box = epsilon_sharpness._make_box(theta, 0.3, 0, seed)
    widths = box.rho * box.scale.cpu().numpy()
    meter = Meter("", made, theta, {})
    start = BoxSearch(meter, box).towards(epsilon_sharpness._uphill(meter, seed))
    assert meter.passes > 4  # Its products are part of the price.
    top = numpy.linalg.eigh(hessian)[1][:, -1]
    assert abs(numpy.sign(start) @ numpy.sign(top)) == 8
    assert numpy.abs(start) == pytest.approx(0.5 * widths)


@pytest.mark.parametrize(("at_minimum", "seed"), thinned([(False, 0), (True, 1), (False, 2)]))
def test_the_ascent_on_the_device_comes_near_the_corner_of_the_brute_force_and_never_above(at_minimum: bool, seed: int):
    made, hessian, slope = _regression(8, seed, at_minimum=at_minimum)
    theta = made.parameters()
    rise = _brute_force(hessian, slope.cpu().numpy(), 0.3 * (theta.abs().cpu().numpy() + 1))
    found = [
        epsilon_sharpness.read(made, theta, epsilon=0.3, solver="ascent", seed=start, iterations=20).details["rise"]
        for start in range(30)
    ]
    assert 0.99 * rise <= max(found) <= rise * (1 + 1e-9)
    phi = epsilon_sharpness.read(made, theta, epsilon=0.3, solver="ascent", seed=0)
    assert phi.value == pytest.approx(100 * phi.details["rise"] / (1 + made.loss(theta)))
    with pytest.raises(SettingsError, match="solver"):
        epsilon_sharpness.read(made, theta, solver="scipy")


@pytest.mark.parametrize("subspace", [0, 5])
def test_each_solver_counts_its_own_searches(subspace: int):
    made, _, _ = _regression(8, 0, at_minimum=True)
    theta = made.parameters()
    found = {
        solver: epsilon_sharpness.measure(made, theta, epsilon=0.3, subspace=subspace, solver=solver, draws=2)
        for solver in ("both", "lbfgsb", "ascent")
    }
    draws = 2 if subspace else 1
    assert {name: (len(one.phi_of_restarts), len(one.phi_of_sign_ascent)) for name, one in found.items()} == {
        "both": (2 * draws, 2 * draws),
        "lbfgsb": (2 * draws, 0),
        "ascent": (0, 2 * draws),
    }
    for one in found.values():
        assert one.phi == pytest.approx(numpy.mean(one.phi_of_draws))
        assert one.passes > one.evaluations
    assert found["both"].phi >= found["lbfgsb"].phi
