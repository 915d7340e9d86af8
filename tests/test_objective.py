import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli.curvature.dead_parameters import dead_parameters
from sharpcli.errors import InputError, NumericalError, SettingsError
from sharpcli.losses import LOSSES
from sharpcli.objective import Objective
from tests.device import on_device
from tests.nets import LENGTH, NETS, NUM_SAMPLES, LanguageModel, Tagger, images, objective, texts


@pytest.mark.parametrize("name", sorted(NETS))
@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_loss_and_gradient_agree_with_autograd_over_all_data_at_once(name: str, loss: str):
    made = objective(name, loss=loss, chunk_size=10)
    outputs = made.model(made.inputs)
    whole = LOSSES[loss].terms(outputs, made.targets).mean()
    slopes = torch.autograd.grad(whole, list(made.model.parameters()))
    value, gradient = made.loss_and_gradient(made.parameters())
    assert value == pytest.approx(float(whole.detach()), rel=1e-12)
    assert made.loss(made.parameters()) == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(gradient, made.space.flatten(slopes), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 7, 64, NUM_SAMPLES])
@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-13), ("float32", 1e-6)])
def test_no_answer_depends_on_the_chunk_size(batch: int, dtype: str, accuracy: float):
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
    terms = LOSSES["ce"].terms(made.model(made.inputs), made.targets).detach()
    found = made.evaluate(made.parameters())
    assert found.loss_standard_error == pytest.approx(float(terms.std()) / math.sqrt(NUM_SAMPLES), rel=1e-9)
    right = (made.model(made.inputs).argmax(1) == made.targets).double()
    assert found.accuracy == pytest.approx(float(right.mean()))
    assert found.accuracy_standard_error == pytest.approx(float(right.std()) / math.sqrt(NUM_SAMPLES), rel=1e-9)


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


@pytest.mark.cpu
def test_automatic_chunks_keep_memory_modest():
    runtime = on_device("float32")
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 100_000), nn.Tanh(), nn.Linear(100_000, 4))
    inputs, targets = torch.randn(2000, 1, 8, 8), torch.zeros(2000, dtype=torch.int64)
    narrow = NETS["mlp"]()
    assert Objective.of(narrow, inputs, targets, runtime=runtime).chunk_size == 1000
    assert Objective.of(wide, inputs, targets, runtime=runtime).chunk_size < 800


def test_cross_entropy_of_numbers_is_refused():
    inputs, _ = images()
    with pytest.raises(SettingsError, match="numbers between 0 and 1, but cross-entropy needs classes"):
        Objective.of(NETS["mlp"](), inputs, torch.rand(NUM_SAMPLES, 4))


def test_one_sample_has_no_standard_error():
    inputs, targets = images()
    made = Objective.of(NETS["mlp"](), inputs[:1], targets[:1])
    assert math.isnan(made.evaluate(made.parameters()).loss_standard_error)


@pytest.mark.parametrize("size", [1, 7, None])
def test_means_are_over_the_tokens_that_count(size: int | None):
    made = objective("gpt", chunk_size=size)
    targets = made.targets
    assert made.total_weight == int((targets != -100).sum()) < targets.numel()
    theta = made.parameters()
    outputs = made.model(made.inputs)
    wanted = float(functional.cross_entropy(outputs.flatten(0, 1), targets.flatten()).detach())
    assert made.loss(theta) == pytest.approx(wanted, rel=1e-12)
    found = made.evaluate(theta)
    assert found.loss == pytest.approx(wanted, rel=1e-12)
    assert found.accuracy == pytest.approx(float((outputs.argmax(-1) == targets).sum()) / made.total_weight)
    assert found.num_samples == len(targets)
    of_texts = [functional.cross_entropy(*pair).detach() for pair in zip(outputs, targets, strict=True) if (pair[1] >= 0).any()]
    assert abs(float(torch.stack(of_texts).mean()) - wanted) > 1e-3  # The control: a mean of means is another number.


def test_data_in_which_everything_is_ignored_is_refused():
    inputs, targets = texts()
    with pytest.raises(InputError, match="Every target is ignored"):
        Objective.of(LanguageModel(), inputs, torch.full_like(targets, -100))


def test_a_model_of_numbers_refuses_tokens_in_one_sentence():
    inputs, targets = texts()
    with pytest.raises(InputError, match="cannot take this data"):
        Objective.of(nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 4)), inputs, targets[:, 0])
    with pytest.raises(InputError, match="do not fit classes"):
        Objective.of(Tagger(), inputs, targets)


@pytest.mark.parametrize("token", [987, -1])
def test_a_token_that_the_model_does_not_know_is_told_before_the_work(token: int):
    inputs, targets = texts()
    inputs[-1, -1] = 5
    inputs[-2, 0] = token
    with pytest.raises(InputError, match=f"contain the token {token}, but the model's table has no such row") as caught:
        Objective.of(LanguageModel(), inputs, targets)
    assert "Tokens" in caught.value.hint
    assert "--data" in caught.value.hint


class Positions(nn.Module):
    """Has a table of tokens and one of two positions."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places, self.layer = nn.Embedding(256, 3), nn.Embedding(2, 3), nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer((self.tokens(inputs) + self.places(torch.arange(inputs.shape[1], device=inputs.device))).mean(1))


def test_only_tokens_are_blamed_for_what_tokens_do():
    targets = torch.tensor([0, 1, 0])
    with pytest.raises(InputError, match="out of range"):
        Objective.of(Positions(), torch.zeros(3, 4, dtype=torch.long), targets)
    pixels = torch.tensor([[0, 3], [7, 254], [255, 1]]).float() / 255
    with pytest.raises(InputError, match="cannot take this data") as caught:
        Objective.of(Positions(), pixels, targets)
    assert "tokens=True" in caught.value.hint
    with pytest.raises(InputError, match="cannot take this data") as caught:
        Objective.of(Positions(), pixels + 0.001, targets)
    assert "tokens=True" not in caught.value.hint


class Calculating(nn.Module):
    """Takes whole numbers, but as numbers; or, if `looks_up`, as tokens without an embedding."""

    def __init__(self, *, looks_up: bool) -> None:
        super().__init__()
        self.looks_up, self.layer = looks_up, nn.Linear(8 if looks_up else 6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        weights = self.layer.weight
        numbers = functional.one_hot(inputs, 8).sum(1) if self.looks_up else inputs
        return self.layer(numbers.to(weights.dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_numbers_that_are_calculated_with_are_no_tokens(dtype: str):
    random = torch.Generator().manual_seed(0)
    inputs, targets = torch.randint(0, 8, (9, 6), generator=random), torch.randint(0, 3, (9,), generator=random)
    runtime = on_device(dtype)
    with pytest.raises(InputError, match="as numbers, not as indices of a table") as caught:
        Objective.of(Calculating(looks_up=False), inputs, targets, runtime=runtime)
    assert "floats" in caught.value.hint
    assert Objective.of(Calculating(looks_up=True), inputs, targets, runtime=runtime).num_samples == 9
    assert Objective.of(Calculating(looks_up=False), inputs.float(), targets, runtime=runtime).num_samples == 9


class Segmenter(nn.Module):
    """A class for every pixel, (B, C, H, W), or (B, H, W, C) if `last`."""

    def __init__(self, classes: int, *, last: bool = False) -> None:
        super().__init__()
        self.layer, self.last = nn.Conv2d(1, classes, 1), last

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        return outputs.movedim(1, -1) if self.last else outputs


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize(("classes", "height", "width"), [(4, 4, 4), (4, 4, 3), (4, 3, 4), (3, 4, 4), (5, 1, 5), (2, 2, 2)])
def test_every_chunk_has_its_classes_along_the_same_axis(loss: str, classes: int, height: int, width: int, last: bool):
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 1, height, width, generator=random)
    targets = torch.randint(0, classes, (9, height, width), generator=random)
    net, axis = Segmenter(classes, last=last).double(), "last" if last else "1"
    runtime = on_device("float64")

    def made(name: str, size: int | None) -> Objective:
        return Objective.of(net, inputs, targets, loss=name, runtime=runtime, chunk_size=size)

    if classes == height == width:
        with pytest.raises(InputError, match="two ways"):
            made(loss, None)
    outputs = net(inputs.double())
    first = outputs.movedim(-1, 1) if last else outputs
    wanted = functional.cross_entropy(first, targets)
    if loss == "mse":
        wanted = 0.5 * (first - functional.one_hot(targets, classes).movedim(-1, 1)).square().sum(1).mean()
    for size in (1, 4, 5, None):
        asked = f"{loss}:class_axis={axis}" if classes == height == width else loss
        found = made(asked, size)
        assert found.loss_name == f"{loss}:class_axis={axis}"
        assert found.loss(found.parameters()) == pytest.approx(float(wanted.detach()), rel=1e-12)


def test_labels_have_a_mean_over_all_of_them_and_an_accuracy():
    random = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(11, 6, generator=random), torch.randint(0, 2, (11, 3), generator=random)
    net, runtime = nn.Linear(6, 3).double(), on_device("float64")
    outputs = net(inputs.double()).detach()
    wanted = float(functional.binary_cross_entropy_with_logits(outputs, labels.double()))
    for targets in (labels, labels.float()):
        made = Objective.of(net, inputs, targets, loss="bce", runtime=runtime, chunk_size=4)
        found = made.evaluate(made.parameters())
        assert made.total_weight == 33
        assert found.loss == pytest.approx(wanted, rel=1e-13)
        assert found.accuracy == pytest.approx(float(((outputs > 0) == labels.bool()).double().mean()))
    with pytest.raises(SettingsError, match="all 0 or 1"):
        Objective.of(net, inputs, labels.float())
    with pytest.raises(InputError, match="one output for each target"):
        Objective.of(net, inputs, labels)


def test_only_selected_parameters_are_differentiated():
    whole, made = objective("mlp"), objective("mlp", params=("1.*",))
    assert made.space.names == ("1.weight", "1.bias")
    assert [parameter.requires_grad for parameter in made.model.parameters()] == [True, True, False, False, False, False]
    assert made.loss(made.parameters()) == pytest.approx(whole.loss(whole.parameters()), rel=1e-14)
    torch.testing.assert_close(
        made.gradient(made.parameters()), whole.gradient(whole.parameters())[whole.space.layer_slices()["1"]]
    )
    assert dead_parameters(made) == dict.fromkeys(("3.inner.weight", "3.inner.bias", "5.weight", "5.bias"), "not selected")


class Odd(nn.Module):
    """Unused, frozen and tied parameters, and an embedding with a padding row, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.tagged = Tagger(padding=2), nn.Embedding(5, 4, padding_idx=1)
        self.head = nn.Linear(4, 4)
        self.head.weight = self.tokens.out.weight = nn.Parameter(torch.randn(4, 5))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.unused, self.level = nn.Linear(3, 3), nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        tied = self.frozen(functional.linear(self.tokens(inputs), self.head.weight[:, :4]))
        alive = self.tagged(inputs[:, 0]) @ self.tagged.weight.T[:, :4]  # Looked up in, and used as it stands.
        return tied + alive


def test_dead_parameters_are_listed_with_the_reason():
    inputs, targets = texts()[0], images()[1][: len(texts()[0])]
    made = Objective.of(Odd(), inputs, targets, runtime=on_device("float64"))
    assert dead_parameters(made) == {
        "tokens.tokens.weight[2]": "padding",
        "level": "unused",
        "head.bias": "unused",
        "unused.weight": "unused",
        "unused.bias": "unused",
        "frozen.weight": "frozen",
        "frozen.bias": "frozen",
        "head.weight": "tied to tokens.out.weight",
    }
    assert dead_parameters(objective("conv")) == dead_parameters(objective("lstm")) == {}
    assert dead_parameters(objective("gpt")) == {"head.weight": "tied to tokens.weight"}


def test_a_parameter_whose_gradient_is_constant_is_linear():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.offset = nn.Linear(64, 4), nn.Parameter(torch.zeros(4))

        def forward(self, inputs: Tensor) -> Tensor:
            return self.first(inputs.flatten(1)) + 0 * self.offset.detach()

    class Sum(Objective):
        def loss_sum(self, parameters, chunk):
            return self.outputs(parameters, chunk.inputs, {}).square().sum() + parameters["offset"].sum()

    made = Objective.of(Net(), *images(), runtime=on_device("float64"))
    assert dead_parameters(made) == {"offset": "unused"}
    assert dead_parameters(Sum(**vars(made))) == {"offset": "linear"}


@pytest.mark.parametrize("first", [nn.ReLU(inplace=True), nn.Hardtanh(-1, 1, inplace=True)], ids=["relu", "hardtanh"])
def test_a_model_that_overwrites_its_inputs_gets_copies(first: nn.Module):
    inputs, targets = images()
    kept = inputs.clone()
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 4)]
    runtime = on_device("float64")
    made = Objective.of(nn.Sequential(first, *layers), inputs, targets, runtime=runtime)
    usual = Objective.of(nn.Sequential(*layers), first(inputs.clone()), targets, runtime=runtime)
    assert made.copies_inputs
    assert not usual.copies_inputs
    for _ in range(2):
        assert made.loss(made.parameters()) == usual.loss(usual.parameters())
        assert torch.equal(made.gradient(made.parameters()), usual.gradient(usual.parameters()))
    assert torch.equal(inputs, kept)


def test_sparse_gradients_of_an_embedding_are_made_dense():
    tokens, targets = torch.randint(0, 7, (20, 4)), torch.randint(0, 3, (20,))
    sparse, dense = (nn.Sequential(nn.Embedding(7, 4, sparse=one), nn.Flatten(), nn.Linear(16, 3)) for one in (True, False))
    dense.load_state_dict(sparse.state_dict())
    made, usual = (Objective.of(one, tokens, targets, runtime=on_device("float64")) for one in (sparse, dense))
    assert torch.equal(made.gradient(made.parameters()), usual.gradient(usual.parameters()))
    assert sparse[0].sparse
