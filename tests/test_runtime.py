import pytest
import torch

from sharpcli.errors import InputError, SettingsError
from sharpcli.runtime import Runtime, exact_arithmetic, generator
from sharpcli.settings import HessianSettings


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


@pytest.mark.parametrize("number", ["", ":0", ":7"])
def test_a_device_that_is_not_there_is_told(number: str):
    if torch.cuda.device_count() > int(number[1:] or 0):
        pytest.skip("it is there")
    with pytest.raises(InputError, match=f"no device cuda{number} on this machine"):
        Runtime.open(f"cuda{number}")


def test_a_device_may_have_a_number():
    assert HessianSettings(device="cuda:1").device == "cuda:1"
    for wrong in ("cuda:", "cuda:x", "cuda:-1", "cpu:0", "cuda1"):
        with pytest.raises(SettingsError, match="device"):
            HessianSettings(device=wrong)
