"""Every method of training against its definition, written out slowly in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli.batchnorm import block_sizes
from sharpcli.losses import LOSSES, loss_named, smoothed
from sharpcli.settings import TrainSettings
from sharpcli.training.methods import gradient_penalty
from sharpcli.training.methods.averaging import averages_of
from sharpcli.training.methods.noise import example_weights
from sharpcli.training.plan import TrainingPlan, make_plan
from sharpcli.training.update import Updater
from tests.nets import NUM_SAMPLES, images, tanh_mlp

N = NUM_SAMPLES


def net(*, batch_norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    if not batch_norm:
        return tanh_mlp().double()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4)).double()


def updater(model: nn.Module, mode: str = "fullbatch", *, seed: int = 0, **chosen: object) -> Updater:
    plain = {"momentum": 0.0, "weight_decay": 0.0, "clip": 0.0, "warmup": 0.0, "schedule": "constant", "lr": 0.3, "steps": 100}
    settings = TrainSettings(mode=(mode,), **(plain | chosen))
    has_norm = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules())
    plan = make_plan(mode, settings, N, chunk_size=N, has_batch_norm=has_norm)
    return made(model, plan, seed)


def made(model: nn.Module, plan: TrainingPlan, seed: int = 0) -> Updater:
    inputs, targets = images()
    return Updater(model, inputs, targets, loss_named(smoothed("ce", plan.label_smoothing)), plan, seed)


def slopes(model: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.contiguous().flatten() for parameter in model.parameters()])


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def gradient_at(model: nn.Module, inputs: Tensor, targets: Tensor, *, create_graph: bool = False) -> list[Tensor]:
    loss = functional.cross_entropy(model(inputs), targets)
    return list(torch.autograd.grad(loss, list(model.parameters()), create_graph=create_graph))


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def penalised_twin(model: nn.Module, block: int, rate: float, strength: float) -> Tensor:
    """The gradient of f + (lr β / 8) Σ_B (n_B / N) |∇L_B|², by double backward."""
    inputs, targets = images()
    total = torch.zeros((), dtype=torch.float64)
    for some, wanted in zip(inputs.split(block_sizes(N, block)), targets.split(block_sizes(N, block)), strict=True):
        share = len(some) / N
        penalty = flat(gradient_at(model, some, wanted, create_graph=True)).square().sum()
        total = total + share * (functional.cross_entropy(model(some), wanted) + rate * strength / 8 * penalty)
    return flat(list(torch.autograd.grad(total, list(model.parameters()))))


@pytest.mark.parametrize(("step", "error"), [(1e-6, 1e-5), (gradient_penalty._STEP, 0.05)])
def test_the_gradient_penalty_is_that_of_double_backward(step: float, error: float, monkeypatch: pytest.MonkeyPatch):
    """The published step of 0.01 costs a few per cent of the penalty's own part; a shorter one shows the formula is exact."""
    monkeypatch.setattr(gradient_penalty, "_STEP", step)
    model = net()
    before = weights(model)
    made_up = updater(model, ghost_bn=20, grad_penalty=40.0)
    made_up.batches.in_blocks = False  # The twin takes blocks in order.
    made_up.gradient(0)
    found, wanted = slopes(model), penalised_twin(model, 20, 0.3, 40.0)
    plain = flat(gradient_at(model, *images()))
    assert float((wanted - plain).norm() / plain.norm()) > 0.1  # The penalty is not lost in the loss.
    assert float((found - wanted).norm() / (wanted - plain).norm()) < error
    assert torch.equal(weights(model), before)


def test_the_penalty_of_a_net_with_dropout_is_that_of_the_units_it_kept():
    """Two passes with other units dropped would differ by the size of the gradient, and that is divided by the step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4)).double()
    run = updater(model, grad_penalty=0.5)
    run.batches.in_blocks = False  # The twin takes the samples in order.
    torch.manual_seed(7)
    run.gradient(0)
    found, after = slopes(model), torch.rand(1)
    torch.manual_seed(7)
    model.train()
    inputs, targets = images()
    g = gradient_at(model, inputs, targets, create_graph=True)
    assert torch.equal(torch.rand(1), after)  # As if there had been one pass.
    penalty = torch.autograd.grad(sum((part * part.detach()).sum() for part in g), list(model.parameters()))
    wanted = 0.3 / 4 * 0.5 * flat(list(penalty))
    assert float((found - flat([part.detach() for part in g]) - wanted).norm() / wanted.norm()) < 0.05


class Einsum(nn.Module):
    """Its gradient comes transposed in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 4) / 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.einsum("bd,dc->bc", inputs.flatten(1), self.weight)


class Permuted(nn.Module):
    """Norms over the last axis between convolutions, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 6, 3), nn.LayerNorm(6), nn.Conv2d(6, 4, 2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.norm(self.first(inputs).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).mean((2, 3))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("build", [Einsum, Permuted])
@pytest.mark.parametrize("chunk", [None, 40])
def test_a_step_moves_each_weight_by_its_own_slope_however_it_lies_in_memory(build, optimizer: str, chunk: int | None):
    """Fused optimizers walk memory without a look at strides."""
    torch.manual_seed(0)
    model = build().double()
    twin = copy.deepcopy(model)
    momentum = 0.9 if optimizer == "adam" else 0.0
    run = updater(model, optimizer=optimizer, lr=0.1, chunk_size=chunk, momentum=momentum)
    make = torch.optim.SGD(twin.parameters(), lr=0.1)
    if optimizer == "adam":
        make = torch.optim.Adam(twin.parameters(), lr=0.1, betas=(0.9, 0.999), fused=False, foreach=False)
    inputs, targets = images()
    for update in range(3):
        run.gradient(update)
        run.step(update)
        make.zero_grad()
        functional.cross_entropy(twin(inputs), targets).backward()
        make.step()
    torch.testing.assert_close(weights(model), weights(twin), rtol=1e-9, atol=1e-12)


def test_the_penalty_fades_with_the_learning_rate():
    model, found = net(), []
    plan = updater(model, grad_penalty=40.0).plan
    for changed in ({"grad_penalty": 0.0}, {}, {"lr": plan.lr / 2}):
        made(model, replace(plan, **changed)).gradient(0)
        found.append(slopes(model))
    torch.testing.assert_close(found[2] - found[0], (found[1] - found[0]) / 2, rtol=1e-9, atol=1e-14)


def test_ghost_batch_norm_is_batch_norm_on_the_chunks_one_after_the_other():
    """Gradients are averaged, and the running statistics move once a chunk (Hoffer 2017): mu ← (1-η) mu + η mu_i."""
    ghost, by_hand = net(batch_norm=True), net(batch_norm=True)
    run = updater(ghost, "sgd", batch_size=40, ghost_bn=8)
    run.gradient(0)
    chosen = run.batches.indices(0)
    inputs, targets = (part[chosen] for part in images())
    mean, running = torch.zeros(6, dtype=torch.float64), []
    by_hand.train()
    total = None
    for some, wanted in zip(inputs.split(8), targets.split(8), strict=True):
        running.append(by_hand[1](some.flatten(1)).detach().mean(0))
        parts = gradient_at(by_hand, some, wanted)
        total = parts if total is None else [old + new for old, new in zip(total, parts, strict=True)]
    torch.testing.assert_close(slopes(ghost), flat(total) / 5, rtol=1e-10, atol=1e-13)
    for chunk_mean in running:
        mean = 0.9 * mean + 0.1 * chunk_mean
    torch.testing.assert_close(ghost[2].running_mean, mean, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(ghost[2].running_var, by_hand[2].running_var, rtol=1e-10, atol=1e-13)


def test_clipping_comes_before_weight_decay_and_momentum():
    model = net()
    run = updater(model, clip=0.01, weight_decay=0.1, momentum=0.9, momentum_rule="polyak")
    theta, velocity = weights(model), torch.zeros(())
    for update in range(3):
        slope = flat(gradient_at(copy.deepcopy(model), *images()))
        assert float(slope.norm()) > 0.01
        run.gradient(update)
        assert run.gradient_norm == pytest.approx(float(slope.norm()), rel=1e-9)
        run.step(update)
        velocity = 0.9 * velocity + slope * 0.01 / slope.norm() + 0.1 * theta
        theta = theta - 0.3 * velocity
        torch.testing.assert_close(weights(model), theta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("adaptive", [False, True])
def test_sharpness_aware_minimization_is_its_definition(adaptive: bool):
    model = net()
    before = weights(model)
    updater(model, **{"asam" if adaptive else "sam": 0.5}).gradient(0)
    twin = net()
    slope = flat(gradient_at(twin, *images()))
    size = before.abs() if adaptive else torch.ones_like(before)
    offset = 0.5 * size**2 * slope / (size * slope).norm()
    nn.utils.vector_to_parameters(before + offset, twin.parameters())
    torch.testing.assert_close(slopes(model), flat(gradient_at(twin, *images())), rtol=1e-9, atol=1e-12)
    assert torch.equal(weights(model), before)


def test_asam_does_not_change_when_layers_are_rescaled():
    """Two layers of a net that is positively homogeneous between them: the ascent moves with the scale."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False)).double()
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled[1].weight.mul_(4)
        scaled[3].weight.div_(4)
    for net_ in (model, scaled):
        updater(net_, asam=1.0).gradient(0)
    torch.testing.assert_close(model[1].weight.grad, scaled[1].weight.grad * 4, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [{"sam": 0.3}, {"grad_penalty": 2.0}, {"adversarial": 0.1}])
def test_running_statistics_see_only_the_first_pass(method: dict[str, float]):
    plain, other = net(batch_norm=True), net(batch_norm=True)
    updater(plain, ghost_bn=10).gradient(0)
    updater(other, ghost_bn=10, **method).gradient(0)
    counts = [model[2].num_batches_tracked for model in (plain, other)]
    assert counts[0] == counts[1] == len(block_sizes(N, 10))
    if "adversarial" not in method:  # There the pass that counts is that of other inputs.
        torch.testing.assert_close(plain[2].running_mean, other[2].running_mean, rtol=0, atol=0)
        torch.testing.assert_close(plain[2].running_var, other[2].running_var, rtol=0, atol=0)


def test_adversarial_inputs_are_moved_along_the_sign_of_their_gradient():
    model, (inputs, targets) = net(), images()
    loss = updater(model, adversarial=0.2).gradient(0)
    leaf = inputs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(functional.cross_entropy(model(leaf), targets, reduction="sum"), leaf)
    moved = inputs + 0.2 * slope.sign()
    assert loss == pytest.approx(float(functional.cross_entropy(model(moved), targets).detach()), rel=1e-12)
    torch.testing.assert_close(slopes(model), flat(gradient_at(model, moved, targets)), rtol=1e-10, atol=1e-13)


def test_a_proximal_update_is_a_few_steps_on_the_held_back_loss():
    model, twin = net(), net()
    run = updater(model, optimizer="adam", momentum=0.9, lr=0.01, proximal=5.0, proximal_steps=3)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    for update in range(2):
        run.gradient(update)
        run.step(update)
        anchor = [parameter.detach().clone() for parameter in twin.parameters()]
        for _ in range(3):
            optimizer.zero_grad()
            away = sum((part - old).square().sum() for part, old in zip(twin.parameters(), anchor, strict=True))
            (functional.cross_entropy(twin(images()[0]), images()[1]) + 5.0 / 2 * away).backward()
            optimizer.step()
        torch.testing.assert_close(weights(model), weights(twin), rtol=1e-9, atol=1e-12)


def test_label_smoothing_is_that_of_torch_and_is_not_reported():
    model, (inputs, targets) = net(), images()
    loss = updater(model, label_smoothing=0.2).gradient(0)
    wanted = functional.cross_entropy(model(inputs), targets, label_smoothing=0.2)
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-12)
    assert loss != pytest.approx(float(LOSSES["ce"].terms(model(inputs), targets).mean().detach()), rel=1e-3)


def test_example_noise_weighs_examples_and_is_right_in_the_mean():
    model, (inputs, targets) = net(), images()
    run = updater(model, example_noise=0.7)
    run.gradient(3)
    found = slopes(model)
    z = example_weights(N, 0.7, 0, 3).double()
    loss = (functional.cross_entropy(model(inputs), targets, reduction="none") * z).mean()
    torch.testing.assert_close(found, flat(list(torch.autograd.grad(loss, list(model.parameters())))), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_moments_of_the_noise(seed: int):
    count = 20_000
    z = example_weights(count, 0.7, seed, 0).double()
    assert abs(float(z.mean()) - 1) < 4 * 0.7 / count**0.5
    assert abs(float(z.std()) - 0.7) < 4 * 0.7 / (2 * count) ** 0.5
    model = net()
    plain = updater(model, seed=seed)
    plain.gradient(0)
    exact = slopes(model)
    for name, scale in (("additive_noise", torch.ones_like(exact)), ("coordinate_noise", exact.abs())):
        run = updater(model, seed=seed, **{name: 0.3})
        drawn = []
        for update in range(100):
            run.gradient(update)
            drawn.append((slopes(model) - exact)[exact != 0] / scale[exact != 0])
        noise = torch.stack(drawn).flatten()
        assert abs(float(noise.mean())) < 4 * 0.3 / len(noise) ** 0.5
        assert abs(float(noise.std()) - 0.3) < 4 * 0.3 / (2 * len(noise)) ** 0.5
        assert abs(float(noise[:-1] @ noise[1:] / (len(noise) * 0.09))) < 4 / len(noise) ** 0.5


def test_noise_is_clipped_with_the_gradient():
    model = net()
    run = updater(model, additive_noise=10.0, clip=0.5)
    run.gradient(0)
    assert run.gradient_norm > 5
    assert float(slopes(model).norm()) == pytest.approx(0.5, rel=1e-6)


def test_momentum_is_kept_from_epoch_to_epoch():
    """The authors' code of Hoffer 2017 makes a new optimizer each epoch, which starves large batches of momentum."""
    model, twin = net(), net()
    run = updater(model, "sgd", batch_size=20, momentum=0.9, lr=0.05)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    inputs, targets = images()
    for update in range(7):
        run.gradient(update)
        run.step(update)
        chosen = run.batches.indices(update)
        optimizer.zero_grad()
        functional.cross_entropy(twin(inputs[chosen]), targets[chosen]).backward()
        optimizer.step()
        torch.testing.assert_close(weights(model), weights(twin), rtol=1e-9, atol=1e-12)


def averaged(text: str, iterates: list[Tensor], epoch: int) -> Tensor:
    (average,) = averages_of([text], updates=len(iterates) - 1, updates_per_epoch=epoch)
    parameter = nn.Parameter(torch.zeros(3))
    for update, iterate in enumerate(iterates):
        parameter.data = iterate
        average.see(update, [parameter])
    return average.means[0]


AVERAGES: list[tuple[str, Callable[[list[Tensor]], Tensor]]] = [
    ("tail:0.5", lambda all_: torch.stack(all_[11:]).double().mean(0)),
    ("tail:0", lambda all_: torch.stack(all_[1:]).double().mean(0)),
    ("swa:0.5", lambda all_: torch.stack([all_[12], all_[16], all_[20]]).double().mean(0)),
    ("ema:0.9", lambda all_: all_[0].double() * 0.9**20 + sum(0.1 * 0.9 ** (20 - t) * all_[t].double() for t in range(1, 21))),
]


@pytest.mark.parametrize(("text", "wanted"), AVERAGES, ids=[text for text, _ in AVERAGES])
def test_an_average_is_that_of_the_stored_iterates(text: str, wanted: Callable[[list[Tensor]], Tensor]):
    torch.manual_seed(0)
    iterates = [torch.randn(3) for _ in range(21)]
    torch.testing.assert_close(averaged(text, iterates, 4), wanted(iterates), rtol=1e-12, atol=1e-14)


def test_mixed_precision_keeps_weights_and_gradients_as_they_are():
    model, exact = net().float(), net().float()
    settings = {"steps": 10, "lr": 0.1}
    for net_, amp in ((model, True), (exact, False)):
        run = updater(net_, amp=amp, **settings)
        run.inputs = run.inputs.float()
        run.gradient(0)
        assert all(parameter.grad.dtype == parameter.dtype == torch.float32 for parameter in net_.parameters())
    error = float((slopes(model) - slopes(exact)).norm() / slopes(exact).norm())
    assert 1e-5 < error < 0.05


def test_a_full_batch_holds_one_block_at_a_time():
    """Blocks that are mixed for BatchNorm are gathered one by one, never as a second copy of the data."""
    run = updater(net(batch_norm=True), ghost_bn=10)
    sizes = [len(block.inputs) for block in run._blocks(run.batches.indices(0), [], None)]
    assert max(sizes) <= 11
    assert sum(sizes) == len(run.inputs)
    first = next(run._blocks(None, [], None))
    assert first.inputs.data_ptr() == run.inputs.data_ptr()


def test_channels_last_changes_the_layout_and_not_the_gradient():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)).double()
    laid_out = copy.deepcopy(model)
    updater(model).gradient(0)
    run = updater(laid_out, channels_last=True)
    run.gradient(0)
    assert laid_out[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(slopes(laid_out), slopes(model), rtol=1e-9, atol=1e-12)
