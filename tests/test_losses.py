import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sharpcli import losses
from sharpcli.losses import LOSSES, Evaluation, moments

CLASSES = torch.tensor([[1, -100, 0], [2, 2, -100]])


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (logits(4, 3), torch.tensor([0, 2, -100, 1])),
        (logits(2, 3, 4).movedim(1, 2), CLASSES),  # (B, T, C)
        (logits(2, 4, 3), CLASSES),  # (B, C, T)
        (logits(2, 4, 3, 2), torch.stack([CLASSES, CLASSES.flip(1)], 2)),  # (B, C, H, W)
    ],
    ids=["classes", "tokens", "tokens as torch", "pixels"],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_terms_and_second_derivatives_are_those_of_torch(loss: str, outputs: Tensor, targets: Tensor):
    last = outputs if outputs.shape[:-1] == targets.shape else outputs.movedim(1, -1)
    counted = targets != -100
    if loss == "ce":
        wanted = functional.cross_entropy(last[counted], targets[counted], reduction="none")
    else:
        wanted = 0.5 * (last[counted] - functional.one_hot(targets[counted], last.shape[-1])).square().sum(1)
    terms = LOSSES[loss].terms(outputs, targets)
    assert terms.shape == targets.shape
    torch.testing.assert_close(terms[counted], wanted)
    assert float(terms[~counted].abs().max()) == 0
    assert LOSSES[loss].count(targets) == int(counted.sum())
    hessian = torch.autograd.functional.hessian(lambda outputs: LOSSES[loss].terms(outputs, targets).sum(), outputs)
    direction = logits(*outputs.shape, seed=1)
    product = (hessian.reshape(outputs.numel(), -1) @ direction.flatten()).view_as(outputs)
    found = LOSSES[loss].output_hessian_(outputs, targets, direction)
    torch.testing.assert_close(found, product, rtol=1e-12, atol=1e-14)
    right = LOSSES[loss].right(outputs, targets)
    assert torch.equal(right, (last.argmax(-1) == targets) & counted)


def test_the_layout_of_language_models_comes_first():
    """With as many classes as tokens both layouts fit; torch alone would take the other one."""
    outputs, targets = logits(2, 3, 3), torch.tensor([[0, 1, 2], [2, 1, 0]])
    wanted = torch.stack([functional.cross_entropy(*pair, reduction="none") for pair in zip(outputs, targets, strict=True)])
    torch.testing.assert_close(LOSSES["ce"].terms(outputs, targets), wanted)
    assert not torch.allclose(functional.cross_entropy(outputs, targets, reduction="none"), wanted)


def test_cross_entropy_is_flat_along_ones_and_costs_the_logarithm_of_the_number_of_classes():
    outputs, targets = torch.zeros(2, 5), torch.tensor([3, 0])
    assert LOSSES["ce"].terms(outputs, targets).tolist() == pytest.approx([math.log(5)] * 2)
    assert float(LOSSES["ce"].output_hessian_(outputs, targets, torch.ones(2, 5)).abs().max()) < 1e-7
    spike = torch.tensor([[1.0, 0, 0, 0, 0]] * 2)
    found = LOSSES["ce"].output_hessian_(outputs, targets, spike)
    assert found[0].tolist() == pytest.approx([0.16, -0.04, -0.04, -0.04, -0.04])


class Sizes(TorchDispatchMode):
    """Remembers the largest tensor that was newly made."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        known = {part.untyped_storage().data_ptr() for part in args if isinstance(part, Tensor)}
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in known:
            self.largest = max(self.largest, made.numel())
        return made


@pytest.mark.parametrize("shape", [(3, 7, 1000), (3, 1000, 7), (21, 1000)], ids=["tokens", "tokens as torch", "classes"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_large_vocabulary_takes_no_further_tensor_of_its_size(
    monkeypatch: pytest.MonkeyPatch, loss: str, shape: tuple[int, ...]
):
    monkeypatch.setattr(losses, "_BLOCK", 7000)
    outputs, direction = logits(*shape), logits(*shape, seed=1)
    targets = torch.arange(21).view(-1 if len(shape) == 2 else 3, *[7] * (len(shape) - 2)) * 40 - 100
    targets[targets < 0] = -100
    whole = direction.clone()
    monkeypatch.setattr(losses, "_BLOCK", 2**20)
    LOSSES[loss].output_hessian_(outputs, targets, whole)
    monkeypatch.setattr(losses, "_BLOCK", 7000)
    with Sizes() as sizes:
        assert LOSSES[loss].output_hessian_(outputs, targets, direction) is direction
    torch.testing.assert_close(direction, whole)
    assert sizes.largest <= 7000


def test_half_squared_error():
    outputs = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert LOSSES["mse"].terms(outputs, torch.tensor([1, 0])).tolist() == [0.5 * (1 + 1), 0.5]
    values = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert LOSSES["mse"].terms(outputs, values).tolist() == [2.0, 12.5]
    assert LOSSES["mse"].terms(outputs[:, :, None], torch.tensor([1, 0])).tolist() == [1.0, 0.5]
    assert LOSSES["mse"].count(values) == 2
    assert torch.equal(LOSSES["mse"].output_hessian_(outputs, values, values), values)
    assert not LOSSES["mse"].right(outputs, values).any()


def test_what_is_ignored_cannot_spoil_the_rest():
    outputs = torch.tensor([[math.nan, 1.0], [0.0, 1.0]])
    for loss in LOSSES.values():
        assert torch.isfinite(loss.terms(outputs, torch.tensor([-100, 1]))).all()
        assert torch.isfinite(loss.output_hessian_(outputs, torch.tensor([-100, 1]), torch.ones(2, 2))).all()


@pytest.mark.parametrize("shape", [(2, 4), (2, 5, 4), (3, 3, 4), (2,)])
def test_outputs_that_do_not_fit_are_refused(shape: tuple[int, ...]):
    for loss in LOSSES.values():
        with pytest.raises(ValueError, match="do not fit"):
            loss.terms(torch.zeros(shape), CLASSES)


def evaluation(outputs: Tensor, targets: Tensor) -> Evaluation:
    loss = LOSSES["ce"]
    count = loss.count(targets)
    return Evaluation.of(moments(loss.sample_sums(outputs, targets)) / count, len(targets), count, classified=True)


def test_standard_errors_take_the_tokens_of_a_text_as_dependent():
    """Ten texts of eight equal tokens know no more than ten samples do."""
    outputs, targets = logits(10, 4), torch.arange(10) % 4
    alone = evaluation(outputs, targets)
    repeated = evaluation(outputs[:, None].expand(10, 8, 4), targets[:, None].expand(10, 8))
    assert repeated.loss == pytest.approx(alone.loss, rel=1e-12)
    assert repeated.loss_standard_error == pytest.approx(alone.loss_standard_error, rel=1e-9)
    assert repeated.accuracy_standard_error == pytest.approx(alone.accuracy_standard_error, rel=1e-9)


def test_standard_errors_cover_the_truth():
    """The mean over ragged texts, whose tokens share a difficulty, is within 1.96 of them about 95 % of the time."""
    random = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(600):
        counts = torch.randint(1, 9, (60,), generator=random)
        level = torch.randn(60, 1, generator=random, dtype=torch.float64)
        values = level + torch.randn(60, 8, generator=random, dtype=torch.float64)
        counted = torch.arange(8) < counts[:, None]
        sums = torch.stack([(values * counted).sum(1), torch.zeros(60), counted.double().sum(1)]).double()
        total = int(counts.sum())
        found = Evaluation.of(moments(sums) / total, 60, total, classified=False)
        hits += abs(found.loss) <= 1.96 * found.loss_standard_error
    assert 0.92 <= hits / 600 <= 0.98
