"""One update: which samples, which divisor, which optimizer; the methods of training are in test_methods.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli.errors import SettingsError
from sharpcli.losses import loss_named
from sharpcli.settings import TrainSettings
from sharpcli.training.plan import TrainingPlan, make_plan
from sharpcli.training.update import Updater

N, CLASSES = 20, 4
PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant", "lr": 0.1, "steps": 50}


def plan_of(mode: str = "sgd", **chosen: Any) -> TrainingPlan:
    return make_plan(mode, TrainSettings(mode=(mode,), **{**PLAIN, **chosen}), N, chunk_size=7, has_batch_norm=False)


def problem(ignored: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(N, 6, generator=random, dtype=torch.float64)
    targets = torch.randint(CLASSES, (N,), generator=random)
    targets[:ignored] = -100
    torch.manual_seed(0)
    return nn.Linear(6, CLASSES).double(), inputs, targets


def made(mode: str = "sgd", ignored: int = 0, **chosen: Any) -> Updater:
    return Updater(*problem(ignored), loss_named("ce"), plan_of(mode, **chosen), 0)


def slope(run: Updater) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in run.parameters])


def mean_gradient(run: Updater, chosen: Tensor) -> Tensor:
    loss = functional.cross_entropy(run.model(run.inputs[chosen]), run.targets[chosen])
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, run.parameters)])


@pytest.mark.parametrize("ignored", [0, 5])
@pytest.mark.parametrize("mode", ["sgd", "fullbatch"])
def test_the_gradient_is_the_mean_over_the_terms_that_count(mode: str, ignored: int):
    run = made(mode, ignored, **({"batch_size": 11} if mode == "sgd" else {}))
    for update in range(4):
        loss = run.gradient(update)
        chosen = torch.arange(N) if mode == "fullbatch" else run.batches.indices(update)
        torch.testing.assert_close(slope(run), mean_gradient(run, chosen), rtol=1e-12, atol=1e-14)
        wanted = functional.cross_entropy(run.model(run.inputs[chosen]), run.targets[chosen])
        assert loss == pytest.approx(float(wanted.detach()), rel=1e-12)


@pytest.mark.parametrize("chosen", [{"mode": "fullbatch"}, {"batch_size": 6}, {"batch_size": 6, "chunk_size": 4}])
def test_with_class_weights_the_mean_of_a_batch_is_that_of_torch(chosen: dict[str, Any]):
    weight, mode = torch.tensor([3.0, 0.5, 1, 0], dtype=torch.float64), str(chosen.get("mode", "sgd"))
    settings = {name: value for name, value in chosen.items() if name != "mode"}
    run = Updater(*problem(), loss_named("ce:weight=3/0.5/1/0"), plan_of(mode, **settings), 0)
    for update in range(4):
        loss = run.gradient(update)
        indices = torch.arange(N) if mode == "fullbatch" else run.batches.indices(update)
        wanted = functional.cross_entropy(run.model(run.inputs[indices]), run.targets[indices], weight=weight)
        slopes = torch.cat([part.flatten() for part in torch.autograd.grad(wanted, run.parameters)])
        torch.testing.assert_close(slope(run), slopes, rtol=1e-12, atol=1e-14)
        assert loss == pytest.approx(float(wanted.detach()), rel=1e-12)


def test_an_update_depends_on_its_number_alone():
    one, other = made(batch_size=5), made(batch_size=5)
    for update in (3, 0, 3):
        one.gradient(update)
    other.gradient(3)
    assert torch.equal(slope(one), slope(other))


def test_the_step_takes_the_learning_rate_of_its_number():
    run = made(schedule="linear", batch_size=5)
    for update in (0, 25, 49):
        before = torch.cat([part.detach().flatten() for part in run.parameters])
        run.gradient(update)
        run.step(update)
        after = torch.cat([part.detach().flatten() for part in run.parameters])
        torch.testing.assert_close(before - after, run.plan.learning_rate(update) * slope(run), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("rule", "nesterov"), [("nesterov", True), ("polyak", False)])
def test_the_optimizer_is_that_of_the_plan(rule: str, nesterov: bool):
    sgd = made(momentum=0.9, momentum_rule=rule, weight_decay=0.01).optimizer
    assert isinstance(sgd, torch.optim.SGD)
    (group,) = sgd.param_groups
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, nesterov, 0.01)
    adam = made(optimizer="adam", momentum=0.8).optimizer
    assert isinstance(adam, torch.optim.Adam)
    assert adam.param_groups[0]["betas"] == (0.8, 0.999)
    decoupled = made(optimizer="adamw", momentum=0.8, weight_decay=0.1).optimizer
    assert isinstance(decoupled, torch.optim.AdamW)
    assert (decoupled.param_groups[0]["betas"], decoupled.param_groups[0]["weight_decay"]) == ((0.8, 0.999), 0.1)
    rms = made(optimizer="rmsprop", momentum=0.8).optimizer
    assert isinstance(rms, torch.optim.RMSprop)
    assert rms.param_groups[0]["momentum"] == 0.8


def test_the_loss_of_a_full_batch_is_the_training_loss_unless_something_changes_it():
    assert made("fullbatch").loss_is_exact
    assert not made(batch_size=5).loss_is_exact
    assert not made("fullbatch", label_smoothing=0.1).loss_is_exact
    dropping = made("fullbatch")
    dropping.model = nn.Sequential(dropping.model, nn.Dropout(0.5))
    assert not dropping.loss_is_exact


def test_the_length_of_the_gradient_is_that_before_clipping():
    free, clipped = made(batch_size=5), made(batch_size=5, clip=1e-3)
    for run in (free, clipped):
        run.gradient(0)
    assert clipped.gradient_norm == pytest.approx(free.gradient_norm, rel=1e-12)
    assert free.gradient_norm == pytest.approx(float(slope(free).norm()), rel=1e-12)
    assert float(slope(clipped).norm()) == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize(
    ("chosen", "inputs", "word"),
    [
        ({"augment": ("flip",)}, torch.ones(2, 5), "augment flip is for images"),
        ({"augment": ("flip",)}, torch.ones(2, 1, 4, 4).long(), "augment flip is for images"),
        ({"adversarial": 0.1}, torch.ones(2, 5).long(), "these are tokens"),
    ],
)
def test_methods_that_cannot_work_on_the_inputs_are_refused(chosen: dict[str, Any], inputs: Tensor, word: str):
    with pytest.raises(SettingsError, match=word):
        Updater.check(plan_of(**chosen), inputs)
    Updater.check(plan_of(**chosen), torch.ones(2, 1, 4, 4))
