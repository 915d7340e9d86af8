"""What is no function of the weights, sample by sample, is refused with its reason, and what is one is not accused."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sharpcli import progress
from sharpcli.errors import InputError
from sharpcli.modules import private_copy
from sharpcli.preconditions import require_function
from sharpcli.runtime import Runtime
from tests.device import on_device
from tests.nets import NETS, TEXT_NETS, data_for, made_model

RUNTIMES = [on_device("float32"), on_device("float64")]


class Net(nn.Module):
    """Two layers with something of the caller's between them."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)
        self.between, self.calls, self.mean = between, 0, None
        self.register_buffer("average", torch.zeros(6))
        self.own = torch.Generator().manual_seed(0)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.between(self, torch.tanh(self.first(inputs))))


def counting(net: Net, hidden: Tensor) -> Tensor:
    net.calls += 1
    return hidden * net.calls


def averaging(net: Net, hidden: Tensor) -> Tensor:
    net.average.lerp_(hidden.detach().mean(0), 0.001)
    return hidden - net.average


def remembering(net: Net, hidden: Tensor) -> Tensor:
    """Centre by the mean of the first batch that ever came."""
    if net.mean is None:
        net.mean = hidden.detach().mean(0)
    return hidden - net.mean


def clamping(net: Net, hidden: Tensor) -> Tensor:
    with torch.no_grad():
        net.first.weight.clamp_(-0.5, 0.5)
    return hidden


class Limited(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.table, self.last = kind(7, 4, max_norm=1.0), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.table(inputs)
        return self.last(found if found.ndim == 2 else found.mean(1))


class Hidden(nn.Module):
    """Uses a weight by another way than its name."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.first, self.last, self.scale = nn.Linear(5, 6), nn.Linear(6, 3), nn.Parameter(torch.full((6,), 1.5))
        if way == "lambda":
            self.function = lambda hidden: torch.tanh(self.scale * hidden)
        elif way == "hook":
            self.first.register_forward_hook(lambda module, given, hidden: torch.tanh(self.scale * hidden))
        elif way == "list":
            self.parts = [self.scale]
        elif way == "layer":
            inner = self.middle = nn.Linear(6, 6)
            self.function = lambda hidden: torch.tanh(inner(hidden))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        if hasattr(self, "function"):
            hidden = self.function(hidden)
        return self.last(self.parts[0] * hidden if hasattr(self, "parts") else hidden)


@pytest.mark.parametrize("way", ["lambda", "hook", "list", "layer"])
def test_weights_that_names_do_not_reach_are_refused(way: str):
    with pytest.raises(InputError, match="uses a parameter of shape .* that is not registered under a name"):
        require_function(Hidden(way), numbers(5), RUNTIMES[0])


class Merged(nn.Module):
    """Merges two weights at the first call in eval mode, and keeps the result."""

    def __init__(self, graph: bool) -> None:
        super().__init__()
        self.one, self.two, self.merged, self.graph = nn.Parameter(torch.ones(3, 5)), nn.Linear(5, 3), None, graph

    def forward(self, inputs: Tensor) -> Tensor:
        if self.merged is None:
            self.merged = self.one + self.two.weight if self.graph else (self.one + self.two.weight).detach()
        return functional.linear(inputs, self.merged, self.two.bias)


@pytest.mark.parametrize("graph", [False, True])
def test_what_is_kept_of_earlier_weights_is_refused(graph: bool):
    with pytest.raises(InputError, match="reuses results that were computed from earlier weights"):
        require_function(Merged(graph), numbers(5), RUNTIMES[0])


def test_an_answer_that_depends_on_the_number_of_samples_or_on_gradients_is_refused():
    for between, reason in (
        (lambda net, hidden: hidden * (2 if len(hidden) == 1 else 1), "Samples depend on each other"),
        (lambda net, hidden: hidden * (2 if len(hidden) > 32 else 1), "Samples depend on each other"),
        (lambda net, hidden: hidden * (2 if torch.is_grad_enabled() else 1), "differ with gradients on and off"),
        (lambda net, hidden: hidden.squeeze(), "squeeze"),
    ):
        with pytest.raises(InputError) as error:
            require_function(Net(between), numbers(5), RUNTIMES[0])
        assert reason in error.value.message + error.value.hint


def test_inputs_that_are_overwritten_and_inner_gradients_are_no_fault():
    require_function(Net(lambda net, hidden: hidden), numbers(5), RUNTIMES[0])
    overwriting = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 3))
    inputs = numbers(5)
    kept = inputs.clone()
    require_function(overwriting, inputs, RUNTIMES[0])
    assert torch.equal(inputs, kept)

    def field(net: Net, hidden: Tensor) -> Tensor:
        with torch.enable_grad():
            point = hidden.detach().requires_grad_()
            (slope,) = torch.autograd.grad(point.square().sum(), point, create_graph=True)
        return hidden + 0 * slope

    require_function(Net(field), numbers(5), RUNTIMES[0])


class Transposed(nn.Module):
    """Attention that takes the samples for the words of a text: batch_first was forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.inner(inputs).mean(1))


def numbers(*shape: int) -> Tensor:
    return torch.randn(20, *shape, generator=torch.Generator().manual_seed(1))


RANDOM = {
    "dropout": lambda net, hidden: functional.dropout(hidden, 0.5),
    "noise": lambda net, hidden: hidden + 0.01 * torch.randn_like(hidden),
    "seldom": lambda net, hidden: hidden * (torch.rand(()) < 0.8),
    "numpy": lambda net, hidden: hidden * float(numpy.random.rand()),
    "python": lambda net, hidden: hidden * random.random(),
}
STATE = {
    "counter": counting,
    "running average": averaging,
    "a generator of its own": lambda net, hidden: hidden * torch.rand((), generator=net.own),
}
DEPENDENT = {
    "batch norm": lambda net, hidden: functional.batch_norm(hidden, None, None, training=True),
    "mean": lambda net, hidden: hidden - hidden.mean(0),
    "softmax": lambda net, hidden: hidden.softmax(0),
    "largest": lambda net, hidden: hidden / hidden.abs().max(),
    "first batch": remembering,
    "place": lambda net, hidden: hidden * torch.arange(len(hidden)).view(-1, 1),
    "neighbours": lambda net, hidden: hidden + hidden.roll(1, 0),
}


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda one: str(one.dtype))
@pytest.mark.parametrize(
    ("between", "reason"),
    [
        *((one, "draws random numbers in eval mode") for one in RANDOM.values()),
        *((one, "keeps a state between calls") for one in STATE.values()),
        *((one, "Samples depend on each other") for one in DEPENDENT.values()),
        (clamping, "changes its weights in forward .'first.weight'."),
    ],
    ids=[*RANDOM, *STATE, *DEPENDENT, "clamped"],
)
def test_what_is_no_function_of_the_weights_is_refused(between: Callable[..., Tensor], reason: str, runtime: Runtime):
    torch.manual_seed(3)
    with pytest.raises(InputError, match=reason) as error:
        require_function(Net(between), numbers(5), runtime)
    assert error.value.hint


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("size", [0.1, 3.0])
def test_a_table_that_limits_its_rows_is_refused_also_while_all_are_short(kind: type[nn.Module], size: float):
    net = Limited(kind)
    with torch.no_grad():
        net.table.weight.copy_(functional.normalize(net.table.weight, dim=1) * min(size, 0.9) if size < 1 else net.table.weight)
        net.table.weight.mul_(8 if size < 1 else 1)
        net.table.weight.copy_(functional.normalize(net.table.weight, dim=1) * (0.6 if size < 1 else 3.0))
    tokens = torch.randint(0, 7, (20, 4), generator=torch.Generator().manual_seed(2))
    with pytest.raises(InputError, match="changes its weights"):
        require_function(net, tokens, RUNTIMES[0])


def test_attention_across_samples_is_refused():
    with pytest.raises(InputError, match="Samples depend on each other") as error:
        require_function(Transposed(), numbers(3, 4), RUNTIMES[0])
    assert "batch_first" in error.value.hint


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda one: str(one.dtype))
@pytest.mark.parametrize("name", [*NETS, *TEXT_NETS])
def test_a_function_is_not_accused(name: str, runtime: Runtime):
    with progress.gathering() as warnings:
        require_function(made_model(name), data_for(name)[0], runtime)
    assert warnings == []


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 1), nn.Flatten(0)),
        Net(lambda net, hidden: hidden.float().to(hidden.dtype)),
        Net(lambda net, hidden: functional.dropout(hidden, 0.5, training=net.training)),
    ],
    ids=["dropout", "batch norm", "no statistics", "one number", "single precision inside", "dropout that knows eval mode"],
)
def test_common_layers_are_not_accused(net: nn.Module):
    """BatchNorm without statistics depends on the batch, and is left to the BatchNorm policy, which refuses or fixes blocks."""
    require_function(net, numbers(5), RUNTIMES[0])


class Single(nn.Module):
    """Knows float32 only."""

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.first, self.drop = nn.Linear(5, 3), drop

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.dropout(self.first(inputs) @ torch.eye(3, dtype=torch.float32), self.drop)


def test_a_model_that_knows_one_precision_is_looked_at_in_that():
    require_function(Single(), numbers(5), RUNTIMES[0])
    with pytest.raises(InputError, match="draws random numbers"):
        require_function(Single(0.5), numbers(5), RUNTIMES[0])


def test_answers_in_sixteen_bits_are_compared_as_such():
    class Half(Net):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs).bfloat16()

    require_function(Half(lambda net, hidden: hidden), numbers(5), RUNTIMES[0])
    with pytest.raises(InputError, match="draws random numbers"):
        require_function(Half(RANDOM["dropout"]), numbers(5), RUNTIMES[0])


def test_random_numbers_without_consequence_are_warned_about():
    with progress.gathering() as warnings:
        require_function(Net(lambda net, hidden: hidden + 0 * torch.rand(())), numbers(5), RUNTIMES[0])
    assert ["draws random numbers" in warning for warning in warnings] == [True]


class Pooled(nn.Module):
    """The mean over the tokens of a text: of those that the mask leaves in, or of all."""

    def __init__(self, *, masked: bool) -> None:
        super().__init__()
        self.table, self.masked = nn.Embedding(20, 3), masked

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask if self.masked else torch.ones_like(attention_mask)
        mean: Tensor = (self.table(input_ids) * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
        return mean


class ByToken(nn.Module):
    """An output for each token, to which the mean of all tokens is added; flat: the tokens of all texts in one axis."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.table, self.flat = nn.Embedding(20, 3), flat

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        each: Tensor = self.table(input_ids)
        each = each + each.mean(1, keepdim=True) + 0 * attention_mask[..., None]
        return each.flatten(0, 1) if self.flat else each


@pytest.mark.parametrize("model", [ByToken(flat=False), ByToken(flat=True)])
def test_outputs_by_token_that_change_with_the_padding_are_warned_about(model: nn.Module):
    mask = (torch.arange(6) < torch.tensor([3, 6, 6])[:, None]).long()
    with progress.gathering() as messages:
        require_function(model, {"input_ids": torch.arange(1, 19).reshape(3, 6), "attention_mask": mask}, on_device("float64"))
    assert ["changes with its padding" in message for message in messages] == [True]


class Scalar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return (self.table(input_ids) * attention_mask[..., None]).sum()


def test_a_model_with_one_output_for_all_samples_is_left_to_others():
    mask = (torch.arange(6) < torch.tensor([3, 6, 6])[:, None]).long()
    inputs = {"input_ids": torch.arange(1, 19).reshape(3, 6), "attention_mask": mask}
    require_function(Scalar(), inputs, on_device("float64"))


@pytest.mark.parametrize(("masked", "lengths"), [(True, [3, 6, 6]), (False, [6, 6, 6]), (False, [3, 6, 6])])
def test_an_answer_that_changes_with_the_padding_of_a_text_is_warned_about(masked: bool, lengths: list[int]):
    ids = torch.arange(1, 19).reshape(3, 6)
    mask = (torch.arange(6) < torch.tensor(lengths)[:, None]).long()
    with progress.gathering() as messages:
        require_function(Pooled(masked=masked), {"input_ids": ids, "attention_mask": mask}, on_device("float64"))
    assert len(messages) == (not masked and min(lengths) < 6)
    assert all("changes with its padding" in message for message in messages)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_samples_are_enough_to_see_what_can_be_seen(count: int):
    require_function(Net(lambda net, hidden: hidden), numbers(5)[:count], RUNTIMES[0])
    with pytest.raises(InputError, match="draws random numbers"):
        require_function(Net(RANDOM["dropout"]), numbers(5)[:count], RUNTIMES[0])


def test_nothing_is_left_behind():
    net = Net(RANDOM["noise"]).train()
    weights = private_copy(net).state_dict()
    torch.manual_seed(5)
    random.seed(5)
    numpy.random.seed(5)
    before = torch.get_rng_state(), str(numpy.random.get_state()), random.getstate()
    with pytest.raises(InputError):
        require_function(net, numbers(5), RUNTIMES[0])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (str(numpy.random.get_state()), random.getstate())
    assert net.training
    assert all(torch.equal(part, net.state_dict()[name]) for name, part in weights.items())


def test_a_module_that_keeps_what_it_has_computed_can_be_copied():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(5, 3))
    layer(numbers(5))
    copied = private_copy(layer)
    assert torch.equal(copied(numbers(5)), layer(numbers(5)))
    assert all(first is not second for first, second in zip(copied.parameters(), layer.parameters(), strict=True))
