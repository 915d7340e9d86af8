"""Where memory runs out: graphs are given up, then fewer samples pass at once, and the answer is the same."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpcli import progress
from sharpcli.curvature import forward_over_reverse
from sharpcli.curvature.kept import KeptGraphs
from sharpcli.curvature.linearized import LinearMap
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.operators import OPERATORS, operator_of
from sharpcli.errors import InputError, is_out_of_memory
from sharpcli.objective import Objective
from tests.device import on_device
from tests.lanes import crossed
from tests.nets import NUM_SAMPLES, Limited, exact, images, made_model, normed_mlp, relative, unsettled, vector_for

EXACT = on_device("float64")
FORWARD = "forward-over-reverse"
FEWER = "Not enough memory: fewer graphs are stored, so products take longer."
ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
        "20971520 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "windows": RuntimeError("[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried to"),
    "python": MemoryError(),
}
CASES = [(kind, "double-backward") for kind in OPERATORS] + [("hessian", "fused"), ("ggn", "fused"), ("hessian", FORWARD)]


def limited(error: str = "cuda", name: str = "mlp", **options: Any) -> Objective:
    """Return the objective of a net that any number of samples fits into, so far."""
    return Objective.of(Limited(made_model(name), ERRORS[error]), *images(), runtime=EXACT, **options)


def operator_at(problem: Objective, kind: str = "hessian", **options: Any) -> CurvatureOperator:
    return operator_of(kind, problem, problem.parameters(), **options)


def shrunk(*sizes: int) -> list[str]:
    return [
        f"Not enough memory for {size} samples per pass: continuing with {fewer}."
        for size, fewer in zip(sizes, sizes[1:], strict=False)
    ]


# Fewer samples at once.


@pytest.mark.parametrize(("case", "error"), crossed(CASES, ERRORS))
def test_a_product_is_the_same_with_as_many_samples_as_fit(case: tuple[str, str], error: str):
    kind, engine = case
    problem = limited(error)
    operator, vector = operator_at(problem, kind, engine=engine), vector_for(problem)
    problem.model.most = 30
    wanted = exact(kind, "mlp") @ vector
    with progress.gathering() as messages:
        for number in (1, 2):
            assert relative(operator @ vector, wanted) < 1e-12
            assert operator.products == number
    assert messages == shrunk(103, 52, 26)
    assert operator.objective.chunk_size == 26
    assert operator.engine_name == engine
    assert len(operator._kept) == (0 if engine == FORWARD else 4)


@pytest.mark.parametrize("kind", OPERATORS)
def test_quadratic_forms_are_the_same_too(kind: str):
    problem = limited()
    operator, vector = operator_at(problem, kind), vector_for(problem)
    wanted = operator.quadratic_forms(vector, groups=2, seed=0)
    problem.model.most = 20
    with progress.gathering() as messages:
        found = operator.quadratic_forms(vector, groups=2, seed=0)
    assert messages == shrunk(103, 52, 26, 13)
    assert relative(found.product, wanted.product) < 1e-12
    assert relative(found.forms, wanted.forms) < 1e-12
    assert torch.equal(found.weights, wanted.weights)
    assert operator.products == 2


def test_what_the_caller_gave_is_left_as_it_was():
    problem = limited()
    operator = operator_at(problem)
    problem.model.most = 10
    operator @ vector_for(problem)
    assert problem.chunk_size == NUM_SAMPLES
    assert operator.objective.chunk_size == 7
    assert operator.objective.inputs is problem.inputs


def test_one_sample_at_once_is_the_least():
    problem = limited()
    operator, vector = operator_at(problem), vector_for(problem)
    problem.model.most = 1
    assert relative(operator @ vector, exact("hessian", "mlp") @ vector) < 1e-12
    assert operator.objective.chunk_size == 1


@pytest.mark.parametrize("chunk_size", [None, 1])
def test_where_not_even_one_sample_fits_that_is_said(chunk_size: int | None):
    problem = limited(chunk_size=chunk_size)
    operator = operator_at(problem)
    problem.model.most = 0
    for work in (
        lambda: operator @ vector_for(problem),
        lambda: operator.quadratic_forms(vector_for(problem), groups=2, seed=0),
    ):
        with progress.gathering() as messages, pytest.raises(InputError, match="second derivative of one sample"):
            work()
        assert messages == (shrunk(103, 52, 26, 13, 7, 4, 2, 1) if chunk_size is None else [])
        chunk_size = 1


def test_a_block_of_batch_statistics_is_not_cut():
    model = Limited(unsettled(normed_mlp()), ERRORS["cuda"])
    problem = Objective.of(model, *images(), runtime=EXACT, bn="batch", bn_block=30)
    operator = operator_at(problem)
    product = operator @ vector_for(problem)
    operator = operator_at(problem)
    problem.model.most = 29
    with progress.gathering() as messages, pytest.raises(InputError, match="one block of 30 samples") as error:
        operator @ vector_for(problem)
    assert messages == []
    assert "--bn-block" in error.value.hint
    problem.model.most = 30
    assert torch.equal(operator @ vector_for(problem), product)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("out of range"), KeyboardInterrupt()])
def test_other_errors_pass_through(error: BaseException):
    problem = limited()
    operator = operator_at(problem)
    problem.model.most, problem.model.error = 30, error
    with progress.gathering() as messages, pytest.raises(type(error)) as caught:
        operator @ vector_for(problem)
    assert caught.value is error
    assert messages == []
    assert operator.objective.chunk_size == NUM_SAMPLES


def test_which_errors_say_that_memory_has_run_out():
    assert all(map(is_out_of_memory, ERRORS.values()))
    assert not any(map(is_out_of_memory, (RuntimeError("index out of range"), ValueError(), KeyError("memory"))))


def test_a_compiled_engine_is_checked_on_as_many_samples_as_fit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forward_over_reverse, "compile_whole", lambda run, _: run)
    problem = limited()
    problem.model.most = 60
    with progress.gathering() as messages:
        operator = operator_at(problem, engine=FORWARD, compiled=True)
    assert messages == shrunk(103, 52)
    assert operator.engine.startswith("forward over reverse, compiled but for the last chunk, verified against double backward")
    assert relative(operator @ vector_for(problem), exact("hessian", "mlp") @ vector_for(problem)) < 1e-12


# Graphs before samples.


class Crowded(nn.Module):
    """Stands for memory that kept graphs fill: no sample passes where there are too many of them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.kept = inner, list[Any]()  # What tells how many there are and how many may be.

    def __deepcopy__(self, memo: Any) -> Crowded:
        return Crowded(copy.deepcopy(self.inner, memo))

    def forward(self, inputs: Tensor) -> Tensor:
        for operator, most in self.kept:
            if len(operator._kept) > most:
                raise ERRORS["cuda"]
        return self.inner(inputs)


def crowded(most: int, **options: Any) -> CurvatureOperator:
    """Return an operator over eleven chunks, next to which no more than so many graphs fit."""
    problem = Objective.of(Crowded(made_model("mlp")), *images(), runtime=EXACT, chunk_size=10)
    operator = operator_at(problem, **options)
    operator.objective.model.kept.append((operator, most))
    return operator


@pytest.mark.parametrize(("most", "kept"), [(9, 5), (5, 3), (2, 1), (0, 0)])
def test_graphs_are_given_up_before_samples_are(most: int, kept: int):
    """Half of them at a time."""
    operator = crowded(most)
    vector = vector_for(operator.objective)
    with progress.gathering() as messages:
        for _ in range(3):
            assert relative(operator @ vector, exact("hessian", "mlp") @ vector) < 1e-12
    assert messages == [FEWER]  # Once, however often.
    assert len(operator._kept) == kept
    assert operator.objective.chunk_size == 10
    assert operator.engine == f"double backward, graphs kept for {kept} of 11 chunks"


def test_the_product_that_verifies_can_have_their_place():
    operator = crowded(11)
    vector = vector_for(operator.objective)
    product = operator @ vector
    assert len(operator._kept) == 11
    operator.objective.model.kept[0] = (operator, 2)
    with progress.gathering() as messages:
        found = operator.quadratic_forms(vector, groups=3, seed=0).product
    assert messages == [FEWER]
    assert relative(found, product) < 1e-12
    assert len(operator._kept) == 0
    assert torch.equal(operator @ vector, product)


@pytest.mark.slow
@pytest.mark.parametrize("counted", [True, False])
def test_graphs_of_which_nothing_is_known_are_given_up_too(monkeypatch: pytest.MonkeyPatch, counted: bool):
    if not counted:
        monkeypatch.setattr(LinearMap, "saved_bytes", lambda _: 0)
    problem = Objective.of(Crowded(made_model("mlp")), *images(), runtime=EXACT, chunk_size=60)
    operator = operator_at(problem, engine="linearize")
    operator.objective.model.kept.append((operator, 0))
    offers, offer = [], KeptGraphs.offer

    def counting(kept: KeptGraphs, *given: Any) -> None:
        offers.append(given[0].number)
        assert len(offers) < 10, "there is no end to it"
        offer(kept, *given)

    monkeypatch.setattr(KeptGraphs, "offer", counting)
    with progress.gathering() as messages:
        product = operator @ vector_for(problem)
    assert messages == [FEWER]
    assert len(operator._kept) == 0
    assert relative(product, exact("hessian", "mlp") @ vector_for(problem)) < 1e-12


# For once, memory that really runs out.

REAL = """
import resource, sys
import torch
from torch import nn
from sharpcli import progress
from sharpcli.curvature.operators import operator_of
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime

torch.set_num_threads(1)
WIDTH, SAMPLES, MIB = 20_000, 256, 2**20  # An activation of all samples takes 20 MiB, what is kept of one pass ten times that.


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.out = nn.Parameter(torch.linspace(-1, 1, WIDTH)), nn.Parameter(torch.linspace(1, 2, WIDTH))

    def forward(self, inputs):
        return (torch.sin(torch.tanh(inputs * self.weight)) * self.out).mean(1, keepdim=True)


inputs, targets = torch.linspace(-2, 2, SAMPLES)[:, None], torch.linspace(0, 1, SAMPLES)[:, None]
problem = Objective.of(Wide(), inputs, targets, loss="mse", runtime=Runtime.open("cpu", "float32"), chunk_size=SAMPLES)
vector = torch.cos(torch.arange(2 * WIDTH, dtype=torch.float32))
small = Objective.of(Wide(), inputs, targets, loss="mse", runtime=problem.runtime, chunk_size=4)
wanted = operator_of("hessian", small, small.parameters(), memory=0) @ vector
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]) * MIB,) * 2)
operator = operator_of("hessian", problem, problem.parameters(), memory=int(sys.argv[2]) * MIB)
with progress.gathering() as messages:
    for _ in range(2):
        product = operator @ vector
        print(float((product - wanted).norm() / wanted.norm()))
print(operator.objective.chunk_size, len(operator._kept), *messages, sep="\\n")
"""


@pytest.mark.cpu
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are those of Linux")
@pytest.mark.parametrize("memory", [10_000, 0], ids=["kept", "nothing kept"])
def test_memory_that_really_runs_out(memory: int):
    line = [sys.executable, "-c", REAL, "120", str(memory)]
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    first, second, size, _, *messages = done.stdout.splitlines()
    assert max(float(first), float(second)) < 1e-5
    assert 4 <= int(size) < 256
    assert shrunk(256, 128)[0] in messages
    assert (FEWER in messages) == (memory > 0)
