import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sharpcli.errors import InputError, SettingsError
from sharpcli.losses import LOSSES, Evaluation, UserLoss, class_axis, loss_named, loss_of, moments
from sharpcli.settings.losses import LossSpec

CLASSES = torch.tensor([[1, -100, 0], [2, 2, -100]])
OF_CLASSES = ("ce", "mse")


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
@pytest.mark.parametrize("loss", OF_CLASSES)
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


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    ("axis", "targets"),
    [("last", torch.tensor([0, 2, -100, 1])), ("last", CLASSES), ("1", CLASSES)],
    ids=["classes", "tokens", "tokens as torch"],
)
def test_class_weights_are_those_of_torch(axis: str, targets: Tensor, smoothing: float):
    least = 0.0 if smoothing == 0 else 0.1  # A weight of 0 is refused with smoothing.
    loss = loss_named(f"ce:class_axis={axis},weight=0.25/{least}/4,smoothing={smoothing}")
    last = logits(*targets.shape, 3)
    outputs = last.movedim(-1, 1) if axis == "1" else last
    weight = torch.tensor([0.25, least, 4.0], dtype=torch.float64)
    whole = functional.cross_entropy(last.flatten(0, -2), targets.flatten(), weight=weight, label_smoothing=smoothing)
    for terms in (loss.terms(outputs, targets), loss.precise_terms(outputs, targets)):
        assert float(terms.sum()) / loss.total_weight(targets) == pytest.approx(float(whole), rel=1e-13)
    hessian = torch.autograd.functional.hessian(lambda given: loss.terms(given, targets).sum(), outputs)
    direction = logits(*outputs.shape, seed=1)
    product = (hessian.reshape(outputs.numel(), -1) @ direction.flatten()).view_as(outputs)
    torch.testing.assert_close(loss.output_hessian_(outputs, targets, direction), product, rtol=1e-12, atol=1e-14)
    sums = loss.sample_sums(outputs, targets).sum(1)
    assert sums.tolist() == pytest.approx(
        [
            float(loss.terms(outputs, targets).sum()),
            int(loss.right(outputs, targets).sum()),
            loss.total_weight(targets),
            loss.count(targets),
        ]
    )


def test_with_equal_class_weights_nothing_changes():
    outputs, targets = logits(50, 3), torch.arange(50) % 3
    plain, weighted = evaluation(outputs, targets), evaluation(outputs, targets, "ce:weight=3/3/3")
    for name in ("loss", "loss_standard_error", "accuracy", "accuracy_standard_error"):
        assert getattr(weighted, name) == pytest.approx(getattr(plain, name), rel=1e-12)


def test_accuracy_is_not_weighted():
    outputs, targets = logits(50, 3), torch.arange(50) % 3
    plain, weighted = evaluation(outputs, targets), evaluation(outputs, targets, "ce:weight=1/0/7")
    assert weighted.accuracy == pytest.approx(float(plain.accuracy or 0), rel=1e-12)
    assert weighted.accuracy_standard_error == pytest.approx(float(plain.accuracy_standard_error or 0), rel=1e-12)
    assert weighted.loss != pytest.approx(plain.loss, rel=1e-3)


def test_the_weights_of_labels_are_those_of_torch():
    outputs, targets = logits(5, 3), torch.tensor([[0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 1]])
    loss = loss_named("bce:weight=0.5/2/0,pos_weight=3/1/2")
    weight, positive = torch.tensor([0.5, 2, 0]).double(), torch.tensor([3.0, 1, 2]).double()
    mean = functional.binary_cross_entropy_with_logits(outputs, targets.double(), weight=weight, pos_weight=positive)
    assert float(loss.terms(outputs, targets).sum()) / loss.total_weight(targets) == pytest.approx(float(mean), rel=1e-13)
    hessian = torch.autograd.functional.hessian(lambda given: loss.terms(given, targets).sum(), outputs)
    direction = logits(5, 3, seed=1)
    product = (hessian.reshape(15, 15) @ direction.flatten()).view(5, 3)
    torch.testing.assert_close(loss.output_hessian_(outputs, targets, direction), product, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "message"),
    [
        ("ce:weight=1/2", logits(3, 3), torch.tensor([0, 1, 1]), "3 outputs, but the loss has 2 class weights"),
        ("bce:weight=1/2", logits(3, 3), torch.zeros(3, 3).long(), "2 numbers in weight, but a sample has 3 numbers"),
        ("bce:pos_weight=1/2", logits(3, 4, 2), torch.zeros(3, 4, 2).long(), "2 numbers in pos_weight"),
    ],
)
def test_weights_of_another_number_are_refused(loss: str, outputs: Tensor, targets: Tensor, message: str):
    with pytest.raises(InputError, match=message):
        loss_named(loss).require_classes(outputs, targets, targets)


def test_weights_that_are_separated_by_commas_are_said():
    with pytest.raises(SettingsError, match="separated by commas") as caught:
        LossSpec.parse("ce:weight=1,2")
    assert "ce:weight=1/4" in caught.value.hint


def test_targets_without_weight_are_refused():
    with pytest.raises(InputError, match="class of weight 0"):
        loss_of("ce:weight=1/0", torch.tensor([1, 1]))


def per_sample(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy with the classes along the last axis, by torch, sample by sample."""
    pairs = zip(outputs, targets, strict=True)
    return torch.stack(
        [functional.cross_entropy(one.movedim(-1, 0)[None], wanted[None], reduction="none")[0] for one, wanted in pairs]
    )


AMBIGUOUS = {
    "text": ((2, 3, 3), (2, 3)),
    "one text": ((1, 4, 4), (1, 4)),
    "as many samples, too": ((3, 3, 3), (3, 3)),
    "image": ((2, 3, 3, 3), (2, 3, 3)),
    "volume": ((2, 2, 2, 2, 2), (2, 2, 2, 2)),
}
CLEAR = {
    "classes": ((5, 5), (5,)),
    "tokens": ((2, 3, 4), (2, 3)),
    "tokens as torch": ((2, 4, 3), (2, 3)),
    "square image": ((2, 4, 3, 3), (2, 3, 3)),
    "as many classes as rows": ((2, 3, 3, 4), (2, 3, 4)),
    "as many classes as columns": ((2, 4, 3, 4), (2, 3, 4)),
    "channels last": ((2, 3, 3, 4), (2, 3, 3)),
}


@pytest.mark.parametrize("loss", OF_CLASSES)
@pytest.mark.parametrize(("outputs", "targets"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_an_axis_that_both_layouts_fit_is_asked_about(loss: str, outputs: tuple[int, ...], targets: tuple[int, ...]):
    made, wanted = logits(*outputs), torch.arange(math.prod(targets)).view(targets) % outputs[1]
    for use in (LOSSES[loss].terms, LOSSES[loss].right, LOSSES[loss].settled):
        with pytest.raises(InputError, match="two ways") as caught:
            use(made, wanted)
        assert "class_axis=1" in caught.value.hint
        assert "class_axis=last" in caught.value.hint
    with pytest.raises(InputError, match="two ways"):
        LOSSES[loss].output_hessian_(made, wanted, torch.ones_like(made))
    first, last = (loss_named(f"{loss}:class_axis={axis}") for axis in ("1", "last"))
    assert first.settled(made, wanted) == first
    if loss == "ce":
        torch.testing.assert_close(first.terms(made, wanted), functional.cross_entropy(made, wanted, reduction="none"))
        torch.testing.assert_close(last.terms(made, wanted), per_sample(made, wanted))
    torch.testing.assert_close(first.terms(made, wanted), last.terms(made.movedim(1, -1), wanted))
    assert not torch.allclose(first.terms(made, wanted), last.terms(made, wanted))
    assert torch.equal(first.right(made, wanted), made.argmax(1) == wanted)
    assert torch.equal(last.right(made, wanted), made.argmax(-1) == wanted)


@pytest.mark.parametrize(("outputs", "targets"), CLEAR.values(), ids=CLEAR)
def test_one_axis_that_fits_is_taken_and_said(outputs: tuple[int, ...], targets: tuple[int, ...]):
    made, wanted = logits(*outputs), torch.zeros(targets, dtype=torch.long)
    settled = LOSSES["ce"].settled(made, wanted)
    torch.testing.assert_close(settled.terms(made, wanted), LOSSES["ce"].terms(made, wanted))
    last = outputs[:-1] == targets
    assert str(settled.spec) == ("ce" if len(outputs) == 2 else f"ce:class_axis={'last' if last else 1}")
    wrong = loss_named(f"ce:class_axis={1 if last else 'last'}")
    if len(outputs) > 2:
        with pytest.raises(ValueError, match="do not fit"):
            wrong.terms(made, wanted)


@pytest.mark.parametrize("axis", ["1", "last"])
@pytest.mark.parametrize("loss", OF_CLASSES)
def test_second_derivatives_along_either_axis(loss: str, axis: str):
    outputs, targets, chosen = (
        logits(2, 3, 3),
        torch.tensor([[0, 1, -100], [2, 7, 0]]),
        f"{loss}:class_axis={axis},ignore_index=7",
    )
    hessian = torch.autograd.functional.hessian(lambda given: loss_named(chosen).terms(given, targets).sum(), outputs)
    direction = logits(2, 3, 3, seed=1)
    product = (hessian.reshape(18, 18) @ direction.flatten()).view_as(outputs)
    torch.testing.assert_close(loss_named(chosen).output_hessian_(outputs, targets, direction), product, rtol=1e-12, atol=1e-14)
    assert loss_named(chosen).count(targets) == 4
    assert loss_named(chosen).has_terms(targets).tolist() == [True, True]


LABELS = {
    "one logit": (logits(6), torch.tensor([0, 1, 1, 0, 1, 0])),
    "one column": (logits(6, 1), torch.tensor([0, 1, 1, 0, 1, 0])),
    "one column of numbers": (logits(6), torch.tensor([[0.0], [1], [1], [0], [0.25], [0]], dtype=torch.float64)),
    "labels": (logits(3, 4), torch.tensor([[0, 1, 1, 0], [1, -100, 1, 1], [0, 0, 0, -100]])),
    "chances": (logits(3, 4), torch.rand(3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)),
    "pixels": (logits(2, 3, 4, 1), torch.arange(24).view(2, 3, 4) % 2),
    "pixels of one channel": (logits(2, 1, 3, 4), torch.arange(24).view(2, 3, 4) % 2),
}


@pytest.mark.parametrize("weight", [1, 2.5, 0.3])
@pytest.mark.parametrize(("outputs", "targets"), LABELS.values(), ids=LABELS)
def test_binary_cross_entropy_is_that_of_torch(outputs: Tensor, targets: Tensor, weight: float):
    loss = loss_named(f"bce:pos_weight={weight}")
    counted = targets != -100
    flat, wanted = outputs.reshape(targets.shape)[counted], targets[counted].double()
    mean = functional.binary_cross_entropy_with_logits(flat, wanted, pos_weight=torch.tensor(weight, dtype=torch.float64))
    assert float(loss.terms(outputs, targets).sum()) / loss.count(targets) == pytest.approx(float(mean), rel=1e-13)
    assert loss.terms_each(targets) == targets[0].numel()
    assert float(loss.terms(outputs, targets)[~counted].abs().sum()) == 0
    hessian = torch.autograd.functional.hessian(lambda given: loss.terms(given, targets).sum(), outputs)
    direction = logits(*outputs.shape, seed=1)
    product = (hessian.reshape(outputs.numel(), -1) @ direction.flatten()).view_as(outputs)
    found = loss.output_hessian_(outputs, targets, direction)
    assert found is direction
    torch.testing.assert_close(found, product, rtol=1e-12, atol=1e-14)
    assert int(loss.right(outputs, targets).sum()) == int(((flat > 0) == (wanted > 0.5)).sum())
    sums = loss.sample_sums(outputs, targets)
    assert float(sums[2].sum()) == loss.count(targets)


def test_binary_cross_entropy_of_sure_logits_is_not_rounded_away():
    """log(1 - σ(40)) is -40, and σ'(40) is 4e-18, not 0."""
    far = torch.tensor([[40.0], [-40.0]], dtype=torch.float64)
    assert LOSSES["bce"].terms(far, torch.tensor([[0], [1]])).flatten().tolist() == pytest.approx([40, 40])
    assert LOSSES["bce"].terms(far, torch.tensor([[1], [0]])).flatten().tolist() == pytest.approx([math.exp(-40)] * 2)
    bent = LOSSES["bce"].output_hessian_(far, torch.tensor([[1], [0]]), torch.ones_like(far))
    assert bent.flatten().tolist() == pytest.approx([math.exp(-40)] * 2)


@pytest.mark.parametrize(
    ("name", "targets", "message", "hint"),
    [
        ("ce", torch.tensor([[0.0, 1, 1], [1, 0, 0]]), "all 0 or 1", "--loss bce"),
        ("ce", torch.tensor([[0.0], [1]]), "all 0 or 1", "--loss bce"),
        ("ce", torch.tensor([[0.0, 1, 0], [1, 0, 0]]), "are one-hot", "integers"),
        ("ce", torch.tensor([[0.25, 0.75]]), "between 0 and 1", "--loss bce"),
        ("ce", torch.tensor([[0.25, 2]]), "numbers", "--loss mse"),
        ("ce", torch.tensor([[0.0], [2], [5]]), "numbers", "If they are classes, store them as integers"),
        ("bce", torch.tensor([[0.25, 2]]), "contain 2", "--loss mse"),
        ("bce", torch.tensor([0, 1, -1]), "contain -1", "ignore_index=-1"),
        ("bce", torch.tensor([0, 1, 2]), "contain 2", "--loss ce"),
    ],
)
def test_targets_of_another_loss_lead_to_that_one(name: str, targets: Tensor, message: str, hint: str):
    with pytest.raises(SettingsError, match=message) as caught:
        loss_of(name, targets)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_logit_leads_to_binary_cross_entropy(name: str, shape: tuple[int, ...]):
    targets = torch.tensor([0, 1, 1, 0])
    with pytest.raises(InputError, match="one output for each target") as caught:
        LOSSES[name].require_classes(torch.zeros(shape), targets, targets)
    assert "--loss bce" in caught.value.hint
    labels = torch.tensor([[0, 1, 1]] * 4)
    with pytest.raises(InputError, match="one output for each target"):
        LOSSES[name].require_classes(torch.zeros(4, 3), labels, labels)
    with pytest.raises(InputError, match="returns 2 numbers for each sample, but a sample has 1 number as labels"):
        LOSSES["bce"].require_classes(torch.zeros(4, 2), targets, targets)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ce", "ce"),
        ("ce:0.1", "ce:smoothing=0.1"),
        ("ce:smoothing=0", "ce"),
        ("ce:class_axis=-1", "ce:class_axis=last"),
        ("ce:ignore_index=255, class_axis=1", "ce:class_axis=1,ignore_index=255"),
        ("mse:class_axis=1", "mse:class_axis=1"),
        ("bce:pos_weight=2", "bce:pos_weight=2.0"),
        ("bce:pos_weight=2/3,weight=1/0.5", "bce:weight=1.0/0.5,pos_weight=2.0/3.0"),
        ("ce:weight=1/0", "ce:weight=1.0/0.0"),
    ],
)
def test_the_text_of_a_loss_is_read_back(text: str, canonical: str):
    assert str(LossSpec.parse(text)) == canonical
    assert LossSpec.parse(canonical) == LossSpec.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "hinge", "ce:", "ce:smoothing", "ce:pos_weight=2", "bce:smoothing=0.1", "ce:class_axis=0", "ce:smoothing=1",
        "ce:smoothing=nan", "bce:pos_weight=0",
        "ce:weight=0/0", "ce:weight=1/0,smoothing=0.1", "ce:weight=1/-1", "ce:weight=1/x", "ce:weight=1/inf", "mse:weight=1/2",
        "bce:pos_weight=inf", "ce:ignore_index=x", "ce:class_axis=1,class_axis=1",
        "mse:0.1", "ce:ignore_index=1.5",
    ],
)  # fmt: skip
def test_words_that_are_no_loss(text: str):
    with pytest.raises(SettingsError) as caught:
        LossSpec.parse(text)
    assert caught.value.hint


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
@pytest.mark.parametrize("loss", OF_CLASSES)
def test_a_large_vocabulary_takes_no_further_tensor_of_its_size(
    monkeypatch: pytest.MonkeyPatch, loss: str, shape: tuple[int, ...]
):
    monkeypatch.setattr(class_axis, "BLOCK", 7000)
    outputs, direction = logits(*shape), logits(*shape, seed=1)
    targets = torch.arange(21).view(-1 if len(shape) == 2 else 3, *[7] * (len(shape) - 2)) * 40 - 100
    targets[targets < 0] = -100
    whole = direction.clone()
    monkeypatch.setattr(class_axis, "BLOCK", 2**20)
    LOSSES[loss].output_hessian_(outputs, targets, whole)
    monkeypatch.setattr(class_axis, "BLOCK", 7000)
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
    for loss in (LOSSES[name] for name in OF_CLASSES):
        assert torch.isfinite(loss.terms(outputs, torch.tensor([-100, 1]))).all()
        assert torch.isfinite(loss.output_hessian_(outputs, torch.tensor([-100, 1]), torch.ones(2, 2))).all()


@pytest.mark.parametrize("shape", [(2, 4), (2, 5, 4), (3, 3, 4), (2,)])
def test_outputs_that_do_not_fit_are_refused(shape: tuple[int, ...]):
    for loss in (LOSSES[name] for name in OF_CLASSES):
        with pytest.raises(ValueError, match="do not fit"):
            loss.terms(torch.zeros(shape), CLASSES)


def evaluation(outputs: Tensor, targets: Tensor, name: str = "ce") -> Evaluation:
    loss = loss_named(name)
    total = loss.total_weight(targets)
    return Evaluation.of(moments(loss.sample_sums(outputs, targets)) / total, len(targets), total, classified=True)


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


@pytest.mark.parametrize("loss", OF_CLASSES)
def test_one_hot_classes_and_columns_of_classes_are_told(loss: str):
    every = torch.eye(3, dtype=torch.long).repeat(2, 1)
    for outputs in (logits(6, 3), logits(6, 2)):
        with pytest.raises(InputError, match="one-hot") as caught:
            LOSSES[loss].require_classes(outputs, every, every)
        assert "integers (N,)" in caught.value.hint
    LOSSES[loss].require_classes(logits(6, 3, 2), every, every)  # A class for each token, of two.
    column = torch.tensor([[0], [2], [1], [1]])
    with pytest.raises(InputError, match=r"y has shape \(N, 1\)") as caught:
        LOSSES[loss].require_classes(logits(4, 3), column, column)
    assert caught.value.hint == "Store classes as (N,)."
    LOSSES[loss].require_classes(logits(4, 1, 3), column, column)
    LOSSES["bce"].require_classes(logits(6, 3), every, every)


def test_numbers_need_as_many_outputs():
    for width, words in ((3, "3 outputs, but a sample has 2 targets"), (1, "1 output, but a sample has 2 targets")):
        with pytest.raises(InputError, match=words):
            LOSSES["mse"].require_classes(logits(4, width), logits(4, 2), logits(4, 2))
    LOSSES["mse"].require_classes(logits(4, 1, 2), logits(4, 2), logits(4, 2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ce:ignore_index", "option ignore_index in 'ce:ignore_index' has no value"),
        ("ce:smooth", "no option 'smooth'"),
        ("ce:ignore_index=1.5", "an integer"),
        ("ce:smoothing=x", "takes a number"),
        ("bce:pos_weight=inf", "above 0 and finite"),
        ("CE", "Did you mean 'ce'"),
        ("BCE", "Did you mean 'bce'"),
        ("Cross_Entropy", "Did you mean 'ce'"),
        ("MSE:class_axis=1", "Did you mean 'mse'"),
    ],
)
def test_a_wrong_loss_is_told_for_what_it_is(text: str, words: str):
    with pytest.raises(SettingsError) as caught:
        LossSpec.parse(text)
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("loss", "targets", "tokens", "unit", "terms"),
    [
        ("ce", torch.zeros(3, dtype=torch.int64), True, "nats", 1),
        ("ce", torch.tensor([[1, -100, 0, 1], [2, 2, -100, -100]]), True, "nats per token", 2.5),
        ("ce", torch.zeros(3, 4, 4, dtype=torch.int64), False, "nats per target", 16),
        ("bce", torch.zeros(3, 4), True, "nats per label", 4),
        ("mse", torch.zeros(3, 4), False, "half squared error", 1),
        ("mse", torch.zeros(3, 4, dtype=torch.int64), True, "half squared error per token", 4),
    ],
)
def test_the_unit_of_a_mean_loss(loss: str, targets: Tensor, tokens: bool, unit: str, terms: float):
    inputs = torch.zeros(len(targets), 4, dtype=torch.int64 if tokens else torch.float32)
    assert loss_named(loss).described_terms(inputs, targets) == {"loss_unit": unit, "terms_per_sample": terms}


def test_the_unit_of_a_loss_by_code_is_not_known():
    made = UserLoss(LossSpec("net.py:loss"), each=3, known=True)
    assert made.described_terms(torch.zeros(2, 4), torch.zeros(2)) == {"loss_unit": "", "terms_per_sample": 3}
