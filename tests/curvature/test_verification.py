"""The check that holds every engine to double backward: who is used, who is not, and what it costs to find out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.debugging import aot_eager

from sharpcli.curvature import double_backward, forward_over_reverse
from sharpcli.curvature.hessian import HessianOperator
from sharpcli.curvature.verification import verify
from sharpcli.kernels import bilinear
from sharpcli.objective import Objective
from tests.curvature.test_engines import FORWARD, WORDS, made, patched, plain, state, use_backend
from tests.lanes import slow
from tests.nets import exact, objective, relative, vector_for

Named = dict[str, Tensor]
Change = Callable[[Named, int, torch.dtype], Named]


def scaled(by: float) -> Change:
    return lambda found, *_: {name: by * part for name, part in found.items()}


def changed(monkeypatch: pytest.MonkeyPatch, change: Change) -> list[tuple[int, torch.dtype]]:
    """Change the products of forward over reverse; return a list that each of them adds samples and precision to."""
    calls: list[tuple[int, torch.dtype]] = []

    def product(right: Callable[..., Named], _: Objective) -> Callable[..., Named]:
        def run(parameters: Named, directions: Named, inputs: Tensor, targets: Tensor) -> Named:
            calls.append((len(inputs), inputs.dtype))
            return change(right(parameters, directions, inputs, targets), len(calls), inputs.dtype)

        return run

    patched(monkeypatch, product)
    return calls


@pytest.fixture
def as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile nothing: what counts as compiled is checked in another way, whatever the compiler makes of it."""
    monkeypatch.setattr(forward_over_reverse, "compile_whole", lambda run, _: run)


# What is looked at.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_engine_is_checked_on_a_few_samples_twice(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype):
    calls = changed(monkeypatch, scaled(1))
    _, messages = made(objective("mlp", dtype=str(dtype).removeprefix("torch."), chunk_size=50))
    assert messages == []
    assert calls == [(4, dtype)] * 2


@pytest.mark.parametrize(("size", "sizes"), [(50, [50, 50, 3, 3]), (None, [103, 103]), (1, [1, 1])])
def test_a_compiled_engine_is_checked_on_the_first_and_on_a_ragged_last_chunk(
    monkeypatch: pytest.MonkeyPatch, as_they_are: None, size: int | None, sizes: list[int]
):
    calls = changed(monkeypatch, scaled(1))
    _, messages = made(objective("mlp", dtype="float32", chunk_size=size), compiled=True)
    assert messages == []
    assert [samples for samples, _ in calls] == sizes


class Worn:
    """An engine whose graphs answer another thing when they are asked again."""

    words, keeps, compiled = "worn", True, False

    def __init__(self, problem: Objective, again: float) -> None:
        self.inner, self.again, self.kept = HessianOperator.make("double-backward", problem), again, list[bool]()

    def differentiate(self, chunk: Any, leaves: Any) -> Any:
        return WornGraph(self.inner.differentiate(chunk, leaves), self)


class WornGraph:
    def __init__(self, graph: Any, engine: Worn) -> None:
        self.graph, self.engine, self.factor = graph, engine, 1.0

    def product(self, parts: Any, *, keep: bool) -> list[Tensor]:
        self.engine.kept.append(keep)
        found = [self.factor * part for part in self.graph.product(parts, keep=keep)]
        self.factor = self.engine.again
        return found


@pytest.mark.parametrize(("again", "usable"), [(1, True), (1.01, False)])
def test_an_engine_that_keeps_graphs_is_asked_twice_with_one(again: float, usable: bool):
    problem = objective("mlp")
    engine = Worn(problem, again)
    verdict = verify(engine, None, lambda one: HessianOperator.make("double-backward", one), problem, problem.parameters())
    assert verdict.usable == usable
    assert engine.kept == [True, False]


@pytest.mark.parametrize("wrong", [1, 2])
def test_both_of_the_two_products_must_be_right(monkeypatch: pytest.MonkeyPatch, wrong: int):
    changed(monkeypatch, lambda found, call, _: scaled(1 + 0.1 * (call == wrong))(found))
    problem = objective("mlp", dtype="float32", chunk_size=50)
    operator, messages = made(problem)
    assert messages == ["The engine forward over reverse was off by 0.1; double backward is used instead."]
    assert operator.engine == "double backward (forward over reverse was off by 0.1)"
    assert torch.equal(operator @ vector_for(problem).float(), plain(problem))


@pytest.mark.parametrize("wrong", [1, 2, 3, 4], ids=lambda call: f"from call {call} on")
def test_two_calls_over_the_first_and_over_the_ragged_last_chunk_must_agree(
    monkeypatch: pytest.MonkeyPatch, as_they_are: None, wrong: int
):
    calls = changed(monkeypatch, lambda found, call, _: scaled(1 + 1e-4 * (call >= wrong))(found))
    problem = objective("mlp", dtype="float32", chunk_size=50)
    operator, messages = made(problem, compiled=True)
    assert {samples for samples, _ in calls} == {50, 3} if wrong > 2 else {50}
    name = "forward over reverse, compiled but for the last chunk"
    assert messages == [f"The engine {name} was off by 0.0001; double backward is used instead."]
    assert torch.equal(operator @ vector_for(problem).float(), plain(problem))


# How far an engine may be off.


@pytest.mark.parametrize(("factor", "used"), [(0.8, True), (1.2, False)])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-10)])
def test_how_far_an_engine_may_be_off(monkeypatch: pytest.MonkeyPatch, dtype: str, bound: float, factor: float, used: bool):
    """In float32 float64 would be asked, where this one is off by as much."""
    calls = changed(monkeypatch, scaled(1 + factor * bound))
    operator, messages = made(objective("mlp", dtype=dtype))
    assert operator.engine.startswith("forward over reverse") == used == (not messages)
    precisions = {str(precision) for _, precision in calls}
    assert precisions == {f"torch.{dtype}"} | ({"torch.float64"} if not used else set())


@pytest.mark.parametrize(
    ("single", "double", "words"),
    [
        (1e-4, 0, "verified against double backward to 0.0001"),  # As if rounding put the input of a ReLU elsewhere.
        (9e-3, 0, "verified against double backward to 0.009"),
        (1e-4, 8e-11, "verified against double backward to 0.0001"),
        (1e-4, 1.2e-10, "was off by 0.0001"),
        (1e-4, 1e-4, "was off by 0.0001"),
        (2e-2, 0, "was off by 0.02"),  # No rounding does that.
    ],
)
def test_float64_decides_where_float32_disagrees(monkeypatch: pytest.MonkeyPatch, single: float, double: float, words: str):
    off = {torch.float32: single, torch.float64: double}
    calls = changed(monkeypatch, lambda found, _, dtype: scaled(1 + off[dtype])(found))
    operator, messages = made(objective("mlp", dtype="float32"))
    if words.startswith("verified"):
        assert messages == []
        assert operator.engine == f"forward over reverse, {words}"
    else:
        assert messages == [f"The engine forward over reverse {words}; double backward is used instead."]
        assert operator.engine == f"double backward (forward over reverse {words})"
    assert calls == [(4, torch.float32)] * 2 + [(4, torch.float64)] * (2 if single < 1e-2 else 0)


def test_the_second_product_in_float64_must_be_right_too(monkeypatch: pytest.MonkeyPatch):
    changed(monkeypatch, lambda found, call, _: scaled(1 + 1e-4 * (call in (1, 4)))(found))
    _, messages = made(objective("mlp", dtype="float32"))
    assert messages == ["The engine forward over reverse was off by 0.0001; double backward is used instead."]


@pytest.mark.parametrize(("times", "used"), [(1, True), (2.9, True), (-2.9, True), (3.1, False), (-3.1, False)])
def test_a_compiled_engine_may_be_three_times_as_far_from_float64_as_double_backward(
    monkeypatch: pytest.MonkeyPatch, as_they_are: None, times: float, used: bool
):
    """It cannot be made again for float64, so it is compared with what double backward is there."""
    rounding, right = 1e-3, double_backward.Gradient.product

    def rounded(self: Any, parts: Any, *, keep: bool) -> list[Tensor]:
        found = right(self, parts, keep=keep)
        return [part * (1 + rounding) if part.dtype == torch.float32 else part for part in found]

    monkeypatch.setattr(double_backward.Gradient, "product", rounded)
    changed(monkeypatch, scaled(1 + times * rounding))
    _, messages = made(objective("mlp", dtype="float32"), compiled=True)
    assert (not messages) == used


def test_the_farther_of_two_chunks_is_told(monkeypatch: pytest.MonkeyPatch, as_they_are: None):
    changed(monkeypatch, lambda found, call, _: scaled(1 + (4e-6 if call == 1 else 2e-6))(found))
    operator, messages = made(objective("mlp", dtype="float32", chunk_size=50), compiled=True)
    assert messages == []
    assert operator.engine.endswith("verified against double backward to 4e-6")


# Engines that are wrong, or fail: how they get in here is a broken backend of the compiler, or a broken product.


def times(*factors: float) -> Callable[..., Any]:
    """Return a backend whose kernels answer as they should times the factors in turn; the last one stays."""
    calls = iter(factors)
    last = factors[-1]

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        run = aot_eager(graph, inputs)

        def kernel(*arguments: Any) -> Any:
            factor = next(calls, last)
            return [answer * factor for answer in run(*arguments)]

        return kernel

    return backend


def raising(error: BaseException) -> Callable[..., Any]:
    def backend(graph: Any, inputs: Any) -> Any:
        raise error

    return backend


@pytest.mark.parametrize(
    ("engine", "backend", "words"),
    [
        (FORWARD, times(1.001), "was off by 0.001"),
        (FORWARD, times(1.0, 1.001), "was off by 0.001"),  # Right once, wrong the second time.
        slow("linearize", times(1.0, 1.001), "was off by 0.001"),
        (FORWARD, times(float("nan")), "was off by inf"),
        (FORWARD, raising(NotImplementedError("no such kernel.\nat length")), "failed: "),
        slow("linearize", raising(NotImplementedError("no such kernel.\nat length")), "failed: "),
    ],
    ids=["wrong", "the second time", "traced, the second time", "nan", "raises", "traced, raises"],
)
def test_a_wrong_kernel_is_found_and_double_backward_used(
    monkeypatch: pytest.MonkeyPatch, engine: str, backend: Callable[..., Any], words: str
):
    use_backend(monkeypatch, backend)
    problem = objective("mlp", dtype="float32")
    operator, messages = made(problem, engine, compiled=True)
    assert len(messages) == 1
    assert messages[0].startswith(f"The engine {WORDS[engine]}, compiled {words}")
    assert messages[0].endswith("; double backward is used instead.")
    assert operator.engine.startswith(f"double backward ({WORDS[engine]}, compiled {words}")
    assert torch.equal(operator @ vector_for(problem).float(), plain(problem))
    assert operator.engine.startswith(f"double backward, graphs kept for 1 of 1 chunks ({WORDS[engine]}, compiled {words}")


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_a_wrong_kernel_of_our_own_is_found(monkeypatch: pytest.MonkeyPatch, kind: str):
    right = bilinear._turned
    monkeypatch.setattr(bilinear, "_turned", lambda *given: None if (found := right(*given)) is None else 1.01 * found)
    problem = objective("conv")
    operator, messages = made(problem, "fused", kind)
    assert len(messages) == 1
    assert " was off by 0.0" in messages[0]
    assert messages[0].endswith(
        f"; {'double backward' if kind == 'hessian' else 'Jacobian products by double backward'} is used instead."
    )
    assert relative(operator @ vector_for(problem), exact(kind, "conv") @ vector_for(problem)) < 1e-10


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("no such thing.\nsecond line"), "failed: no such thing"),
        (RuntimeError("\n\n  indented  \n"), "failed: indented"),
        (ZeroDivisionError(), "failed: ZeroDivisionError"),
        (RuntimeError("x" * 1000), "failed: " + 200 * "x"),
        (MemoryError("out of memory"), "failed: out of memory"),
    ],
    ids=["two lines", "blank lines", "no words", "long", "memory"],
)
def test_an_engine_that_raises_is_not_used(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str):
    def fail(found: Named, call: int, dtype: torch.dtype) -> Named:
        raise error

    changed(monkeypatch, fail)
    operator, messages = made(objective("mlp"))
    assert messages == [f"The engine forward over reverse {words}; double backward is used instead."]
    assert operator.engine == f"double backward (forward over reverse {words})"


def test_what_is_not_a_number_is_not_used(monkeypatch: pytest.MonkeyPatch):
    changed(monkeypatch, scaled(float("nan")))
    _, messages = made(objective("mlp", dtype="float32"))
    assert messages == ["The engine forward over reverse was off by inf; double backward is used instead."]


class Constant:
    """An engine that answers the same number everywhere."""

    words, keeps, compiled = "constant", False, False

    def __init__(self, value: float) -> None:
        self.value = value

    def differentiate(self, *_: Any) -> Constant:
        return self

    def product(self, parts: Any, **_: Any) -> list[Tensor]:
        return [torch.full_like(part, self.value) for part in parts]


def test_where_double_backward_gives_zeros_differences_have_no_scale():
    problem = objective("mlp")
    for value, usable in ((0, True), (1e-9, False)):
        verdict = verify(Constant(value), None, lambda _: Constant(0), problem, problem.parameters())
        assert verdict.usable == usable


def test_what_double_backward_raises_is_not_held_against_another(monkeypatch: pytest.MonkeyPatch):
    def fail(self: Any, parts: Any, *, keep: bool) -> Any:
        raise RuntimeError("no second derivative")

    monkeypatch.setattr(double_backward.Gradient, "product", fail)
    with pytest.raises(RuntimeError, match="no second derivative"):
        made(objective("mlp"))


@pytest.mark.parametrize("where", ["product", "compiler"])
def test_an_interruption_passes_through(monkeypatch: pytest.MonkeyPatch, where: str):
    def interrupted(found: Named, call: int, dtype: torch.dtype) -> Named:
        raise KeyboardInterrupt

    problem = objective("mlp")
    if where == "compiler":
        use_backend(monkeypatch, raising(KeyboardInterrupt()))
    else:
        changed(monkeypatch, interrupted)
    before = state()
    with pytest.raises(KeyboardInterrupt):
        made(problem, compiled=where == "compiler")
    assert state() == before


def test_third_parties_do_not_warn_the_user(monkeypatch: pytest.MonkeyPatch):
    """Nor stop the engine where warnings are errors, as they are here."""

    def warned(found: Named, call: int, dtype: torch.dtype) -> Named:
        warnings.warn("this will be removed", FutureWarning, stacklevel=1)
        return found

    changed(monkeypatch, warned)
    operator, messages = made(objective("mlp"))
    assert messages == []
    assert operator.engine.startswith("forward over reverse, ")
