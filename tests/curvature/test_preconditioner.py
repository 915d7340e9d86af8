"""P and the edge of stability of adaptive optimizers, held to the steps that torch takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from sharpcli.checkpoints import OptimizerState
from sharpcli.curvature.preconditioner import Preconditioner, preconditioner_of
from sharpcli.curvature.stability import edge_of_averaged, edge_of_momentum, largest_stable
from sharpcli.errors import InputError
from sharpcli.parameters import ParameterSpace
from tests.lanes import thinned

SIZES = (5, 3)
Made = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Made] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-3),
    "adam with amsgrad": lambda p: torch.optim.Adam(p, lr=0.02, amsgrad=True, betas=(0.9, 0.9)),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.3),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.02, eps=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.02, eps=1e-2),
    "rmsprop with momentum": lambda p: torch.optim.RMSprop(p, lr=0.02, momentum=0.7),
    "rmsprop, centred": lambda p: torch.optim.RMSprop(p, lr=0.02, centered=True, eps=1e-3),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.02, lr_decay=0.1, eps=1e-3),
}


def named_parameters() -> list[tuple[str, nn.Parameter]]:
    random = torch.Generator().manual_seed(0)
    return [(f"w{size}", nn.Parameter(torch.randn(size, generator=random, dtype=torch.float64))) for size in SIZES]


def space_of(named: list[tuple[str, nn.Parameter]]) -> ParameterSpace:
    return ParameterSpace(tuple(name for name, _ in named), tuple(part.shape for _, part in named))


def found(optimizer: torch.optim.Optimizer, named: list[tuple[str, nn.Parameter]]) -> Preconditioner:
    space = space_of(named)
    return preconditioner_of(OptimizerState.of(optimizer, named), space, "the run", space.names)


def flat(named: list[tuple[str, nn.Parameter]]) -> Tensor:
    return torch.cat([part.detach().flatten() for _, part in named])


def stepped(optimizer: torch.optim.Optimizer, named: list[tuple[str, nn.Parameter]], count: int) -> Tensor:
    """Take steps with random gradients, and return the last gradient."""
    random = torch.Generator().manual_seed(count)
    for _ in range(count):
        for _, part in named:
            part.grad = torch.randn(part.shape, generator=random, dtype=torch.float64) * torch.arange(1.0, 1 + part.numel())
        optimizer.step()
    return torch.cat([part.grad.flatten() for _, part in named])


def kept(optimizer: torch.optim.Optimizer, name: str) -> Tensor:
    return torch.cat([parts[name].flatten() for parts in optimizer.state.values()])


def numerator(kind: str, optimizer: torch.optim.Optimizer, gradient: Tensor, before: Tensor) -> Tensor:
    """Return what torch's last step would be with P = 1, from the formulas of its documentation."""
    options, step = optimizer.param_groups[0], float(kept(optimizer, "step")[0])
    if kind.startswith("adam"):
        return -options["lr"] * kept(optimizer, "exp_avg")
    if kind == "nadam":
        now, later = (options["betas"][0] * (1 - 0.5 * 0.96 ** (t * options["momentum_decay"])) for t in (step, step + 1))
        product = float(kept(optimizer, "mu_product")[0])
        direct = (1 - now) / (1 - product) * gradient
        return -options["lr"] * (direct + later / (1 - product * later) * kept(optimizer, "exp_avg"))
    if kind == "adagrad":
        return -options["lr"] / (1 + (step - 1) * options["lr_decay"]) * gradient
    return -options["lr"] * gradient


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("count", [1, 4, 30])
def test_torch_divides_its_last_step_by_this_p(kind: str, count: int):
    named = named_parameters()
    optimizer = OPTIMIZERS[kind]([part for _, part in named])
    if count > 1:
        stepped(optimizer, named, count - 1)
    before, buffer = flat(named), kept(optimizer, "momentum_buffer") if "momentum" in kind and count > 1 else 0.0
    gradient = stepped(optimizer, named, 1)
    made = found(optimizer, named)
    step = flat(named) - before
    if kind == "adamw":
        step += 0.02 * 0.3 * before
    if "momentum" in kind:
        step += 0.02 * 0.7 * buffer
    torch.testing.assert_close(step * made.diagonal(space_of(named)), numerator(kind, optimizer, gradient, before))
    assert made.step == count
    torch.testing.assert_close(made.scale(space_of(named)), made.diagonal(space_of(named)) ** -0.5)


FROZEN: dict[str, Made] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1.0, betas=(0.9, 1 - 1e-12)),
    "adam, β1 = 0.5": lambda p: torch.optim.Adam(p, lr=1.0, betas=(0.5, 1 - 1e-12)),
    "adam without momentum": lambda p: torch.optim.Adam(p, lr=1.0, betas=(0.0, 1 - 1e-12)),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1.0, betas=(0.9, 1 - 1e-12), weight_decay=0.4),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1.0, betas=(0.9, 1 - 1e-12)),
    "nadam with decay": lambda p: torch.optim.NAdam(
        p, lr=1.0, betas=(0.6, 1 - 1e-12), weight_decay=0.3, decoupled_weight_decay=True
    ),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1.0, alpha=1 - 1e-12),
    "rmsprop with momentum": lambda p: torch.optim.RMSprop(p, lr=1.0, alpha=1 - 1e-12, momentum=0.8),
    "adam with a penalty": lambda p: torch.optim.Adam(p, lr=1.0, betas=(0.9, 1 - 1e-12), weight_decay=0.5),
}


def descend(make: Made, ratio: float, steps: int = 400) -> tuple[float, float]:
    """Let torch descend on a quadratic with fixed second moments, at a rate for which λmax is `ratio` times the threshold.

    Returns:
        The distances from the minimum at the start and at the end.
    """
    random = numpy.random.default_rng(3)
    root = random.normal(size=(6, 6))
    matrix, moments = torch.from_numpy(root @ root.T), torch.from_numpy(10.0 ** random.uniform(-4, 0, 6))
    weight = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = make([weight])
    weight.grad = torch.zeros(6, dtype=torch.float64)
    optimizer.step()
    weight.data = torch.from_numpy(random.normal(size=6)) * 1e-3
    state, key = optimizer.state[weight], "square_avg" if "square_avg" in optimizer.state[weight] else "exp_avg_sq"
    state["step"].fill_(10**5)  # The bias of averages is over; ν / (1 - β2^t) is the fixed value.
    late = 1 - (1 - 1e-12) ** 1e5 if key == "exp_avg_sq" else 1.0
    if "mu_product" in state:
        state["mu_product"].fill_(0.0)
    fixed = {"step": state["step"].clone(), key: moments * late}
    state[key].copy_(fixed[key])
    made = found(optimizer, [("w", weight)])
    scale = made.scale(space_of([("w", weight)]))
    whole = matrix + made.weight_decay * torch.eye(6, dtype=torch.float64)
    top = float(torch.linalg.eigvalsh(scale[:, None] * whole * scale)[-1])
    optimizer.param_groups[0]["lr"] = made.edge.coefficient / (top / ratio + made.edge.offset)
    assert made.edge.at(optimizer.param_groups[0]["lr"]) * ratio == pytest.approx(top)
    before = float(weight.detach().norm())
    for _ in range(steps):
        weight.grad = matrix @ weight.detach()
        for name, value in fixed.items():
            state[name].copy_(value)
        optimizer.step()
    return before, float(weight.detach().norm())


@pytest.mark.parametrize("kind", FROZEN)
def test_torch_diverges_just_above_the_edge_and_converges_just_below(kind: str):
    before, below = descend(FROZEN[kind], 0.98)
    assert below < before
    _, above = descend(FROZEN[kind], 1.02, steps=400)
    assert above > 10 * before


@pytest.mark.parametrize("beta", thinned([0.9, 0.0, 0.5, 0.99]))
def test_the_edge_of_adam_is_38_over_the_rate_for_its_default(beta: float):
    assert edge_of_averaged(beta).at(1e-3) == pytest.approx((2 + 2 * beta) / ((1 - beta) * 1e-3))
    assert edge_of_averaged(0.9).at(0.01) == pytest.approx(3800)
    assert edge_of_averaged(0.0).at(0.1) == edge_of_momentum().at(0.1) == largest_stable(0.1)
    # A gradient that also counts directly is Nesterov's momentum.
    nesterov = edge_of_averaged(beta, direct=1 - beta, averaged=beta)
    assert nesterov.at(0.1 / (1 - beta)) == pytest.approx(largest_stable(0.1, beta))


@pytest.mark.parametrize("seed", range(5))
def test_the_edge_is_where_a_mode_leaves_the_unit_circle(seed: int):
    """By the eigenvalues of the map (θ, m) -> (θ, m), for random coefficients."""
    random = numpy.random.default_rng(seed)
    beta, direct, averaged, decay, rate = *random.uniform(0, 0.95, 2), random.uniform(0.2, 1), *random.uniform(0.01, 0.5, 2)
    edge = edge_of_averaged(beta, direct=direct, averaged=averaged, decay=decay).at(rate)

    def radius(curvature: float) -> float:
        keep = numpy.array([(1 - beta) * curvature, beta])
        move = numpy.array([1 - rate * decay - rate * direct * curvature, 0]) - rate * averaged * keep
        return float(numpy.abs(numpy.linalg.eigvals(numpy.stack([move, keep]))).max())

    assert radius(0.999 * edge) < 1
    assert radius(1.001 * edge) > 1
    assert radius(edge) == pytest.approx(1, abs=1e-9)


def test_a_penalty_adds_its_quadratic_form():
    named = named_parameters()
    optimizer = torch.optim.Adam([part for _, part in named], weight_decay=0.25)
    stepped(optimizer, named, 3)
    made, space = found(optimizer, named), space_of(named)
    vector = torch.randn(8, dtype=torch.float64)
    wanted = 0.25 * float(vector @ torch.diag(1 / made.diagonal(space)) @ vector)
    assert made.decay_along(vector, space) == pytest.approx(wanted)
    plain = torch.optim.AdamW([part for _, part in named], weight_decay=0.25)
    stepped(plain, named, 3)
    assert found(plain, named).decay_along(vector, space) == 0


def test_a_parameter_that_was_never_moved_is_not_scaled_at_all():
    named = named_parameters()
    optimizer = torch.optim.Adam([named[0][1]])
    stepped(optimizer, named[:1], 2)
    made, space = found(optimizer, named), space_of(named)
    assert made.unmoved(space) == ["w3"]
    assert made.scale(space)[5:].tolist() == [0, 0, 0]
    assert bool((made.scale(space)[:5] > 0).all())


def foreign(change: Callable[[OptimizerState], Any], make: Made = OPTIMIZERS["adam"]) -> OptimizerState:
    named = named_parameters()
    optimizer = make([part for _, part in named])
    stepped(optimizer, named, 2)
    state = copy.deepcopy(OptimizerState.of(optimizer, named))
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.tensors.clear(), "does not hold the state of an optimizer"),
        (lambda s: s.options.pop("lr"), "'lr'"),
        (lambda s: s.options.update(betas=[0.9]), "'betas'"),
        (lambda s: s.options.update(betas=[0.9, 1.5]), "'betas'"),
        (lambda s: s.options.update(eps="small"), "'eps'"),
        (lambda s: s.tensors["w5"].pop("exp_avg_sq"), "no second moments of 'w5'"),
        (lambda s: s.tensors["w5"].update(exp_avg_sq=torch.ones(4)), "has the shape"),
        (lambda s: s.tensors["w5"].update(exp_avg_sq=torch.full((5,), torch.nan)), "not finite"),
        (lambda s: s.tensors["w5"].update(exp_avg_sq=-torch.ones(5)), "not finite"),
        (lambda s: s.tensors["w5"].update(exp_avg_sq=torch.ones(5, dtype=torch.complex64)), "complex"),
        (lambda s: s.tensors["w5"].update(step=torch.tensor(0.0)), "not finite"),
    ],
)
def test_a_state_that_gives_no_p_is_refused(change: Callable[[OptimizerState], Any], words: str):
    space = space_of(named_parameters())
    with pytest.raises(InputError, match=words) as refused:
        preconditioner_of(foreign(change), space, "a.pt", space.names)
    assert refused.value.hint


def test_eps_of_0_and_a_weight_without_gradient_give_no_p():
    space = space_of(named_parameters())
    state = foreign(lambda s: (s.options.update(eps=0.0), s.tensors["w5"].update(exp_avg_sq=torch.zeros(5))))
    with pytest.raises(InputError, match="greater than 0") as refused:
        preconditioner_of(state, space, "a.pt", space.names)
    assert "eps is 0" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "words"), [("sgd", "SGD, which has no second moments"), ("lion", "lion, is not one"), ("", "is not one whose")]
)
def test_other_optimizers_are_refused_by_name(name: str, words: str):
    state, space = foreign(lambda s: None), space_of(named_parameters())
    with pytest.raises(InputError, match=words):
        preconditioner_of(OptimizerState(name, state.options, (), state.tensors), space, "a.pt", space.names)


def test_decay_that_may_be_of_either_kind_is_left_out_and_told():
    """Files of earlier torch do not say whether the optimizer was Adam or AdamW."""
    space = space_of(named_parameters())
    state = foreign(lambda s: (s.options.pop("decoupled_weight_decay"), s.options.update(weight_decay=0.1)))
    made = preconditioner_of(state, space, "a.pt", space.names)
    assert (made.uncertain_decay, made.weight_decay, made.edge.offset) == (True, 0, 0)
    plain = preconditioner_of(foreign(lambda s: s.options.pop("decoupled_weight_decay")), space, "a.pt", space.names)
    assert not plain.uncertain_decay
