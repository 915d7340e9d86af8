"""Maps whose every derivative is one of their own three parts, held to numerical differentiation and to torch's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from sharpcli.kernels import gemm
from sharpcli.kernels.bilinear import Convolution, apply
from tests.lanes import crossed

TORCHS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
SHAPES = {1: ((2, 4, 7), (6, 4, 3)), 2: ((2, 4, 5, 4), (2, 4, 3, 2)), 3: ((1, 2, 3, 4, 3), (2, 2, 2, 3, 2))}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride": {"stride": 2},
    "padding": {"padding": 1},
    "dilation": {"dilation": 2, "padding": 2},
    "groups": {"groups": 2},
    "all": {"stride": 2, "padding": 2, "dilation": 2, "groups": 2},
}
UNEQUAL = {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2), "groups": 2}  # Along the two axes of a picture.
PARTS = [subset for subset in itertools.product([True, False], repeat=3) if any(subset)]
onednn = pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="a torch without this kernel")


def kernel(axes: int, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Convolution:
    each = (list(value) if isinstance(value, tuple) else [value] * axes for value in (stride, padding, dilation))
    return Convolution(*each, groups)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def leaves(axes: int, options: dict[str, Any]) -> list[Tensor]:
    """Return inputs, weight and bias, all to be differentiated by."""
    shape, (wide, channels, *rest) = SHAPES[axes]
    made = numbers(*shape), numbers(wide, channels // options.get("groups", 1), *rest, seed=1), numbers(wide, seed=2)
    return [tensor.requires_grad_() for tensor in made]


def differentiated(function: Callable[..., Tensor], given: list[Tensor]) -> list[Tensor]:
    """Return the answer, the gradient of a function of it that bends, and that gradient's derivative along a vector."""
    answer = function(*given)
    wanted = [leaf for leaf in given if leaf.requires_grad]
    slopes = torch.autograd.grad(answer.tanh().square().sum(), wanted, create_graph=True)
    along = [numbers(*slope.shape, seed=7 + number).to(slope.dtype) for number, slope in enumerate(slopes)]
    return [answer, *slopes, *torch.autograd.grad(slopes, wanted, along)]


def assert_same(found: list[Tensor], wanted: list[Tensor], accuracy: float = 1e-12) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize(("axes", "options", "bias"), crossed(TORCHS, OPTIONS, [True, False]))
def test_both_derivatives_are_those_of_small_steps(axes: int, options: str, bias: bool):
    given = leaves(axes, OPTIONS[options])[: 2 + bias]
    made = kernel(axes, **OPTIONS[options])

    def function(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return apply(made, inputs, weight, bias)

    assert gradcheck(function, given, fast_mode=axes == 3)
    assert gradgradcheck(function, given, fast_mode=True)


@pytest.mark.parametrize(("axes", "options", "bias"), crossed(TORCHS, OPTIONS, [True, False]))
def test_both_derivatives_are_those_of_torch(axes: int, options: str, bias: bool):
    words = OPTIONS[options]
    given, made = leaves(axes, words)[: 2 + bias], kernel(axes, **words)
    found = differentiated(lambda x, w, b=None: apply(made, x, w, b), given)
    assert_same(found, differentiated(lambda x, w, b=None: TORCHS[axes](x, w, b, **words), given))


@pytest.mark.parametrize("needed", PARTS, ids=lambda part: "".join(name * on for name, on in zip("xwb", part, strict=True)))
def test_what_needs_no_gradient_may_be_anything(needed: tuple[bool, ...]):
    """Such as the inputs of a first layer, or weights that are constants."""
    given = [leaf.requires_grad_(on) for leaf, on in zip(leaves(2, UNEQUAL), needed, strict=True)]
    made = kernel(2, **UNEQUAL)
    found = differentiated(lambda *three: apply(made, *three), given)
    assert_same(found, differentiated(lambda *three: functional.conv2d(*three, **UNEQUAL), given))
    assert gradgradcheck(lambda *three: apply(made, *three), given, fast_mode=True)


@pytest.mark.parametrize(("asked", "by", "axes"), crossed(PARTS, PARTS, [1, 2]))
def test_any_of_the_three_directions_may_be_missing(axes: int, asked: tuple[bool, ...], by: tuple[bool, ...]):
    """The first derivatives x', w', b' along u, a, c, differentiated by the slope g, x and w, some of each."""
    words = OPTIONS["all"]

    def products(function: Callable[..., Tensor]) -> list[Tensor | None]:
        given = leaves(axes, words)
        answer = function(*given)
        slope = numbers(*answer.shape, seed=3).requires_grad_()
        slopes = torch.autograd.grad(answer, given, slope, create_graph=True)
        some = [one for one, on in zip(slopes, asked, strict=True) if on]
        along = [numbers(*one.shape, seed=4) for one in some]
        wanted = [one for one, on in zip((slope, *given[:2]), by, strict=True) if on]
        return list(torch.autograd.grad(some, wanted, along, allow_unused=True, materialize_grads=True))

    found = products(lambda *three: apply(kernel(axes, **words), *three))
    assert_same(found, products(lambda *three: TORCHS[axes](*three, **words)))


def test_an_answer_that_is_known_is_taken_and_never_differentiated():
    given, made, calls = leaves(2, UNEQUAL), kernel(2, **UNEQUAL), []
    wanted = functional.conv2d(*given, **UNEQUAL)

    def known() -> Tensor:
        calls.append("known")
        return wanted.detach() + 1

    answer = apply(made, *given, known)
    assert torch.equal(answer, wanted + 1)
    slope = numbers(*answer.shape)
    assert_same(*(list(torch.autograd.grad(one, given, slope)) for one in (answer, wanted)))
    assert gradgradcheck(lambda *three: apply(made, *three, known=lambda: made(*(one.detach() for one in three))), given)
    assert calls == ["known"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_layout_in_memory_will_do(dtype: torch.dtype):
    inputs, weight, bias = (leaf.detach().to(dtype) for leaf in leaves(2, {}))
    made = kernel(2, padding=1)
    layouts = [
        inputs,
        inputs.contiguous(memory_format=torch.channels_last),
        inputs.transpose(2, 3).contiguous().transpose(2, 3),
        inputs[:1].expand_as(inputs),
    ]
    for layout in layouts:
        given = [layout.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
        found = differentiated(lambda *three: apply(made, *three), given)
        wanted = differentiated(
            lambda *three: functional.conv2d(*three, padding=1), [one.detach().double().requires_grad_() for one in given]
        )
        assert_same(found, wanted, 1e-12 if dtype == torch.float64 else 2e-5)
    answer = apply(made, *given)
    (spread,) = torch.autograd.grad(answer.sum(), bias)  # A slope that is one number, expanded.
    assert_same([spread], [torch.full_like(bias, answer[:, 0].numel())])


def test_a_product_takes_six_times_the_work_of_one_forward_pass():
    inputs, weight = numbers(2, 3, 8, 8).requires_grad_(), numbers(4, 3, 3, 3).requires_grad_()
    with FlopCounterMode(display=False) as forward:
        answer = apply(kernel(2), inputs, weight, None)
    slopes = torch.autograd.grad(answer.square().sum(), (inputs, weight), create_graph=True)
    with FlopCounterMode(display=False) as product:
        torch.autograd.grad(slopes, (inputs, weight), (inputs.detach(), weight.detach()))
    assert product.get_total_flops() == 6 * forward.get_total_flops() > 0


@pytest.mark.cpu
@onednn
@pytest.mark.parametrize("shape", [(5, 3), (1, 3), (2, 4, 3), (2, 1, 3), (3, 2, 2, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("width", [1, 4])
def test_matrix_products_by_onednn_are_those_of_torch(shape: tuple[int, ...], bias: bool, width: int):
    given = [numbers(*shape), numbers(width, shape[-1], seed=1), numbers(width, seed=2)][: 2 + bias]
    wanted = differentiated(functional.linear, [one.clone().requires_grad_() for one in given])
    single = [one.float().requires_grad_() for one in given]
    assert_same(differentiated(lambda x, w, b=None: apply(gemm.MatrixProduct(), x, w, b), single), wanted, 2e-5)


@pytest.mark.cpu
@onednn
def test_matrix_products_take_any_layout_in_memory():
    weight = numbers(4, 3, seed=1).float()
    for inputs in (numbers(3, 5).T, numbers(3).expand(5, 3), numbers(5, 6)[:, ::2], numbers(2, 3, 5).transpose(1, 2)):
        given = [inputs.float().detach(), weight]
        for one in given:
            one.requires_grad_()
        found = differentiated(lambda *two: apply(gemm.MatrixProduct(), *two, None), given)
        assert_same(found, differentiated(functional.linear, [one.detach().double().requires_grad_() for one in given]), 2e-5)
    (slope,) = torch.autograd.grad(apply(gemm.MatrixProduct(), *given, None).sum(), given[:1])
    assert_same([slope], [weight.sum(0).expand_as(slope)], 2e-5)


@pytest.mark.cpu
@onednn
@pytest.mark.parametrize(
    ("seconds", "faster"), [((2.0, 1.0), True), ((1.0, 2.0), False), ((1.2, 1.0), False), ((1.3, 1.0), True)]
)
def test_onednn_is_taken_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, float], faster: bool
):
    moments = iter(seconds)
    monkeypatch.setattr(gemm, "_seconds", lambda _: next(moments))
    assert gemm.is_faster.__wrapped__() is faster


@pytest.mark.cpu
def test_onednn_is_left_out_where_it_does_not_apply(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gemm, "is_faster", lambda: True)
    table, weight = torch.ones(5, 3), torch.ones(4, 3)
    assert gemm.applies(table, weight)
    for inputs, other in ((table[0], weight), (table.double(), weight.double()), (table, weight[0]), (table[:0], weight)):
        assert not gemm.applies(inputs, other)
    monkeypatch.setattr(gemm, "is_faster", lambda: False)
    assert not gemm.applies(table, weight)


@pytest.mark.cpu
def test_where_torch_has_no_onednn_nothing_is_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(gemm, "_seconds", None)
    assert gemm.is_faster.__wrapped__() is False
