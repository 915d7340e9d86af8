"""Every measure on linear regression, whose loss is a quadratic, and against its definition written out."""

from __future__ import annotations

import itertools
import math
import re

import numpy
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from sharpcli.errors import NumericalError, SettingsError
from sharpcli.measures import (
    average_case,
    critical_sharpness,
    filter_normalised,
    fisher_rao,
    gradient_noise,
    gradient_norm,
    local_volume,
    logit_normalised,
    m_sharpness,
    pac_bayes,
    worst_case,
)
from sharpcli.objective import Objective
from sharpcli.parameters import filter_normalised as normalised
from sharpcli.runtime import generator
from tests.device import DEVICE, on_device
from tests.lanes import crossed, thinned
from tests.nets import data_for, dense_hessian, made_model, objective, outputs_of

SEEDS = [0, 1, 2]


def regression(size: int = 6, seed: int = 0, *, at_minimum: bool = True) -> tuple[Objective, Tensor, Tensor]:
    """Return linear regression with its Hessian and gradient."""
    random = torch.Generator().manual_seed(seed)
    inputs, targets = (torch.randn(40, width, generator=random, dtype=torch.float64) for width in (size, 1))
    torch.manual_seed(seed)
    model = nn.Linear(size, 1, bias=False).double()
    if at_minimum:
        with torch.no_grad():
            model.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T)
    made = Objective.of(model, inputs, targets, loss="mse", runtime=on_device("float64"))
    return made, (inputs.T @ inputs / 40).to(DEVICE), made.gradient(made.parameters())


def highest_on_ball(hessian: Tensor, slope: Tensor, rho: float) -> float:
    """Return max bᵀδ + ½ δᵀHδ over ‖δ‖ = ρ, by its secular equation: (μ - H) δ = b with μ above the spectrum."""
    values, vectors = (part.cpu().numpy() for part in torch.linalg.eigh(hessian))
    b = vectors.T @ slope.cpu().numpy()
    if numpy.abs(b).max() < 1e-12:
        return 0.5 * rho**2 * values[-1]
    low = values[-1] + numpy.abs(b[-1]) / rho * 1e-9
    shift = brentq(
        lambda mu: numpy.linalg.norm(b / (mu - values)) - rho, low + 1e-13, values[-1] + numpy.linalg.norm(b) / rho + 1
    )
    delta = b / (shift - values)
    return float(b @ delta + 0.5 * (values * delta**2).sum())


@pytest.mark.parametrize(("seed", "adaptive"), crossed(SEEDS, [False, True]))
def test_the_average_case_is_half_sigma_squared_times_the_trace(seed: int, adaptive: bool):
    made, hessian, _ = regression(seed=seed, at_minimum=False)
    theta = made.parameters()
    found = average_case.read(made, theta, seed=seed, sigma=0.3, samples=400, adaptive=adaptive)
    scale = theta.abs() if adaptive else torch.ones_like(theta)
    exact = 0.5 * 0.09 * float((torch.diag(hessian) * scale**2).sum())
    assert abs(found.value - exact) < 4 * found.standard_error
    assert found.standard_error < 0.1 * exact
    assert found.passes == 801


@pytest.mark.parametrize(("seed", "at_minimum"), crossed(SEEDS, [True, False]))
def test_the_worst_case_in_a_euclidean_ball(seed: int, at_minimum: bool):
    made, hessian, slope = regression(seed=seed, at_minimum=at_minimum)
    found = worst_case.read(made, made.parameters(), seed=seed, rho=0.5, steps=60, restarts=4)
    exact = highest_on_ball(hessian, slope, 0.5)
    assert found.value <= exact * (1 + 1e-9)
    assert found.value > 0.999 * exact
    assert found.bound == "lower"
    assert found.details["fraction_of_radius"] == pytest.approx(1)


@pytest.mark.parametrize(("seed", "adaptive"), crossed(SEEDS, [False, True]))
def test_the_worst_case_in_a_cube_is_in_a_corner(seed: int, adaptive: bool):
    made, hessian, slope = regression(seed=seed, at_minimum=False)
    theta = made.parameters()
    found = worst_case.read(made, theta, seed=seed, rho=0.3, norm="inf", adaptive=adaptive, steps=20, restarts=20)
    widths = 0.3 * (theta.abs() if adaptive else torch.ones_like(theta)).cpu().numpy()
    corners = numpy.array(list(itertools.product((-1, 1), repeat=len(theta)))) * widths
    exact = float(
        (corners @ slope.cpu().numpy() + 0.5 * numpy.einsum("ci,ij,cj->c", corners, hessian.cpu().numpy(), corners)).max()
    )
    assert found.value == pytest.approx(exact, rel=1e-9)


def test_the_adaptive_ball_in_two_norms_against_its_definition():
    made, hessian, slope = regression(at_minimum=False)
    theta = made.parameters()
    found = worst_case.read(made, theta, rho=0.4, adaptive=True, steps=60, restarts=4)
    scale = torch.diag(theta.abs())
    assert found.value == pytest.approx(highest_on_ball(scale @ hessian @ scale, scale @ slope, 0.4), rel=1e-3)


def test_weights_of_exactly_zero_do_not_move_in_an_adaptive_ball():
    """Division by |w| = 0 gives NaN in a peer; here the ball has no width there."""
    made, hessian, _ = regression()
    theta = made.parameters()
    theta[::2] = 0
    for norm in ("2", "inf"):
        found = worst_case.read(made, theta, rho=0.5, norm=norm, adaptive=True, restarts=4)
        assert found.status == "ok"
        assert math.isfinite(found.value)
        assert found.value > 0
    assert worst_case.read(made, torch.zeros_like(theta), rho=0.5, adaptive=True).status == "failed"
    assert hessian.shape == (6, 6)


def test_m_sharpness_of_all_samples_is_the_worst_case():
    made, hessian, slope = regression(at_minimum=False)
    found = m_sharpness.read(made, made.parameters(), m=40, rho=0.5, steps=60)
    assert found.value == pytest.approx(highest_on_ball(hessian, slope, 0.5), rel=1e-3)
    assert found.details["batches"] == 1


def test_m_sharpness_is_the_mean_over_batches():
    made, _, _ = regression(at_minimum=False)
    theta = made.parameters()
    found = m_sharpness.read(made, theta, m=10, rho=0.5, batches=4, steps=60)
    order = torch.randperm(40, generator=generator(0, 23))
    exact = []
    for part in order.split(10):
        x, y = made.inputs[part], made.targets[part]
        slope = x.T @ (x @ theta.view(-1, 1) - y) / 10
        exact.append(highest_on_ball(x.T @ x / 10, slope.flatten(), 0.5))
    assert found.value == pytest.approx(sum(exact) / 4, rel=5e-3)
    assert found.standard_error == pytest.approx(torch.tensor(exact).std().item() / 2, rel=0.05)


def test_directions_have_the_norms_of_the_filters_and_nothing_in_vectors():
    """A peer applies the rule element by element to vectors, another to whole tensors."""
    problem = objective("conv")
    theta = problem.parameters()
    direction = normalised(torch.randn(len(theta), dtype=torch.float64).to(DEVICE), theta, problem.space)
    for name, part in problem.space.split(direction).items():
        weights = problem.space.split(theta)[name]
        if weights.ndim < 2:
            assert not part.any()
        else:
            torch.testing.assert_close(part.flatten(1).norm(dim=1), weights.flatten(1).norm(dim=1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_filter_normalised_rise_of_a_quadratic(seed: int):
    """One filter of n weights: the direction is uniform on a sphere of radius ‖w‖, so the mean is ½ r² ‖w‖² tr H / n."""
    made, hessian, _ = regression(seed=seed, at_minimum=False)
    theta = made.parameters()
    found = filter_normalised.read(made, theta, seed=seed, radius=0.5, samples=400)
    exact = 0.5 * 0.25 * float(theta @ theta) * float(hessian.trace()) / 6
    assert abs(found.value - exact) < 4 * found.standard_error


def test_random_directions_have_mean_zero_and_are_orthogonal_to_each_other():
    """A peer draws them from [0, 1], so that two of them have cosine 0.75."""
    from sharpcli.runtime import gaussian

    first, second = (gaussian(torch.zeros(100_000, dtype=torch.float64), 0, 21, sample) for sample in range(2))
    assert abs(float(first.mean())) < 4 / 100_000**0.5
    assert abs(float(first @ second) / float(first.norm() * second.norm())) < 4 / 100_000**0.5


@pytest.mark.parametrize("seed", thinned(SEEDS))
def test_pac_bayes_finds_the_sigma_of_its_own_directions(seed: int):
    """σ is a standard deviation: a peer hands its square to the generator and so reports a variance."""
    made, hessian, _ = regression(seed=seed)
    found = pac_bayes.read(made, made.parameters(), seed=seed, target=0.2, samples=200, tolerance=1e-3)
    assert found.details["rise"] <= 0.2
    assert found.details["rise"] == pytest.approx(0.2, rel=3e-3)
    wanted = math.sqrt(2 * 0.2 / float(hessian.trace()))
    relative = found.details["rise_standard_error"] / 0.2 / 2
    assert abs(found.value / wanted - 1) < 4 * relative + 1e-3
    assert found.details["upper"] / found.value <= 1.001


def test_pac_bayes_fails_where_no_noise_reaches_the_target():
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs + 0 * self.weight.sum()

    made = Objective.of(Flat(), torch.randn(5, 2).double(), torch.zeros(5).long(), runtime=on_device("float64"))
    found = pac_bayes.read(made, made.parameters(), samples=2)
    assert found.status == "failed"
    assert found.value is None


def sample_gradients(problem: Objective, name: str) -> Tensor:
    """Return ∇ℓ_i of each sample, shape (N, P), one by one."""
    model = made_model(name)
    inputs, targets = data_for(name)
    rows = []
    for sample in range(len(inputs)):
        loss = problem.criterion.terms(model.eval()(inputs[sample : sample + 1]), targets[sample : sample + 1]).sum()
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows).to(DEVICE)


@pytest.mark.parametrize("name", ["mlp", "conv", "attention", "lstm"])
def test_the_fisher_rao_norm_is_that_of_the_samples_gradients(name: str):
    problem = objective(name)
    rows, theta = sample_gradients(problem, name), problem.parameters()
    found = fisher_rao.read(problem, theta)
    assert found.value == pytest.approx(float((rows @ theta).square().mean().sqrt()), rel=1e-10)


def test_the_gradient_noise_of_single_samples_is_exact():
    problem = objective("mlp")
    rows, theta = sample_gradients(problem, "mlp"), problem.parameters()
    trace, square = float(rows.var(0).sum()), float(rows.mean(0).square().sum())
    found = gradient_noise.read(problem, theta, groups=len(rows))
    assert found.details["trace_of_covariance"] == pytest.approx(trace, rel=1e-9)
    assert found.value == pytest.approx(trace / square, rel=1e-9)
    assert found.standard_error == 0


@pytest.mark.slow
def test_the_gradient_noise_of_groups_is_unbiased_and_its_error_what_it_says():
    problem = objective("mlp")
    rows, theta = sample_gradients(problem, "mlp"), problem.parameters()
    wanted = float(rows.var(0).sum()) / float(rows.mean(0).square().sum())
    found = [gradient_noise.read(problem, theta, seed=seed, groups=10) for seed in range(100)]
    values = [one.value for one in found]
    assert abs(numpy.mean(values) - wanted) < 4 * numpy.std(values, ddof=1) / 10
    random = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(2000, size, generator=random, dtype=torch.float64) for size in (5, 1))
    many = Objective.of(nn.Linear(5, 1).double(), inputs, targets, loss="mse", runtime=on_device("float64"))
    found = [gradient_noise.read(many, many.parameters(), seed=seed, groups=20) for seed in range(100)]
    spread = numpy.std([one.value for one in found], ddof=1)
    assert numpy.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.25)


def test_the_gradient_norm_is_that_of_the_mean():
    problem = objective("mlp")
    square = float(sample_gradients(problem, "mlp").mean(0).square().sum())
    theta = problem.parameters()
    assert gradient_norm.read(problem, theta).value == pytest.approx(square**0.5, rel=1e-9)


def test_a_single_sample_has_no_gradient_noise():
    found = gradient_noise.read(regression()[0].among(torch.tensor([0])), regression()[0].parameters())
    assert (found.status, found.value) == ("failed", None)


def test_m_sharpness_fails_where_a_batch_has_no_rise_and_leaves_out_ignored_ones():
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, dtype=torch.float64))

        def forward(self, inputs: Tensor) -> Tensor:
            return (inputs * self.weight).sum(1, keepdim=True) * inputs.new_tensor([1.0, -1.0])

    inputs = torch.tensor([[1.0, 0.5], [0.0, 0.0], [0.3, 1.0], [0.2, 0.1]])
    runtime = on_device("float64")
    made = Objective.of(Flat(), inputs, torch.tensor([0, 1, 0, -100]), runtime=runtime)
    found = m_sharpness.read(made, made.parameters(), m=1)
    assert (found.status, found.value, found.details["failed"]) == ("failed", None, 1)
    made = Objective.of(Flat(), inputs, torch.tensor([0, -100, 0, -100]), runtime=runtime)
    assert m_sharpness.read(made, made.parameters(), m=1).details["batches"] == 2


def test_pac_bayes_ends_where_numbers_are_no_finer():
    made, _, _ = regression()
    found = pac_bayes.read(made, made.parameters(), samples=1, tolerance=1e-17)
    assert found.details["upper"] == pytest.approx(found.value, rel=1e-14)


def test_a_size_at_which_the_loss_overflows_is_named():
    made, _, _ = regression()
    with pytest.raises(NumericalError) as raised:
        worst_case.read(made, made.parameters(), rho=1e200)
    assert re.search(r"e\+(199|200)", raised.value.hint)


def test_unit_logits_are_those_of_their_definition():
    problem = objective("mlp")
    theta = problem.parameters()
    outputs = outputs_of(problem)(theta)
    outputs = outputs.view(len(problem.targets), -1)
    unit = outputs - outputs.mean(1, keepdim=True)
    unit = unit / unit.norm(dim=1, keepdim=True)
    wanted = nn.functional.cross_entropy(unit, problem.targets)
    found = logit_normalised.read(problem, theta)
    assert found.details["loss"] == pytest.approx(float(wanted), rel=1e-10)
    assert found.value > 0


@pytest.mark.parametrize(("seed", "name"), thinned([(0, "mlp"), (0, "conv"), (1, "mlp"), (2, "conv")]))
def test_the_local_volume_is_that_of_the_dense_spectrum(seed: int, name: str):
    problem = objective(name)
    values = torch.linalg.eigvalsh(dense_hessian(problem)).clamp_min(0)
    exact = 0.5 * float(torch.log1p(problem.total_weight * 0.1**2 * values).sum())
    found = local_volume.read(problem, problem.parameters(), seed=seed, sigma=0.1, probes=12)
    assert abs(found.value - exact) < 4 * found.standard_error + 1e-6 * exact
    assert found.standard_error < 0.2 * exact
    assert 0 < found.details["outlier_part"] < found.value


def test_the_local_volume_of_a_bowl_is_exact_and_is_that_of_sampling():
    """Six eigenvalues are all found one by one; and the definition itself, by Monte Carlo."""
    made, hessian, _ = regression()
    found = local_volume.read(made, made.parameters(), sigma=0.2)
    values = torch.linalg.eigvalsh(hessian)
    assert found.value == pytest.approx(0.5 * float(torch.log1p(40 * 0.04 * values).sum()), rel=1e-5)
    drawn = 0.2 * torch.randn(400_000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.exp(-40 * 0.5 * torch.einsum("ni,ij,nj->n", drawn, hessian.cpu(), drawn))
    error = float(weights.std() / weights.mean()) / 400_000**0.5
    assert abs(-math.log(float(weights.mean())) - found.value) < 4 * error


@pytest.mark.parametrize(("seed", "dtype"), crossed(SEEDS, ["float64", "float32"]))
def test_critical_sharpness_on_a_quadratic(seed: int, dtype: str):
    """λ_c along the gradient is gᵀHg/gᵀg; along another update u it is uᵀHu/gᵀu."""
    made, hessian, slope = regression(seed=seed, at_minimum=False)
    if dtype == "float32":
        made = Objective.of(made.model.float(), made.inputs, made.targets, loss="mse", runtime=on_device("float32"))
    theta = made.parameters()
    found = critical_sharpness.read(made, theta, seed=seed, tolerance=1e-5)
    exact = float(slope @ hessian @ slope / (slope @ slope))
    assert found.value == pytest.approx(exact, rel=1e-4)
    rounding = {"float64": 0.0, "float32": 1e-6}[dtype]  # Of the gradient, which is the direction.
    assert found.details["lower"] * (1 - rounding) <= exact <= found.details["upper"] * (1 + rounding)
    assert found.details["directional_sharpness"] == pytest.approx(exact, rel=1e-5)
    assert found.details["on_a_quadratic"] == pytest.approx(exact, rel=1e-5)
    other = slope + 0.3 * torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    along = critical_sharpness.read(made, theta, update=lambda *_: other, direction="optimizer", tolerance=1e-5)
    exact = float(other @ hessian @ other / (slope @ other))
    assert along.value == pytest.approx(exact, rel=1e-4)
    assert along.details["on_a_quadratic"] == pytest.approx(exact, rel=1e-5)
    assert along.details["directional_sharpness"] == pytest.approx(float(other @ hessian @ other / (other @ other)), rel=1e-5)
    # A direction twice as long has a critical step half as large.
    twice = critical_sharpness.read(made, theta, update=lambda *_: 2 * other, direction="optimizer", tolerance=1e-5)
    assert twice.value == pytest.approx(2 * along.value, rel=1e-4)
    assert twice.details["directional_sharpness"] == pytest.approx(along.details["directional_sharpness"], rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_relative_critical_sharpness_on_two_quadratics(seed: int):
    """Of loss 1 along the gradient g₂ of loss 2 it is g₂ᵀH₁g₂ / g₁ᵀg₂."""
    made, hessian, slope = regression(seed=seed, at_minimum=False)
    second = regression(seed=seed + 10, at_minimum=False)[0].gradient(made.parameters())
    second = second if float(second @ slope) > 0 else second + 2 * slope * float(-(second @ slope) / (slope @ slope))
    found = critical_sharpness.read(made, made.parameters(), update=lambda *_: second, of="test", tolerance=1e-6)
    assert found.value == pytest.approx(float(second @ hessian @ second / (slope @ second)), rel=1e-5)


def test_critical_sharpness_at_the_default_tolerance_costs_few_passes():
    made, hessian, slope = regression(at_minimum=False)
    found = critical_sharpness.read(made, made.parameters(), curvature=False)
    exact = float(slope @ hessian @ slope / (slope @ slope))
    assert found.details["lower"] <= exact <= found.details["upper"] <= 1.07 * found.details["lower"]
    assert found.passes <= 2 + 12
    assert "directional_sharpness" not in found.details


def test_critical_sharpness_needs_a_step_that_lowers_the_loss():
    made, _, slope = regression(at_minimum=False)
    theta = made.parameters()
    uphill = critical_sharpness.read(made, theta, update=lambda *_: -slope, of="test")
    assert (uphill.value, uphill.status) == (None, "failed")
    assert "rises along it" in uphill.note
    zero = Objective.of(made.model, 0 * made.inputs, made.targets, loss="mse", runtime=made.runtime)
    assert "the gradient is 0" in critical_sharpness.read(zero, theta).note
    for options in ({"direction": "up"}, {"direction": "optimizer"}, {"of": "test"}, {"tolerance": 0.0}):
        with pytest.raises(SettingsError):
            critical_sharpness.read(made, theta, **options)


def test_critical_sharpness_near_a_minimum_is_measured_in_float64():
    """Where the fall is 1e-10 of the loss, float32 cannot see it."""
    made, hessian, _ = regression(at_minimum=True)
    theta = made.parameters() + 1e-5 * torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).to(
        DEVICE
    )
    coarse = Objective.of(made.model.float(), made.inputs, made.targets, loss="mse", runtime=on_device("float32"))
    found = critical_sharpness.read(coarse, theta.float(), tolerance=1e-3)
    assert found.note == "Measured in float64."
    slope = made.gradient(theta.float().double())
    along = coarse.gradient(theta.float()).double()
    exact = float(along @ hessian @ along / (slope @ along))
    assert found.value == pytest.approx(exact, rel=2e-2)


@pytest.mark.long
def test_the_interval_of_the_directional_sharpness_covers_that_of_all_data():
    """Random parts of one large data set, along one direction: 95 % of the intervals hold the value of the whole."""
    random = torch.Generator().manual_seed(5)
    inputs = torch.randn(20_000, 4, generator=random, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5, 3.0])
    model, unit = nn.Linear(4, 1, bias=False).double(), torch.ones(4, dtype=torch.float64).to(DEVICE)
    exact, covered = float((inputs @ unit.cpu()).square().mean() / 4), 0
    for seed in range(300):
        part = inputs[torch.randint(len(inputs), (400,), generator=random)]
        made = Objective.of(
            model, part, torch.full((400, 1), -9.0, dtype=torch.float64), loss="mse", runtime=on_device("float64")
        )
        theta = made.parameters()
        sign = 1.0 if float(made.gradient(theta) @ unit) > 0 else -1.0
        found = critical_sharpness.read(made, theta, seed=seed, update=lambda *_, sign=sign: sign * unit, of="test")
        assert found.details["directional_lower"] is not None
        covered += found.details["directional_lower"] <= exact <= found.details["directional_upper"]
    assert 0.92 <= covered / 300 <= 0.98
