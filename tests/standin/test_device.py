"""The stand-in device refuses what CUDA refuses, waits where CUDA waits, and has the numbers of the CPU."""

from __future__ import annotations

import json

import pytest

from tests.standin.running import needs_stand_in, on_stand_in

pytestmark = [needs_stand_in, pytest.mark.cpu]

REFUSED = {
    "a tensor of the CPU": ("torch.ones(2, device='cuda') + torch.ones(2)", "on the same device"),
    "a tensor of the CPU, written to": ("torch.ones(2).add_(torch.ones(2, device='cuda'))", "on the same device"),
    "a tensor of the CPU in a backward pass": (
        "torch.autograd.grad(Mixed.apply(torch.ones(2, device='cuda', requires_grad=True)).sum(), every)",
        "on the same device",
    ),
    "numbers for NumPy": ("torch.ones(2, device='cuda').numpy()", "can't convert cuda:0"),
    "a generator of the CPU": (
        "torch.randn(2, device='cuda', generator=torch.Generator())",
        "Expected a 'cuda' device type for generator",
    ),
    "a product of integers": ("torch.ones(2, 2, dtype=torch.long, device='cuda') @ whole", "not implemented for"),
    "weights of the CPU": ("torch.nn.Linear(2, 2)(torch.ones(1, 2, device='cuda'))", "on the same device"),
}
BEFORE = """
class Mixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        every.append(x)
        return 2 * x
    @staticmethod
    def backward(ctx, slope):
        return slope * torch.ones(2)
every = []
whole = torch.ones(2, 2, dtype=torch.long, device='cuda')
"""


def test_what_cuda_refuses_is_refused() -> None:
    program = f"""{BEFORE}
for code in {[code for code, _ in REFUSED.values()]!r}:
    try:
        eval(code)
        print("accepted")
    except Exception as error:
        print(str(error).replace(chr(10), " "))
"""
    said = on_stand_in(program).splitlines()
    assert len(said) == len(REFUSED)
    for (_, message), line in zip(REFUSED.values(), said, strict=True):
        assert message in line


WAITS = {
    "float(x.sum())": {"number to the host": 1},
    "x.cpu()": {"to the host": 1},
    "x.tolist()": {"to the host": 1},
    "torch.ones(2).to('cuda')": {"to the device": 1},
    "x[x > 0]": {"wait of a mask": 1},
    "torch.linalg.eigh(x)": {"wait of _linalg_eigh": 1},
    "torch.equal(x, x)": {"wait of equal": 1},
    "torch.cuda.synchronize()": {"synchronize": 1},
    "(x @ x).relu().sum() * 2 + torch.tensor(3.0)": {},
    "x.to(torch.float64).to('cuda')": {},
    "torch.zeros_like(x, device='cpu')": {},
}


def test_waits_are_counted() -> None:
    program = f"""
from collections import Counter
x = torch.rand(3, 3, device='cuda')
for code in {list(WAITS)!r}:
    device.events.clear()
    eval(code)
    counts = Counter()
    for (kind, _), count in device.events.items():
        counts[kind] += count
    print(json.dumps(counts))
"""
    said = [json.loads(line) for line in on_stand_in(program).splitlines()]
    assert dict(zip(WAITS, said, strict=True)) == WAITS


def test_float32_is_rounded_to_tf32_only_where_torch_is_told_to() -> None:
    program = """
from sharpcli.runtime import exact_arithmetic
x, image, filters = (torch.rand(*shape, device='cuda') for shape in ((3, 3), (1, 2, 5, 5), (2, 2, 3, 3)))
def counted():
    device.events.clear()
    x @ x
    torch.nn.functional.conv2d(image, filters)
    return sum(count for (kind, _), count in device.events.items() if kind == 'rounded to TF32')
print(counted())
torch.backends.cuda.matmul.fp32_precision = 'tf32'
print(counted())
with exact_arithmetic():
    print(counted())
"""
    assert on_stand_in(program).split() == ["1", "2", "0"]  # Torch lets convolutions use TF32 unless told otherwise.


def test_derivatives_and_random_numbers_are_those_of_torch() -> None:
    program = """
from torch.nn import BatchNorm2d, Conv2d, Flatten, Linear, Sequential, Tanh
net = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), Tanh(), Flatten(), Linear(18, 3))
net.double()
x = torch.randn(4, 1, 5, 5, dtype=torch.float64)
def product(net, x):
    parts = list(net.parameters())
    loss = torch.nn.functional.cross_entropy(net(x), torch.arange(4, device=x.device) % 3)
    slopes = torch.autograd.grad(loss, parts, create_graph=True)
    length = sum(slope.square().sum() for slope in slopes)
    return torch.cat([part.flatten() for part in torch.autograd.grad(length, parts)])
here = product(net, x)
assert all(isinstance(part, torch.nn.Parameter) for part in net.to('cuda').parameters())
there = product(net, x.to('cuda'))
print(there.device, float((here - there.cpu()).abs().max()) < 1e-12)
before = torch.get_rng_state()
torch.rand(5, device='cuda')
print(torch.equal(before, torch.get_rng_state()))
"""
    assert on_stand_in(program).split() == ["cuda:0", "True", "True"]
