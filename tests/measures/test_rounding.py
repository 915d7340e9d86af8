"""A rise that rounding could have made is not told as one: against all corners of a box, in float64, at tiny losses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy
import pytest
import torch
from torch import Tensor, nn

from sharpcli import plugins
from sharpcli.losses import IGNORED, loss_named
from sharpcli.measures import epsilon_sharpness, gradient_noise, m_sharpness, pac_bayes, worst_case
from sharpcli.objective import Objective
from sharpcli.results import Reading
from tests.device import on_device
from tests.lanes import crossed

FLOATS = ["float32", "float64"]
NAMES = plugins.names("measures")


def classifier(level: float, seed: int, dtype: str) -> Objective:
    """Return a linear classifier of 8 parameters that fits its 40 samples, at a mean loss of about `level`."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(40, 4, generator=random)
    weight = torch.randn(2, 4, generator=random)
    classes = (inputs @ weight.T).argmax(1)
    inputs += 0.5 * (weight[classes] - weight[1 - classes])  # So that no sample is near the border.
    model = nn.Linear(4, 2, bias=False)
    scale = 1.0
    for _ in range(60):
        logits = (scale * inputs @ weight.T).double()
        loss = float(loss_named("ce").precise_terms(logits, classes).mean())
        scale *= 1 + min(max(math.log(loss / level), -5), 5) / 30
    with torch.no_grad():
        model.weight.copy_(scale * weight)
    return Objective.of(model, inputs, classes, runtime=on_device(dtype))


def exact_loss(made: Objective, theta: numpy.ndarray) -> numpy.ndarray:
    """Return f in float64 for weights (..., P), by log1p and not by the code under test."""
    inputs, classes = made.inputs.double().cpu().numpy(), made.targets.cpu().numpy()
    logits = numpy.einsum("...ij,nj->...ni", theta.reshape(*theta.shape[:-1], 2, 4), inputs)
    number = numpy.arange(len(classes))
    return numpy.log1p(numpy.exp(logits[..., number, 1 - classes] - logits[..., number, classes])).mean(-1)


def highest_corner(made: Objective, widths: Callable[[numpy.ndarray], numpy.ndarray]) -> float:
    """Return the largest rise over a box: cross-entropy of a linear model is convex, so it is in a corner."""
    theta = made.parameters().double().cpu().numpy()
    corners = numpy.array(list(itertools.product((-1, 1), repeat=len(theta)))) * widths(theta)
    return float((exact_loss(made, theta + corners) - exact_loss(made, theta)).max())


@pytest.mark.parametrize(("level", "dtype"), crossed([1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 1e-20], FLOATS))
def test_phi_is_never_above_the_maximum_and_mostly_near_it(level: float, dtype: str):
    shares = []
    for seed in range(6):
        made = classifier(level, seed, dtype)
        found = epsilon_sharpness.measure(made, made.parameters(), seed=seed)
        truth = highest_corner(made, lambda theta: 1e-3 * (numpy.abs(theta) + 1))
        base = float(exact_loss(made, made.parameters().double().cpu().numpy()))
        assert 0.3 * level < base < 3 * level
        assert found.status == "ok"
        assert found.rise <= truth * (1 + 1e-9)
        assert found.phi <= 100 * truth / (1 + base) * (1 + 1e-9)
        listed = [phi for phi in (*found.phi_of_restarts, *found.phi_of_sign_ascent) if phi is not None]
        assert max(listed) == found.phi
        shares.append(found.rise / truth)
    assert numpy.mean(shares) > (0.9 if level > 1e-15 else 0.1)  # Below float64's own rounding a search goes anywhere.


@pytest.mark.parametrize(("level", "epsilon", "dtype"), crossed([1e-2, 1e-6, 1e-12], [1e-7, 1e-5], FLOATS))
def test_a_tiny_box_is_measured_although_its_rise_is_below_an_ulp_of_float32(epsilon: float, level: float, dtype: str):
    for seed in range(3):
        made = classifier(level, seed, dtype)
        found = epsilon_sharpness.measure(made, made.parameters(), epsilon=epsilon)
        truth = highest_corner(made, lambda theta: epsilon * (numpy.abs(theta) + 1))
        assert 0.5 * truth < found.rise <= truth * (1 + 1e-9)


@pytest.mark.parametrize(("level", "adaptive", "dtype"), crossed([1e-1, 1e-4, 1e-8, 1e-12], [False, True], FLOATS))
def test_the_worst_case_is_never_above_the_maximum(adaptive: bool, level: float, dtype: str):
    for seed in range(4):
        made = classifier(level, seed, dtype)
        theta = made.parameters()
        found = worst_case.read(made, theta, rho=1e-3, norm="inf", adaptive=adaptive, seed=seed)
        truth = highest_corner(made, lambda theta: 1e-3 * (numpy.abs(theta) if adaptive else numpy.ones(8)))
        assert found.bound == "lower"
        assert 0.5 * truth < found.value <= truth * (1 + 1e-9)
        assert m_sharpness.read(made, theta, m=40, rho=1e-3).value <= found.value * 8**0.5  # A ball inside a cube.


@pytest.mark.parametrize("level", [1e-1, 1e-4, 1e-8, 1e-12])
def test_means_over_directions_are_the_same_in_both_precisions_but_for_their_errors(level: float):
    for name in ("average-case", "filter-normalised"):
        read = plugins.load("measures", name).read
        narrow, wide = (read(made, made.parameters()) for made in (classifier(level, 0, dtype) for dtype in FLOATS))
        assert narrow.value == pytest.approx(wide.value, rel=2e-3)
        assert narrow.standard_error > 0


def test_pac_bayes_at_a_target_below_the_rounding_of_float32():
    narrow, wide = (classifier(1e-2, 0, dtype) for dtype in FLOATS)
    found, truth = (pac_bayes.read(made, made.parameters(), target=1e-9) for made in (narrow, wide))
    assert found.value == pytest.approx(truth.value, rel=0.02)
    assert "float64" in found.note
    impossible = pac_bayes.read(wide, wide.parameters(), target=1e-18)
    assert impossible.status == "failed"
    assert "rounding" in impossible.note


def test_the_normal_case_costs_two_evaluations_more_and_says_nothing():
    made = classifier(0.3, 0, "float32")
    found = epsilon_sharpness.measure(made, made.parameters())
    without_gradient = 1 + 2 * 3  # At θ, and at the end of each of three parts of two ascents.
    assert found.note == ""
    assert found.passes == 2 * found.evaluations - without_gradient + 2


def scaled_identity(scale: float) -> nn.Module:
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.weight.copy_(scale * torch.eye(3))
        model.bias.zero_()
    return model


def zeroed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def net(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    pairs = [(nn.Linear(first, second), nn.ReLU()) for first, second in itertools.pairwise(sizes)]
    return nn.Sequential(*itertools.chain.from_iterable(pairs))[:-1]


def dead(bias: float) -> nn.Module:
    """Return a net none of whose ReLUs is ever on, with this much bias for the first class."""
    model = net(3, 5, 3)
    with torch.no_grad():
        model[0].bias.fill_(-100)
        model[2].bias.copy_(torch.tensor([bias, 0, 0]))
    return model


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), 50.0))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.new_zeros(len(inputs), 3) + 0 * self.weight.sum()


class OneWeight(nn.Module):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([self.weight * inputs[:, 0], -self.weight * inputs[:, 1], 0 * inputs[:, 2]], 1)


EYE, CLASSES = torch.eye(3).repeat(4, 1), torch.arange(12) % 3
DEGENERATE: dict[str, tuple[Callable[[], nn.Module], Tensor, Tensor, str]] = {
    "all weights 0": (lambda: zeroed(net(3, 5, 3)), EYE, CLASSES, "ce"),
    "one layer of 0": (lambda: zeroed(net(3, 3)), EYE, CLASSES, "ce"),
    "dead units": (lambda: dead(0.0), EYE, CLASSES, "ce"),
    "dead and sure": (lambda: dead(300.0), EYE, torch.zeros(12, dtype=torch.long), "ce"),
    "constant": (Constant, EYE, CLASSES, "ce"),
    "one weight of 0": (lambda: OneWeight(0.0), EYE, CLASSES, "ce"),
    "one weight": (lambda: OneWeight(2.0), EYE, CLASSES, "ce"),
    "loss 0 in float32": (lambda: scaled_identity(30.0), EYE, CLASSES, "ce"),
    "loss 0 in float64": (lambda: scaled_identity(2000.0), EYE, CLASSES, "ce"),
    "huge logits": (lambda: scaled_identity(-1e6), EYE, CLASSES, "ce"),
    "one sample": (lambda: net(3, 4, 3), EYE[:1], CLASSES[:1], "ce"),
    "two samples, one ignored": (lambda: net(3, 4, 3), EYE[:2], torch.tensor([IGNORED, 1]), "ce"),
    "exact regression": (lambda: scaled_identity(1.0), EYE, EYE.clone(), "mse"),
    "regression to 0 by 0": (lambda: zeroed(net(3, 4, 3)), EYE, torch.zeros(12, 3), "mse"),
    "inputs of 0": (lambda: net(3, 4, 3), torch.zeros(12, 3), CLASSES, "ce"),
}


@pytest.mark.parametrize(("name", "case", "dtype"), crossed(NAMES, DEGENERATE, FLOATS))
def test_every_measure_answers_or_says_why_not(name: str, case: str, dtype: str):
    make, inputs, targets, loss = DEGENERATE[case]
    if name == "logit-normalised" and loss != "ce":
        pytest.skip("Needs logits.")
    made = Objective.of(make(), inputs, targets, loss=loss, runtime=on_device(dtype))
    plug_in, theta = plugins.load("measures", name), made.parameters()
    for variant in plug_in.VARIANTS:
        options = {key: min(value, len(theta)) if key == "subspace" else value for key, value in variant.items()}
        options |= {"steps": 60, "burn_in": 40} if name == "local-learning-coefficient" else {}
        found: Reading = plug_in.read(made, theta, **options)
        if found.status == "ok":
            assert math.isfinite(found.value)
            assert found.bound != "lower" or found.value > 0
        else:
            assert found.value is None
            assert found.note.endswith(".")


@pytest.mark.parametrize(("subspace", "epsilon", "dtype"), crossed([0, 2], [1e-3, 0.5, 100.0], FLOATS))
def test_a_box_of_any_size_around_a_loss_without_a_gradient(subspace: int, epsilon: float, dtype: str):
    """A first step of so many widths over no slope at all was infinite, and the scaled loss not a number."""
    made = Objective.of(Constant(), EYE, CLASSES, runtime=on_device(dtype))
    found = epsilon_sharpness.measure(made, made.parameters(), epsilon=epsilon, subspace=subspace)
    assert found.status == "failed"
    assert "gradient is 0" in found.note
    assert set(found.iterations) == {0}


def test_rounding_alone_is_no_rise():
    """The logits are one-hot, so normalised they do not depend on the weights that grow or shrink them together."""
    for dtype in FLOATS:
        made = Objective.of(scaled_identity(10.0), EYE, CLASSES, runtime=on_device(dtype))
        found = plugins.load("measures", "logit-normalised").read(made, made.parameters())
        assert found.status == "failed"
        assert found.note


def test_a_gradient_that_is_only_rounding_has_no_noise_scale():
    for dtype in FLOATS:
        made = Objective.of(zeroed(net(3, 5, 3)), EYE, CLASSES, runtime=on_device(dtype))
        found = gradient_noise.read(made, made.parameters())
        assert found.value is None
        assert "rounding" in found.note
        assert found.details["trace_of_covariance"] > 0.1


@pytest.mark.parametrize("shape", [(6, 4), (2, 5, 4), (2, 4, 3)])
def test_precise_terms_are_the_terms_with_their_digits(shape: tuple[int, ...]):
    random = torch.Generator().manual_seed(0)
    classes_last = shape[-1] == 4
    targets = torch.randint(4, shape[:-1] if classes_last else (shape[0], *shape[2:]), generator=random)
    targets.view(-1)[0] = IGNORED
    for name in ("ce", "ce:0.1", "ce-unit-logits", "mse"):
        loss = loss_named(name)
        for scale in (0.1, 1.0, 30.0):
            outputs = scale * torch.randn(shape, generator=random, dtype=torch.float64)
            plain, precise = loss.terms(outputs, targets), loss.precise_terms(outputs, targets)
            assert torch.allclose(plain, precise, rtol=1e-12, atol=1e-12 * scale)
    sure = torch.tensor([[100.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(loss_named("ce").precise_terms(sure, torch.tensor([0]))) == pytest.approx(2 * math.exp(-100), rel=1e-12)
    assert float(loss_named("ce").terms(sure, torch.tensor([0]))) == 0
