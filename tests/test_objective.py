import math

import pytest
import torch
from torch import nn

from sharpcli.errors import InputError, NumericalError, SettingsError
from sharpcli.objective import LOSSES, Objective, batch_norms
from sharpcli.runtime import Runtime
from tests.nets import NETS, NUM_SAMPLES, images, objective


@pytest.mark.parametrize("name", sorted(NETS))
@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_loss_and_gradient_agree_with_autograd_over_all_data_at_once(name: str, loss: str):
    made = objective(name, loss=loss, chunk_size=10)
    outputs = made.model(made.inputs)
    whole = LOSSES[loss](outputs, made.targets).mean()
    slopes = torch.autograd.grad(whole, list(made.model.parameters()))
    value, gradient = made.loss_and_gradient(made.parameters())
    assert value == pytest.approx(float(whole.detach()), rel=1e-12)
    assert made.loss(made.parameters()) == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(gradient, made.space.flatten(slopes), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 7, 64, NUM_SAMPLES])
@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-13), ("float32", 1e-6)])
def test_no_answer_depends_on_the_batch_size(batch: int, dtype: str, accuracy: float):
    whole = objective("conv", dtype=dtype, chunk_size=NUM_SAMPLES)
    made = objective("conv", dtype=dtype, chunk_size=batch)
    theta = whole.parameters()
    difference = (made.gradient(theta) - whole.gradient(theta)).norm() / whole.gradient(theta).norm()
    assert float(difference) < accuracy
    one, all_ = made.evaluate(theta), whole.evaluate(theta)
    assert one.loss == pytest.approx(all_.loss, rel=accuracy)
    assert one.accuracy == all_.accuracy
    assert one.loss_standard_error == pytest.approx(all_.loss_standard_error, rel=1e-5)


def test_standard_errors_are_those_of_a_mean_over_samples():
    made = objective("mlp", chunk_size=10)
    terms = LOSSES["ce"](made.model(made.inputs), made.targets).detach()
    found = made.evaluate(made.parameters())
    assert found.loss_standard_error == pytest.approx(float(terms.std()) / math.sqrt(NUM_SAMPLES), rel=1e-9)
    right = (made.model(made.inputs).argmax(1) == made.targets).double()
    assert found.accuracy == pytest.approx(float(right.mean()))
    assert found.accuracy_standard_error == pytest.approx(float(right.std()) / math.sqrt(NUM_SAMPLES), rel=1e-9)


def test_recomputed_statistics_are_those_of_the_data():
    made = objective("conv")
    layer = next(iter(batch_norms(made.model)))
    features = made.model[0](made.inputs).detach()
    buffers = made.recompute_buffers(made.parameters())
    torch.testing.assert_close(buffers[f"{layer}.running_mean"], features.mean((0, 2, 3)))
    torch.testing.assert_close(buffers[f"{layer}.running_var"], features.var((0, 2, 3)))


def test_recomputed_statistics_weight_blocks_by_their_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sharpcli.objective.BN_BLOCK", 60)
    made = objective("conv", chunk_size=13)
    features = made.model[0](made.inputs).detach()
    buffers = made.recompute_buffers(made.parameters())
    parts = features[:60], features[60:]
    wanted = sum(len(part) * part.var((0, 2, 3)) for part in parts) / NUM_SAMPLES
    torch.testing.assert_close(buffers["1.running_mean"], features.mean((0, 2, 3)))
    torch.testing.assert_close(buffers["1.running_var"], wanted)


def test_half_squared_error_takes_classes_as_one_hot():
    outputs = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert LOSSES["mse"](outputs, torch.tensor([1, 0])).tolist() == [0.5 * (1 + 1), 0.5]


def test_what_does_not_fit_is_said_before_the_work():
    inputs, targets = images()
    with pytest.raises(InputError, match="cannot take this data"):
        Objective.of(nn.Linear(3, 2), inputs, targets)
    with pytest.raises(InputError, match="no trainable parameter"):
        Objective.of(nn.Flatten(), inputs, targets)
    with pytest.raises(SettingsError, match="no loss called"):
        Objective.of(NETS["mlp"](), inputs, targets, loss="hinge")


def test_a_gradient_that_is_not_finite_is_an_error():
    made = objective("mlp")
    with pytest.raises(NumericalError):
        made.loss_and_gradient(made.parameters() * math.inf)


def test_automatic_chunks_keep_memory_modest():
    runtime = Runtime.open("cpu", "float32")
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 100_000), nn.Tanh(), nn.Linear(100_000, 4))
    inputs, targets = torch.randn(2000, 1, 8, 8), torch.zeros(2000, dtype=torch.int64)
    narrow = NETS["mlp"]()
    assert Objective.of(narrow, inputs, targets, runtime=runtime).chunk_size == 1000
    assert Objective.of(wide, inputs, targets, runtime=runtime).chunk_size < 800


def test_cross_entropy_of_numbers_is_refused():
    inputs, _ = images()
    with pytest.raises(SettingsError, match="not classes"):
        Objective.of(NETS["mlp"](), inputs, torch.rand(NUM_SAMPLES, 4))


def test_batch_norm_without_running_statistics_is_refused():
    """Each loss would depend on the batch it is in, and the answer on the batch size."""
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(64, 4))
    with pytest.raises(InputError, match="keeps no running statistics"):
        Objective.of(model, *images())


def test_one_sample_has_no_standard_error():
    inputs, targets = images()
    made = Objective.of(NETS["mlp"](), inputs[:1], targets[:1])
    assert math.isnan(made.evaluate(made.parameters()).loss_standard_error)


def test_a_last_block_of_one_sample_joins_the_one_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sharpcli.objective.BN_BLOCK", NUM_SAMPLES - 1)
    made = objective("conv")
    features = made.model[0](made.inputs).detach()
    buffers = made.recompute_buffers(made.parameters())
    torch.testing.assert_close(buffers["1.running_var"], features.var((0, 2, 3)))
