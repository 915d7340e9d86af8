"""Several inputs for a sample, and inputs that are read when they are used: the numbers are those of plain tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sharpcli import inputs as module
from sharpcli.curvature.operators import operator_of
from sharpcli.errors import InputError
from sharpcli.inputs import Inputs, InputSource, described_shapes, joined, num_samples, sample_shapes, select, tensors_in
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.measures.epsilon_sharpness import measure as epsilon_sharpness
from sharpcli.memory import MemoryPlan
from sharpcli.objective import Objective
from tests.device import DEVICE
from tests.lanes import crossed, slow

COUNT = 30
ENGINES = ("double-backward", "forward-over-reverse", "difference")


class Split(nn.Module):
    """A net of two arguments that is the same function as `Joined` of both in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first, self.last = nn.BatchNorm1d(5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        out: Tensor = self.last(torch.tanh(self.first(self.norm(torch.cat([left, right], 1)))))
        return out


class Joined(Split):
    def forward(self, both: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(both[:, :2], both[:, 2:])


class Stored(InputSource):
    """Tensors in memory that are handed out like those of a file."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.reads = inputs, list[list[int]]()

    def __len__(self) -> int:
        return num_samples(self.inputs)

    @property
    def first(self) -> Inputs:
        return select(self.inputs, slice(1))

    def read(self, positions: list[int]) -> Inputs:
        self.reads.append(positions)
        return select(self.inputs, torch.tensor(positions))


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(COUNT, 5, generator=generator), torch.arange(COUNT) % 3


def net(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    model = kind()
    model.train()
    with torch.no_grad():
        x = samples()[0]
        for _ in range(5):
            model(x) if kind is Joined else model(x[:, :2], x[:, 2:])
    return model


def arranged(form: str) -> Inputs:
    x = samples()[0]
    return {"tuple": (x[:, :2], x[:, 2:]), "dict": {"right": x[:, 2:], "left": x[:, :2]}}[form]


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing stay on the device."""
    monkeypatch.setattr(MemoryPlan, "holds_data", lambda plan, needed: False)


def objectives(given: Inputs | InputSource, kind: type[nn.Module], **options: object) -> tuple[Objective, Objective]:
    x, y = samples()
    plain = Objective.of(net(Joined), x, y, chunk_size=7, **options)  # type: ignore[arg-type]
    return Objective.of(net(kind), given, y, chunk_size=7, **options), plain  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "form", "bn"),
    [
        *crossed(ENGINES, ["tuple", "dict"], ["recompute", "eval"]),
        slow("linearize", "tuple", "recompute"),
        slow("linearize", "dict", "eval"),
    ],
)
def test_several_inputs_give_the_numbers_of_one_tensor(engine: str, form: str, bn: str):
    several, plain = objectives(arranged(form), Split, bn=bn)
    theta = plain.parameters()
    assert torch.equal(theta, several.parameters())
    assert several.loss(theta) == pytest.approx(plain.loss(theta), rel=1e-6)
    torch.testing.assert_close(several.gradient(theta), plain.gradient(theta))
    vector = torch.randn(len(theta), generator=torch.Generator().manual_seed(3)).to(theta)
    made, wanted = (operator_of("hessian", one, theta, engine=engine) @ vector for one in (several, plain))
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("form", "bn"), crossed(["plain", "tuple", "dict"], ["eval", "recompute", "batch"]))
@pytest.mark.usefixtures("streaming")
def test_a_source_gives_the_numbers_of_its_tensors(form: str, bn: str):
    """To the last bit: the same samples pass in the same chunks."""
    x, y = samples()
    given, kind = (x, Joined) if form == "plain" else (arranged(form), Split)
    options = {"bn": bn} if bn == "batch" else {"bn": bn, "chunk_size": 7}
    source = Stored(given)
    read, held = (Objective.of(net(kind), one, y, **options) for one in (source, given))
    assert isinstance(read.inputs, InputSource)
    theta = held.parameters()
    assert read.loss(theta) == held.loss(theta)
    assert torch.equal(read.gradient(theta), held.gradient(theta))
    assert read.evaluate(theta) == held.evaluate(theta)
    pairs = [eigenpairs(operator_of("hessian", one, theta), Wanted(2), seed=4) for one in (read, held)]
    assert torch.equal(pairs[0].values, pairs[1].values)
    chosen = torch.tensor([5, 1, 9])
    assert read.among(chosen).loss(theta) == held.among(chosen).loss(theta)
    with torch.no_grad():
        weights = read.space.split(theta)
        sums = [
            [float(one.loss_sum(weights, chunk)) for group in one.groups(3, 0) for chunk in group.chunks]
            for one in (read, held)
        ]
    assert sums[0] == sums[1]


@pytest.mark.usefixtures("streaming")
def test_a_measure_streams_too():
    x, y = samples()
    read, held = (Objective.of(net(Joined), one, y, chunk_size=7) for one in (Stored(x), x))
    measured = [replace(epsilon_sharpness(one, one.parameters()), seconds=0) for one in (read, held)]
    assert measured[0] == measured[1]


def test_a_source_that_fits_is_read_once():
    x, y = samples()
    source = Stored(x)
    objective = Objective.of(net(Joined), source, y, chunk_size=7)
    assert isinstance(objective.inputs, Tensor)
    assert objective.inputs.device.type == DEVICE.type
    objective.gradient(objective.parameters())
    assert source.reads == [list(range(COUNT))]


@pytest.mark.usefixtures("streaming")
def test_an_error_of_a_source_ends_the_pass():
    class Broken(Stored):
        def read(self, positions: list[int]) -> Inputs:
            if 20 in positions:
                raise InputError("Sample 20 cannot be read.", "Remove it.")
            return super().read(positions)

    x, y = samples()
    objective = Objective.of(net(Joined), Broken(x), y, chunk_size=7)
    with pytest.raises(InputError, match="Sample 20"):
        objective.loss(objective.parameters())


def test_shapes_are_told_by_name():
    x, _ = samples()
    assert described_shapes(x) == "(5,)"
    assert described_shapes(arranged("dict")) == "right (3,), left (2,)"
    assert sample_shapes(Stored(arranged("tuple"))) == (("0", (2,)), ("1", (3,)))
    assert num_samples(arranged("tuple")) == COUNT
    assert tensors_in(Stored(x)) == ()


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_parts_are_joined_in_order(form: str):
    whole = arranged(form)
    parts = [select(whole, slice(0, 4)), select(whole, slice(4, None))]
    for joint, part in zip(tensors_in(joined(parts)), tensors_in(whole), strict=True):
        assert torch.equal(joint, part)
    assert module.main_tensor(joined(parts)).shape == tensors_in(whole)[0].shape
