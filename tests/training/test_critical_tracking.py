"""The critical sharpness along a run, held to the loss at the step that it names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpcli.checkpoints import OptimizerState
from sharpcli.objective import Objective
from sharpcli.training.critical_tracking import CriticalTracker
from tests.nets import OnceDifferentiable, images, objective, tanh_mlp
from tests.training.test_tracking import adaptive, plan_of


def plain(lr: float = 0.5) -> tuple[nn.Module, Objective, OptimizerState]:
    """Return a net, its loss, and SGD without momentum before its first update."""
    torch.manual_seed(0)
    model = tanh_mlp().double()
    problem = Objective.of(model, *images(), runtime=objective("mlp").runtime)
    return model, problem, OptimizerState.of(torch.optim.SGD(model.parameters(), lr), model.named_parameters())


def test_the_loss_at_the_critical_step_is_that_at_the_weights():
    _, problem, state = plain()
    theta = problem.parameters()
    line = CriticalTracker(problem, plan_of()).measure(3, theta, state)
    base, slope = problem.loss_and_gradient(theta)
    ends = [problem.loss(theta - 2 / line[key] * slope.to(theta)) for key in ("high", "low")]
    assert ends[0] < base <= ends[1] + 1e-12
    assert line["high"] <= 1.07 * line["low"]
    assert (line["step"], line["lr"]) == (3, 0.5)
    assert line["ratio"] == pytest.approx(0.5 / line["critical_step"])
    assert line["critical"] == pytest.approx(2 / line["critical_step"])
    assert "note" not in line


def test_a_next_search_starts_at_the_step_before_and_takes_few_passes():
    _, problem, state = plain()
    tracker, theta = CriticalTracker(problem, plan_of()), problem.parameters()
    first = tracker.measure(0, theta, state)
    again = tracker.measure(1, theta, state, [first])
    assert again["evaluations"] <= 6
    assert again["critical"] == pytest.approx(first["critical"], rel=0.07)


def test_it_follows_the_update_of_adam():
    """To the next weights of torch's own optimizer the loss falls, if lr is below the critical step, and else it does not."""
    model, problem, optimizer = adaptive("adam", 0.0)
    state = OptimizerState.of(optimizer, model.named_parameters())
    theta = problem.parameters()
    critical = CriticalTracker(problem, plan_of(optimizer="adam", lr=1e-3)).measure(3, theta, state)["critical_step"]
    start = {name: part.detach().clone() for name, part in model.named_parameters()}
    kept = {name: {key: value.clone() for key, value in parts.items()} for name, parts in state.tensors.items()}
    for factor, falls in ((0.9, True), (1.1, False)):
        again = torch.optim.Adam(model.parameters(), lr=factor * critical)
        for name, part in model.named_parameters():
            part.data.copy_(start[name])
            again.state[part].update({key: value.clone() for key, value in kept[name].items()})
        again.zero_grad()
        inputs, targets = images()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        again.step()
        moved = torch.cat([part.detach().flatten() for part in model.parameters()])
        assert (problem.loss(moved) < problem.loss(theta)) is falls


def test_what_is_no_descent_has_a_note():
    _, problem, state = plain()
    uphill = OptimizerState(state.name, {**state.options, "maximize": True})
    line = CriticalTracker(problem, plan_of()).measure(0, problem.parameters(), uphill)
    assert (line["critical"], line["ratio"]) == (None, None)
    assert "downhill" in line["note"]


def test_where_rounding_hides_the_fall_nothing_is_claimed():
    """With inputs of 1e-6 only biases matter; once these are fitted, the fall is below the last digit of a float32 loss."""
    torch.manual_seed(0)
    model, (inputs, targets) = tanh_mlp(), images()
    small = Objective.of(model, 1e-6 * inputs.float(), targets, runtime=objective("mlp", dtype="float32").runtime)
    state = OptimizerState.of(torch.optim.SGD(model.parameters(), 2.0), model.named_parameters())
    theta = small.parameters()
    tracker = CriticalTracker(small, plan_of(lr=2.0))
    assert tracker.measure(0, theta, state)["critical"]
    for _ in range(400):
        theta = theta - 2.0 * small.gradient(theta).to(theta)
    line = tracker.measure(400, theta, state)
    assert line["critical"] is None
    assert line["note"]


def test_it_needs_no_second_derivative():
    torch.manual_seed(0)
    model = OnceDifferentiable().double()
    problem = Objective.of(model, *images(), runtime=objective("mlp").runtime)
    state = OptimizerState.of(torch.optim.SGD(model.parameters(), 0.1), model.named_parameters())
    assert CriticalTracker(problem, plan_of()).measure(0, problem.parameters(), state)["critical"] > 0
