import pytest
import torch

from sharpcli.runtime import exact_arithmetic, generator


def _precision() -> tuple[object, ...]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        return matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, cudnn.enabled
    return matmul.allow_tf32, cudnn.allow_tf32, cudnn.enabled


def test_tf32_is_off_inside_and_as_before_afterwards_also_after_ctrl_c():
    before = _precision()
    inside: list[tuple[object, ...]] = []

    def interrupted() -> None:
        with exact_arithmetic(recurrent=True):
            inside.append(_precision())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert inside[0][-1] is False
    assert set(inside[0][:-1]) <= {"ieee", False}
    assert _precision() == before


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="an older torch")
def test_a_callers_choice_of_precision_is_put_back():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        with exact_arithmetic():
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_streams_of_seeds_differ_and_repeat():
    draws = [torch.rand(4, generator=generator(*seeds)).tolist() for seeds in ((0,), (1,), (0, 1), (1, 0), (0, 1))]
    assert draws[2] == draws[4]
    assert len({tuple(draw) for draw in draws}) == 4
