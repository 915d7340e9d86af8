"""Engines: every one gives the explicit matrix, also where torch's own compositions do not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.debugging import aot_eager

from sharpcli import progress
from sharpcli.curvature import forward_over_reverse, linearized
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.operators import OPERATORS, operator_kind, operator_of
from sharpcli.errors import InputError, SettingsError
from sharpcli.objective import Objective
from sharpcli.settings import HessianSettings
from tests.curvature.test_groups import snapshot, switches
from tests.curvature.test_hessian import Odd
from tests.device import DEVICE, on_device
from tests.lanes import slow, thinned
from tests.nets import (
    NETS,
    TEXT_NETS,
    Once,
    Residual,
    Tagger,
    data_for,
    dense_hessian,
    double_differentiation,
    exact,
    images,
    normed_mlp,
    objective,
    relative,
    unsettled,
    vector_for,
)

FORWARD = "forward-over-reverse"
ENGINES = tuple(name for name in OPERATORS["hessian"].engines if name != "difference")  # See test_difference.py.
OTHERS = ENGINES[1:]
TRACED = ("linearize", FORWARD)
WORDS = {
    "double-backward": "double backward",
    "fused": "fused double backward",
    "linearize": "linearized gradient",
    FORWARD: "forward over reverse",
}
EXACT = on_device("float64")
ACCURACY = {"float64": 1e-10, "float32": 2e-6}
ALL = [*NETS, *TEXT_NETS]
NO_FORWARD = "torch has no forward differentiation of an LSTM on CUDA"


def made(
    problem: Objective, engine: str = FORWARD, kind: str = "hessian", **options: Any
) -> tuple[CurvatureOperator, list[str]]:
    """Return the operator, and the warnings that making it gave."""
    with progress.gathering() as messages:
        return operator_of(kind, problem, problem.parameters(), engine=engine, **options), messages


def plain(problem: Objective) -> Tensor:
    return made(problem, "double-backward")[0] @ vector_for(problem).to(problem.runtime.dtype)


def patched(monkeypatch: pytest.MonkeyPatch, product: Callable[..., Any]) -> None:
    """Put a product in place of that of forward over reverse; it is given the right one, and its objective."""
    right = forward_over_reverse._product_of
    monkeypatch.setattr(forward_over_reverse, "_product_of", lambda problem: product(right(problem), problem))


def cases() -> list[tuple[str, str, str, int | None, str]]:
    """List operator, engine, net, batch size and precision; double backward itself has its matrices in files of its own."""
    found: list[tuple[str, str, str, int | None]] = [(kind, "fused", name, 7) for kind in OPERATORS for name in ALL]
    found += [("hessian", FORWARD, name, size) for name in ALL for size in (7, None)]
    found += [("hessian", engine, name, 1) for engine in ("fused", FORWARD) for name in ("conv", "gpt")]
    found += [("hessian", "fused", name, None) for name in ALL]
    listed = [(*case, dtype) for case in found for dtype in ACCURACY]
    # It traces each chunk, for seconds; torch has no forward derivative of the LSTM that it takes in float32.
    listed += [("hessian", "linearize", name, None, "float64") for name in NETS]
    return [*listed, ("hessian", "linearize", "mlp", 60, "float32"), ("hessian", "linearize", "conv", None, "float32")]


@pytest.mark.parametrize(("kind", "engine", "name", "batch", "dtype"), thinned(cases(), 7))
def test_every_engine_gives_the_explicit_matrix(kind: str, engine: str, name: str, batch: int | None, dtype: str):
    if name == "lstm" and engine == FORWARD and DEVICE.type == "cuda":
        pytest.skip(NO_FORWARD)
    problem = objective(name, dtype=dtype, chunk_size=batch)
    operator, messages = made(problem, engine, kind)
    wanted = exact(kind, name) @ vector_for(problem)
    for _ in range(2):
        assert relative(operator @ vector_for(problem).to(operator.dtype), wanted) < ACCURACY[dtype]
    assert operator.products == 2  # What verified the engine is not counted.
    assert messages == []
    assert operator.engine_name == engine
    words = WORDS[engine] if kind == "hessian" else "fused Jacobian products by double backward"
    name, _, rest = operator.engine.partition(", verified against double backward to ")
    off, _, kept = rest.partition(", ")
    chunks = len(problem.chunk_sizes)
    assert name == words
    assert float(off) < 10 * ACCURACY[dtype]
    assert kept == ("" if engine == FORWARD else f"graphs kept for {chunks} of {chunks} chunks")
    assert len(operator._kept) == chunks * (engine != FORWARD)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "gpt"])
def test_nets_over_texts_can_be_traced(name: str):
    """For seconds, so it is done once here, and not also to verify it."""
    if name == "lstm" and DEVICE.type == "cuda":
        pytest.skip(NO_FORWARD)
    problem = objective(name)
    engine, vector = operator_kind("hessian").make("linearize", problem), vector_for(problem)
    with problem.arithmetic():
        graph = engine.differentiate(next(problem.chunks()), problem.leaves(problem.parameters()))
        for _ in range(2):
            product = graph.product(list(problem.space.split(vector).values()), keep=True)
            assert relative(problem.space.flatten(product) / problem.total_weight, exact("hessian", name) @ vector) < 1e-12


def test_nothing_is_said_of_graphs_before_there_are_any():
    problem = objective("mlp", chunk_size=50)
    for engine in ENGINES[:2]:
        operator, _ = made(problem, engine)
        assert "graphs" not in operator.engine
        operator @ vector_for(problem)
        assert operator.engine.endswith(", graphs kept for 3 of 3 chunks")
    assert made(problem, "double-backward")[0].engine == "double backward"
    assert made(problem, "auto")[0].engine == "double backward"
    assert made(problem, "auto", "ggn")[0].engine == "Jacobian products by double backward"


@pytest.mark.parametrize("bn", ["batch", "recompute"])
@pytest.mark.parametrize("engine", ["fused", FORWARD])
def test_batch_statistics_go_through_too(engine: str, bn: str):
    problem = objective("conv", bn=bn, bn_block=60)
    operator, messages = made(problem, engine)
    assert messages == []
    assert relative(operator @ vector_for(problem), plain(problem)) < 1e-12


@pytest.mark.parametrize("engine", [slow(name) if name == "linearize" else name for name in ENGINES])
def test_statistics_over_samples_alone_need_two_of_them(engine: str):
    inputs, targets = images()
    problem = Objective.of(unsettled(normed_mlp()), inputs[:7], targets[:7], runtime=EXACT, bn="batch", bn_block=3)
    assert problem.chunk_sizes == [3, 4]
    operator, messages = made(problem, engine)
    assert messages == []
    assert relative(operator @ vector_for(problem), dense_hessian(problem) @ vector_for(problem)) < 1e-12


@pytest.mark.parametrize("engine", [slow(name) if name == "linearize" else name for name in OTHERS])
def test_unused_frozen_tied_and_linear_parameters(engine: str):
    problem = Objective.of(Odd().double(), *images(), runtime=EXACT, chunk_size=60)
    operator, messages = made(problem, engine)
    assert messages == []
    assert relative(operator @ vector_for(problem), plain(problem)) < 1e-12


@pytest.mark.parametrize("engine", ["fused", FORWARD])
def test_the_padding_row_of_an_embedding_is_a_constant(engine: str):
    """Torch forgets it in forward differentiation: off by 5 % here, found, and not used."""
    problem = Objective.of(Tagger(padding=2).double(), *data_for("lstm"), runtime=EXACT, chunk_size=7)
    operator, messages = made(problem, engine)
    remark = " was off by 0.0" if DEVICE.type == "cpu" else "forward AD"  # Which torch lacks for an LSTM on CUDA.
    assert [remark in message for message in messages] in ([[]] if engine == "fused" else [[], [True]])
    product = operator @ vector_for(problem)
    assert relative(product, plain(problem)) < 1e-12
    assert float(product[8:12].abs().max()) == 0


@pytest.mark.parametrize("engine", [slow(name) if name == "linearize" else name for name in ENGINES])
def test_groups_of_samples_are_multiplied_by_double_backward(monkeypatch: pytest.MonkeyPatch, engine: str):
    """So the product that verifies the first eigenpair comes by another way than those that found it."""
    problem = objective("mlp", chunk_size=60)
    operator, _ = made(problem, engine)
    product = operator @ vector_for(problem)
    for used in ("_engine", "_kept"):
        monkeypatch.setattr(operator, used, None)
    assert relative(operator.quadratic_forms(vector_for(problem), groups=4, seed=0).product, product) < 1e-12


# The two compositions that torch gets wrong without a word.


def slope_of(problem: Objective) -> Callable[[Tensor], Tensor]:
    chunk = next(problem.chunks())
    return torch.func.grad(lambda theta: problem.loss_sum(problem.space.split(theta), chunk))


def by_linearization(problem: Objective) -> Callable[[Tensor], Tensor]:
    """Return Hv of the first chunk by torch.func.linearize, traced once, called for every v."""
    return torch.func.linearize(slope_of(problem), problem.parameters())[1]


def by_reverse_over_forward(problem: Objective) -> Callable[[Tensor], Tensor]:
    chunk = next(problem.chunks())

    def loss(theta: Tensor) -> Tensor:
        return problem.loss_sum(problem.space.split(theta), chunk)

    return lambda vector: torch.func.grad(lambda theta: torch.func.jvp(loss, (theta,), (vector,))[1])(problem.parameters())


def without_functionalize(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(torch.func, "functionalize", lambda function: function)
    return "linearize"


def in_the_other_order(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make forward over reverse reverse over forward, over whatever chunk of whatever objective it is given."""

    def product(right: Callable[..., Any], problem: Objective) -> Callable[..., Any]:
        def run(parameters: Any, directions: Any, *data: Tensor) -> Any:
            def loss(point: Any) -> Tensor:
                return problem.loss_sum(point, next(problem.chunks())._replace(inputs=data[0], targets=data[1]))

            return torch.func.grad(lambda point: torch.func.jvp(loss, (point,), (directions,))[1])(parameters)

        return run

    patched(monkeypatch, product)
    return FORWARD


class Deep(nn.Module):
    """Adds its inputs in place, more than once."""

    def __init__(self) -> None:
        super().__init__()
        inner = [Residual(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))) for _ in range(2)]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), *inner, nn.Tanh(), nn.Linear(8, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)


class Normalised(nn.Module):
    """Has an affine layer normalisation between other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(inputs.flatten(1)))))


def over_images(kind: Callable[[], nn.Module], **options: Any) -> Objective:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Objective.of(kind().double(), *images(), runtime=EXACT, **options)


# Each with what torch gets wrong, and how to make one of our engines get it wrong in the same way.
WRONG = {
    "added in place, linearized": (lambda: over_images(Deep), by_linearization, without_functionalize),
    "layer norm, reverse over forward": (lambda: over_images(Normalised), by_reverse_over_forward, in_the_other_order),
    "language model, reverse over forward": (lambda: objective("gpt"), by_reverse_over_forward, in_the_other_order),
}


@pytest.mark.parametrize("case", thinned(reversed(WRONG)))
def test_where_torch_is_silently_wrong_the_engines_are_right(case: str, monkeypatch: pytest.MonkeyPatch):
    make, composition, spoil = WRONG[case]
    problem = make()
    vector = vector_for(problem)
    wanted = dense_hessian(problem) @ vector
    for engine in ("fused", FORWARD) if "model" in case else OTHERS:
        operator, messages = made(problem, engine)
        for _ in range(2):
            assert relative(operator @ vector, wanted) < 1e-12
        assert messages == []
    assert relative(plain(problem), wanted) < 1e-12
    with double_differentiation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchs = composition(problem)
        off = max(relative(torchs(vector) / problem.total_weight, wanted) for _ in range(2))
    if off < 1e-6:
        pytest.skip(f"torch {torch.__version__} has mended this composition")
    assert off > 1e-2
    spoilt = spoil(monkeypatch)
    fallen, messages = made(problem, spoilt)
    assert len(messages) == 1
    assert messages[0].startswith(f"The engine {WORDS[spoilt]} was off by 0.")
    assert fallen.engine_name == "double-backward"
    assert torch.equal(fallen @ vector, plain(problem))


# What an engine cannot do.


class Cube(torch.autograd.Function):
    """Can be differentiated in reverse as often as wanted, but not forward."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs**3

    @staticmethod
    def backward(ctx, slope):
        return 3 * ctx.saved_tensors[0] ** 2 * slope


class Through(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(64, 8), nn.Linear(8, 4), function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.function.apply(self.first(inputs.flatten(1))))


@pytest.mark.parametrize(("engine", "compiled"), [("linearize", False), (FORWARD, False), (FORWARD, True)])
def test_an_operation_without_a_forward_derivative_falls_back(engine: str, compiled: bool):
    problem = Objective.of(Through(Cube).double(), *images(), runtime=EXACT)
    operator, messages = made(problem, engine, compiled=compiled)
    assert len(messages) == 1
    assert " failed: " in messages[0]
    assert torch.equal(operator @ vector_for(problem), plain(problem))
    fused, messages = made(problem, "fused")
    assert messages == []
    assert relative(fused @ vector_for(problem), plain(problem)) < 1e-12


@pytest.mark.parametrize("engine", [slow(name) if name == "linearize" else name for name in ENGINES])
def test_an_operation_without_a_second_derivative_is_refused_by_every_engine(engine: str):
    problem = Objective.of(Through(Once).double(), *images(), runtime=EXACT)
    with pytest.raises(InputError, match="has no second derivative"):
        made(problem, engine)


class Halting(nn.Module):
    """Stands for what the compiler cannot take: without care, all would run uncompiled and be called compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs.flatten(1))
        torch._dynamo.graph_break()
        return self.last(torch.tanh(hidden))


def test_a_net_that_cannot_be_compiled_whole_falls_back():
    problem = over_images(Halting)
    operator, messages = made(problem, compiled=True)
    assert len(messages) == 1
    assert "compiled failed: " in messages[0]
    assert torch.equal(operator @ vector_for(problem), plain(problem))


def test_a_recurrent_net_is_right_compiled_or_not():
    """Torch cannot capture one today."""
    problem = objective("lstm")
    operator, messages = made(problem, compiled=True)
    assert operator.engine.startswith("double backward" if messages else "forward over reverse, compiled, verified")
    assert relative(operator @ vector_for(problem), exact("hessian", "lstm") @ vector_for(problem)) < 1e-10


# What is compiled. The compiler's own backend takes 7 to 20 seconds a net here, so a quick one stands for it: it goes
# through the same capture and the same derivation, and runs the operations one by one.


def use_backend(monkeypatch: pytest.MonkeyPatch, backend: Callable[..., Any]) -> None:
    for module in (forward_over_reverse, linearized):
        monkeypatch.setattr(module, "BACKEND", backend)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Use the quick backend, and list the calls of each graph that it compiles."""
    calls: list[int] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        run, number = aot_eager(graph, inputs), len(calls)
        calls.append(0)

        def kernel(*arguments: Any) -> Any:
            calls[number] += 1
            return run(*arguments)

        return kernel

    use_backend(monkeypatch, backend)
    return calls


@pytest.mark.parametrize(
    ("engine", "name", "size", "dtype"),
    [
        (FORWARD, "mlp", 25, "float32"),
        slow(FORWARD, "mlp", None, "float64"),
        slow(FORWARD, "conv", 25, "float32"),
        slow(FORWARD, "attention", 25, "float64"),
        slow("linearize", "mlp", 60, "float32"),
    ],
)
def test_compiled_agrees_with_eager(graphs: list[int], engine: str, name: str, size: int | None, dtype: str):
    """Also where torch may compile one piece of code only once: it stops at eight, and a pass has more chunks."""
    with torch._dynamo.config.patch(recompile_limit=1):
        compiled_agrees_with_eager(graphs, engine, name, size, dtype)


def compiled_agrees_with_eager(graphs: list[int], engine: str, name: str, size: int | None, dtype: str) -> None:
    problem = objective(name, dtype=dtype, chunk_size=size)
    compiled, messages = made(problem, engine, compiled=True)
    eager, _ = made(problem, engine)
    vector = vector_for(problem).to(problem.runtime.dtype)
    for _ in range(2):
        assert relative(compiled @ vector, (eager @ vector).double()) < 10 * ACCURACY[dtype] / 2
        assert relative(compiled @ vector, exact("hessian", name) @ vector_for(problem)) < ACCURACY[dtype]
    assert messages == []
    words = "compiled but for the last chunk" if size and engine == FORWARD else "compiled"
    assert compiled.engine.startswith(f"{WORDS[engine]}, {words}, verified against double backward to ")
    chunks = len(problem.chunk_sizes)
    if engine == FORWARD:  # One graph, used twice by verification, then for all chunks but the ragged one.
        assert graphs == [2 + 4 * max(chunks - 1, 1)]
    else:  # One for each chunk, and one for each that verification has looked at.
        assert graphs == [2] * chunks + [4] * chunks
        assert len(compiled._kept) == chunks
        assert compiled._kept.held == eager._kept.held > 0


@pytest.mark.slow
def test_what_is_compiled_does_not_use_up_the_compilations_of_others(graphs: list[int]):
    """Torch compiles one piece of code eight times and then no more: a run has more checkpoints than that."""
    with torch._dynamo.config.patch(recompile_limit=1):
        for _ in range(2):
            operator, messages = made(objective("mlp", chunk_size=50), compiled=True)
            operator @ vector_for(operator.objective)
            assert messages == []
    assert graphs == [4] * 2


# Nothing is left changed.


def state() -> tuple[object, ...]:
    """Return what of torch and of Python everybody shares."""
    return (
        switches(),
        torch.backends.mkldnn.enabled,
        torch.get_rng_state().numpy().tobytes(),
        list(warnings.filters),
        torch._dynamo.config.get_config_copy(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
    )


@pytest.mark.parametrize(
    ("engine", "name", "compiled"),
    [
        *((engine, name, False) for engine in ("double-backward", "fused", FORWARD) for name in ("conv", "lstm")),
        *(slow("linearize", "mlp", compiled) for compiled in (False, True)),
        *((FORWARD, name, True) for name in ("mlp", "lstm")),
    ],
)
def test_nothing_is_left_changed(graphs: list[int], engine: str, name: str, compiled: bool):
    problem = objective(name, dtype="float32", chunk_size=None if engine == "linearize" else 10)
    model, before = snapshot(problem.model), state()
    operator, _ = made(problem, engine, compiled=compiled)
    operator @ vector_for(problem).float()
    assert snapshot(problem.model) == model
    assert state() == before


# Names and settings.


def test_engines_and_what_they_cannot_do():
    assert set(HessianSettings(engine="auto").matrix()) == {"bn", "bn_block", "params"}  # An engine is no other matrix.
    with pytest.raises(SettingsError, match="cannot be 'backward'"):
        HessianSettings(engine="backward")
    with pytest.raises(SettingsError, match="cannot be 'yes'"):
        HessianSettings(engine=FORWARD, compile="yes")
    for engine in ("double-backward", "fused"):
        with pytest.raises(SettingsError, match="compile") as error:
            HessianSettings(engine=engine, compile="on")
        assert FORWARD in error.value.hint
    for engine in ("auto", *TRACED):
        assert HessianSettings(engine=engine, compile="on").compile == "on"
    problem = objective("mlp")
    for engine in ("auto", "double-backward", "fused"):
        with pytest.raises(SettingsError, match="cannot be compiled"):
            made(problem, engine, compiled=True)
    with pytest.raises(SettingsError, match="no engine 'forward'") as error:
        made(problem, "forward")
    assert FORWARD in error.value.hint


@pytest.mark.parametrize("kind", [kind for kind in OPERATORS if kind != "hessian"])
def test_the_other_operators_go_by_double_backward_only(kind: str):
    problem = objective("mlp")
    for engine in TRACED:
        with pytest.raises(SettingsError, match="double backward or differences only"):
            HessianSettings(operator=kind, engine=engine)
        with pytest.raises(SettingsError, match=f"no engine '{engine}'"):
            made(problem, engine, kind)
    for engine in ("auto", "fused"):
        assert HessianSettings(operator=kind, engine=engine).engine == engine
        with pytest.raises(SettingsError, match="double backward or differences only"):
            HessianSettings(operator=kind, engine=engine, compile="on")
        with pytest.raises(SettingsError, match="cannot be compiled"):
            made(problem, engine, kind, compiled=True)
