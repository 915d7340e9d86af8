"""Distance and sharpness along a run, held to what can be computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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


def test_adam_has_no_such_bound():
    torch.manual_seed(0)
    model = tanh_mlp().double()
    problem = Objective.of(model, *images(), runtime=objective("mlp").runtime)
    line = tracker(model, problem, plan_of(optimizer="adam", lr=1e-3)).measure(0, problem.parameters())
    assert (line["threshold"], line["ratio"]) == (None, None)


def test_only_an_eigenvector_of_these_weights_is_taken_back():
    torch.manual_seed(0)
    model = tanh_mlp().double()
    problem = Objective.of(model, *images(), runtime=objective("mlp").runtime)
    follow = tracker(model, problem, plan_of())
    vector = torch.ones(1, problem.space.dimension, dtype=torch.float64)
    follow.restore(vector)
    assert torch.equal(follow.state(), vector.to(problem.runtime.device))
    for wrong in (vector[:, 1:], vector.float(), vector[0]):
        with pytest.raises(ContentError, match="eigenvector"):
            follow.restore(wrong)
    follow.restore(None)
    assert follow.state() is None
