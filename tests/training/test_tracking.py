"""Distance and sharpness along a run, held to what can be computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpcli.checkpoints import OptimizerState
from sharpcli.files import ContentError
from sharpcli.objective import Objective
from sharpcli.settings import TrainSettings
from sharpcli.training.batches import Batches
from sharpcli.training.plan import TrainingPlan, make_plan
from sharpcli.training.tracking import DistanceTracker, SharpnessTracker, is_log_spaced
from tests.nets import dense_hessian, images, objective, tanh_mlp


def plan_of(**chosen: object) -> TrainingPlan:
    plain = {"warmup": 0.0, "schedule": "constant", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0, "steps": 10}
    settings = TrainSettings(mode=("fullbatch",), **(plain | chosen))
    return make_plan("fullbatch", settings, len(images()[0]), chunk_size=40, has_batch_norm=False)


def tracker(model: nn.Module, problem: Objective, plan: TrainingPlan) -> SharpnessTracker:
    batches = Batches(problem.num_samples, problem.num_samples, 0)
    inputs, targets = problem.inputs, problem.targets
    return SharpnessTracker.of(model, inputs, targets, loss="ce", plan=plan, runtime=problem.runtime, batches=batches)


def test_twenty_numbers_a_decade_and_every_one_up_to_ten():
    chosen = [update for update in range(1100) if is_log_spaced(update)]
    assert chosen[:13] == [*range(1, 12), 13, 14]
    assert len([update for update in chosen if 100 <= update < 1000]) == 20
    assert 0 not in chosen


def test_the_distance_is_that_from_the_start():
    problem = objective("mlp")
    start = problem.parameters()
    line = DistanceTracker(problem.space, start).measure(3, start + 0.1)
    assert line["step"] == 3
    assert line["distance"] == pytest.approx(0.1 * len(start) ** 0.5, rel=1e-12)
    assert line["relative"] == pytest.approx(line["distance"] / float(start.norm()), rel=1e-12)
    assert line["norm"] == pytest.approx(float((start + 0.1).norm()), rel=1e-12)
    assert DistanceTracker(problem.space, 0 * start).measure(0, start)["relative"] is None


@pytest.mark.parametrize(
    ("chosen", "threshold"),
    [({}, 2 / 0.5), ({"weight_decay": 0.1}, 2 / 0.5 - 0.1), ({"momentum": 0.9, "momentum_rule": "polyak"}, 2 * 1.9 / 0.5)],
)
def test_the_sharpness_is_the_largest_eigenvalue_against_the_largest_stable_one(chosen: dict[str, object], threshold: float):
    torch.manual_seed(0)
    model = tanh_mlp().double()
    problem = Objective.of(model, *images(), runtime=objective("mlp").runtime)
    follow = tracker(model, problem, plan_of(**chosen))
    line = follow.measure(4, problem.parameters())
    wanted = float(torch.linalg.eigvalsh(dense_hessian(problem))[-1])
    assert line["lambda_max"] == pytest.approx(wanted, rel=1e-3)
    assert line["low"] <= wanted <= line["high"]
    assert line["threshold"] == pytest.approx(threshold, rel=1e-12)
    assert line["ratio"] == pytest.approx(line["lambda_max"] / threshold)
    again = follow.measure(5, problem.parameters())
    assert again["products"] < line["products"]  # It starts at the eigenvector found before.


def adaptive(kind: str, decay: float) -> tuple[nn.Module, Objective, torch.optim.Optimizer]:
    """Return a net after three updates of an adaptive optimizer, and its loss."""
    torch.manual_seed(0)
    model = tanh_mlp().double()
    made = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}[kind]
    optimizer = made(model.parameters(), lr=1e-3, weight_decay=decay)
    inputs, targets = images()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model, Objective.of(model, inputs, targets, runtime=objective("mlp").runtime), optimizer


@pytest.mark.parametrize(
    ("kind", "decay", "threshold"),
    [("adam", 0.0, 38e3), ("adam", 0.1, 38e3), ("adamw", 0.1, 38e3 - 1.9), ("rmsprop", 0.0, 3.8e3)],
)
def test_an_adaptive_optimizer_is_held_to_its_own_edge(kind: str, decay: float, threshold: float):
    model, problem, optimizer = adaptive(kind, decay)
    follow = tracker(model, problem, plan_of(optimizer=kind, lr=1e-3, momentum=0.9, weight_decay=decay))
    if kind == "rmsprop":
        for group in optimizer.param_groups:
            group["momentum"] = 0.9
    line = follow.measure(3, problem.parameters(), OptimizerState.of(optimizer, model.named_parameters()))
    moments = "square_avg" if kind == "rmsprop" else "exp_avg_sq"
    nu = torch.cat([optimizer.state[part][moments].flatten() for part in model.parameters()])
    diagonal = nu.sqrt() + 1e-8 if kind == "rmsprop" else (1 - 0.9**3) * ((nu / (1 - 0.999**3)).sqrt() + 1e-8)
    whole = dense_hessian(problem)
    plain, vectors = torch.linalg.eigh(diagonal[:, None] ** -0.5 * whole * diagonal**-0.5)
    found = line["preconditioned"]
    assert found["low"] <= float(plain[-1]) <= found["high"]
    assert found["verdict"] == "certified"
    assert line["lambda_max"] == pytest.approx(float(torch.linalg.eigvalsh(whole)[-1]), rel=1e-3)
    less = decay * float((vectors[:, -1].square() / diagonal).sum()) if kind == "adam" else 0.0
    assert line["threshold"] == pytest.approx(threshold - less, rel=1e-6)
    assert line["ratio"] == pytest.approx(found["lambda_max"] / line["threshold"])
    start = follow.state()["preconditioned_eigenvector"]
    assert abs(float(start[0] @ vectors[:, -1])) == pytest.approx(1, abs=1e-3)


def test_before_its_first_update_an_adaptive_optimizer_has_no_edge():
    torch.manual_seed(0)
    model = tanh_mlp().double()
    problem = Objective.of(model, *images(), runtime=objective("mlp").runtime)
    state = OptimizerState.of(torch.optim.Adam(model.parameters()), model.named_parameters())
    line = tracker(model, problem, plan_of(optimizer="adam", lr=1e-3)).measure(0, problem.parameters(), state)
    assert (line["threshold"], line["ratio"]) == (None, None)
    assert "preconditioned" not in line


def test_only_an_eigenvector_of_these_weights_is_taken_back():
    torch.manual_seed(0)
    model = tanh_mlp().double()
    problem = Objective.of(model, *images(), runtime=objective("mlp").runtime)
    follow = tracker(model, problem, plan_of())
    vector = torch.ones(1, problem.space.dimension, dtype=torch.float64)
    follow.restore(vector, 2 * vector)
    assert torch.equal(follow.state()["eigenvector"], vector.to(problem.runtime.device))
    assert torch.equal(follow.state()["preconditioned_eigenvector"], 2 * vector.to(problem.runtime.device))
    for wrong in (vector[:, 1:], vector.float(), vector[0]):
        with pytest.raises(ContentError, match="'eigenvector'"):
            follow.restore(wrong)
        with pytest.raises(ContentError, match="'preconditioned_eigenvector'"):
            follow.restore(vector, wrong)
    follow.restore(None)
    assert follow.state() == SharpnessTracker.NOTHING == {"eigenvector": None, "preconditioned_eigenvector": None}
