"""The critical step on functions whose crossing is known, and the next update of torch's own optimizers."""

from __future__ import annotations

import math

import numpy
import pytest
import torch

from sharpcli.checkpoints import OptimizerState
from sharpcli.curvature.critical import critical_step
from sharpcli.curvature.next_update import next_update
from sharpcli.errors import InputError
from tests.curvature.test_preconditioner import OPTIMIZERS, Made, flat, named_parameters, space_of, stepped


@pytest.mark.parametrize("start", [1e-9, 1e-3, 1.0, 2.0, 1e6])
@pytest.mark.parametrize("tolerance", [0.0625, 1e-6])
def test_the_crossing_of_a_parabola(start: float, tolerance: float):
    """-3 η + ½ 1.5 η² crosses 0 at η = 4, so λ_c is 0.5, which is the curvature over the slope."""
    found = critical_step(lambda step: 7 - 3 * step + 0.75 * step**2, 7.0, start, tolerance)
    assert found.lower < 4 <= found.upper <= (1 + tolerance) * found.lower
    assert found.sharpness == pytest.approx(0.5, rel=tolerance)
    assert found.evaluations <= 2 + abs(math.log2(4 / start)) + math.log2(1 / tolerance)


def test_six_evaluations_from_a_good_start():
    assert critical_step(lambda step: -step + step**2 / 2, 0.0, 1.9, 0.0625).evaluations <= 6


def test_a_loss_that_is_not_finite_is_not_below():
    found = critical_step(lambda step: -step if step < 3 else math.nan, 0.0, 1.0, 1e-3)
    assert found.middle == pytest.approx(3, rel=1e-3)


def test_a_line_is_never_crossed():
    falling = critical_step(lambda step: -step, 0.0, 1.0, 0.1)
    assert (falling.is_found, falling.upper) == (False, math.inf)
    rising = critical_step(lambda step: step, 0.0, 1.0, 0.1)
    assert (rising.is_found, rising.lower) == (False, 0)
    assert falling.evaluations == rising.evaluations < 70


KINDS: dict[str, Made] = {
    **OPTIMIZERS,
    "sgd": lambda p: torch.optim.SGD(p, lr=0.02),
    "sgd with Nesterov's momentum and a penalty": lambda p: torch.optim.SGD(
        p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "sgd with dampening": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, dampening=0.5),
    "adam with a penalty": lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 5])
def test_the_next_update_is_the_one_that_torch_takes(kind: str, count: int):
    named = named_parameters()
    optimizer, space = KINDS[kind]([part for _, part in named]), space_of(named)
    if count:
        stepped(optimizer, named, count)
    before, state = flat(named), OptimizerState.from_content(OptimizerState.of(optimizer, named).content())
    gradient = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    made = next_update(state, before, gradient, space, "a.pt", space.names)
    for (_, part), slope in zip(named, space.split(gradient).values(), strict=True):
        part.grad = slope.clone()
    optimizer.step()
    torch.testing.assert_close(before - 0.02 * made, flat(named), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "does not hold the state"),
        (OptimizerState("lion", {"lr": 0.1}), "not one whose update is known"),
        (OptimizerState("adam", {"lr": 0.1, "betas": [0.9]}), "torch cannot take a step"),
        (OptimizerState("adam", {"lr": 0.1}, unnamed=True), "several groups"),
        (OptimizerState("sgd", {}, ("lr",)), "'lr' of the optimizer"),
        (OptimizerState("adam", {"lr": 0.1}, (), {"w5": {"exp_avg": torch.ones(5)}}), "torch cannot take a step"),
    ],
)
def test_an_update_that_is_not_known_is_refused(state: OptimizerState | None, words: str):
    named = named_parameters()
    space = space_of(named)
    with pytest.raises(InputError, match=words) as refused:
        next_update(state, flat(named), flat(named), space, "a.pt", space.names)
    assert "direction=gradient" in refused.value.hint or "named_parameters" in refused.value.hint


def test_a_run_that_stops_at_its_edge_is_at_its_critical_step():
    """On a quadratic along its top eigenvector, λ_c is λmax and η_c is 2/λmax: descent neither falls nor rises."""
    random = numpy.random.default_rng(1)
    root = torch.from_numpy(random.normal(size=(5, 5)))
    matrix = root @ root.T
    values, vectors = torch.linalg.eigh(matrix)
    theta = vectors[:, -1]

    def loss(step: float) -> float:
        moved: torch.Tensor = theta - step * (matrix @ theta)
        return float(moved @ matrix @ moved) / 2

    found = critical_step(loss, loss(0), 1.0, 1e-9)
    assert found.sharpness == pytest.approx(float(values[-1]), rel=1e-8)
